// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.djl.huggingface.tokenizers.HuggingFaceTokenizer;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A model that nobody changed, and the same in bf16, with and without the provider. */
class MiniLmTest {
  private static final OrtEnvironment ENVIRONMENT = MiniLm.environment();
  private static byte[] model;
  private static HuggingFaceTokenizer tokenizer;
  private static OrtSession alone;
  private static final List<long[][][]> INPUTS = new ArrayList<>();
  private static final List<float[][]> EXPECTED = new ArrayList<>();

  @TempDir Path folder;

  @BeforeAll
  static void load() throws Exception {
    model = MiniLm.model();
    tokenizer = MiniLm.tokenizer();
    alone = ENVIRONMENT.createSession(model, options());
    List<String> sentences = MiniLm.sentences(Boolean.getBoolean("exeunt.quick") ? 24 : 200, 1);
    for (int from = 0, step = 1; from < sentences.size(); from += step, step = step % 16 + 1) {
      List<String> batch = sentences.subList(from, Math.min(sentences.size(), from + step));
      INPUTS.add(MiniLm.encode(tokenizer, batch));
      EXPECTED.add(MiniLm.embed(alone, INPUTS.get(INPUTS.size() - 1)));
    }
  }

  @AfterAll
  static void close() throws Exception {
    alone.close();
    tokenizer.close();
  }

  private static OrtSession.SessionOptions options() throws OrtException {
    OrtSession.SessionOptions options = new OrtSession.SessionOptions();
    options.setIntraOpNumThreads(2);
    options.addConfigEntry("session.intra_op.allow_spinning", "0"); // few cores, many sessions
    return options;
  }

  private static OrtSession with(byte[] bytes, ExeuntProvider provider) throws OrtException {
    try (OrtSession.SessionOptions options = options()) {
      provider.add(options);
      return ENVIRONMENT.createSession(bytes, options);
    }
  }

  /** The smallest cosine to what ONNX Runtime alone makes of the sentences, in batches up to 16. */
  private static double worst(OrtSession session) throws OrtException {
    double worst = 1;
    for (int b = 0; b < INPUTS.size(); b++) {
      float[][] actual = MiniLm.embed(session, INPUTS.get(b));
      for (int i = 0; i < actual.length; i++) {
        worst = Math.min(worst, MiniLm.cosine(EXPECTED.get(b)[i], actual[i]));
      }
    }
    return worst;
  }

  @Test
  void f32() throws Exception {
    Path report = folder.resolve("report.txt");
    try (OrtSession session = with(model, ExeuntProvider.configure().report(report))) {
      double worst = worst(session);
      System.out.printf("MiniLM, f32: smallest cosine %.7f%n", worst);
      assertTrue(worst >= 0.9999, "cosine " + worst);
    }
    List<String> lines = Files.readAllLines(report);
    assertEquals(18, lines.stream().filter(line -> line.startsWith("claimed MatMul")).count());
    assertEquals(12,
        lines.stream().filter(line -> line.endsWith("its right operand is no constant")).count());
  }

  @Test
  void theProfileNamesTheProvider() throws Exception {
    try (OrtSession.SessionOptions options = options()) {
      options.enableProfiling(folder.resolve("profile").toString());
      ExeuntProvider.addTo(options);
      try (OrtSession session = ENVIRONMENT.createSession(model, options)) {
        MiniLm.embed(session, MiniLm.encode(tokenizer, MiniLm.sentences(1, 2)));
        String profile = Files.readString(Path.of(session.endProfiling()));
        Matcher runs = Pattern.compile("\"provider\"\\s*:\\s*\"" + ExeuntProvider.NAME + "\"")
                           .matcher(profile);
        // The keys, queries and values of a layer do not pay; its three other products are one node
        // each, with the norms after them; the norm of the embeddings stands alone.
        assertEquals(6 * 3 + 1, runs.results().count());
      }
    }
  }

  @Test
  void bf16() throws Exception {
    byte[] narrow = MiniLm.inBf16(model);
    assertTrue(narrow.length < 0.51 * model.length, narrow.length + " bytes");
    OrtException refusal =
        assertThrows(OrtException.class, () -> ENVIRONMENT.createSession(narrow, options()));
    assertTrue(refusal.getMessage().contains("MatMul"), refusal.getMessage());
    try (OrtSession session = with(narrow, ExeuntProvider.configure())) {
      double worst = worst(session);
      System.out.printf("MiniLM, bf16: smallest cosine %.7f, ONNX Runtime alone: %s%n", worst,
          refusal.getMessage());
      assertTrue(worst >= 0.9999, "cosine " + worst);
    }
  }

  @Test
  void allInBf16() throws Exception {
    byte[] narrow = MiniLm.allInBf16(model);
    OrtException refusal =
        assertThrows(OrtException.class, () -> ENVIRONMENT.createSession(narrow, options()));
    assertTrue(
        refusal.getMessage().contains("Could not find an implementation"), refusal.getMessage());
    Path report = folder.resolve("report.txt");
    try (OrtSession session = with(narrow, ExeuntProvider.configure().report(report))) {
      double worst = worst(session);
      System.out.printf("MiniLM, all in bf16: smallest cosine %.7f%n", worst);
      assertTrue(worst >= 0.9995, "cosine " + worst);
    }
    assertTrue(Files.readString(report).contains("nodes of bf16, to be computed in f32: "));
  }
}
