// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.TranslatorFit.Translator;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.layer.LayerObserver;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.TinyModel;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.io.ModelFormatException;
import org.exeunt.engine.model.io.SafetensorsWriter;
import org.exeunt.engine.model.text.Tokenizer;
import org.exeunt.engine.speculate.draft.DraftHeads;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;

/** Translators before the head of a model's first layers. */
class TranslatorsTest {
  private static final int LAYERS = TinyModel.LAYERS;
  private static final int CAPACITY = TinyModel.CONTEXT;
  private static final String TEXT = "abcdefgabcdefghijklmnop".repeat(4);

  @TempDir static Path folder;
  private static GgufFile file;
  private static LlamaWeights weights;
  private static Tokenizer tokenizer;

  @BeforeAll
  static void load() throws IOException {
    file = GgufFile.open(TinyModel.write(folder.resolve("tiny.gguf")));
    weights = LlamaWeights.load(file, DType.F32);
    tokenizer = new Tokenizer(file);
  }

  @AfterAll
  static void close() throws IOException {
    weights.close();
    file.close();
  }

  private static Speculation ready(String source, String rule, Path path, PrintStream log)
      throws IOException {
    Speculation how = Speculation.parse(source, 0, rule, LAYERS).withTranslators(path);
    return DraftFiles.ready(how, weights, null, tokenizer, TEXT, log);
  }

  private static List<Integer> answer(Speculation how) {
    List<Integer> found = new ArrayList<>();
    try (SpeculativeDecoder decoder = new SpeculativeDecoder(
             new Decoder(weights, DecoderOptions.FULL, 1, CAPACITY), how, null, token -> false)) {
      decoder.prefill(0, 1, 2, 3, 4, 5, 1, 2);
      while (found.size() < 60) {
        for (int token : decoder.tokens(0)) {
          found.add(token);
        }
        if (found.size() < 60) {
          decoder.round();
        }
      }
      return found.subList(0, 60);
    }
  }

  @Test
  void tokensStay() throws IOException {
    List<Integer> expected = new ArrayList<>();
    try (Decoder decoder = new Decoder(weights, DecoderOptions.FULL, 1, CAPACITY)) {
      decoder.prefill(0, 1, 2, 3, 4, 5, 1, 2);
      for (int i = 0; i < 60; i++) {
        expected.add(decoder.argmax(0));
        decoder.step(decoder.argmax(0));
      }
    }
    Path path = folder.resolve("translators.safetensors");
    for (String source : List.of("selfdraft:1", "selfdraft:3", "del:2,1", "del-paper:1,2")) {
      String rule = source.startsWith("del") ? null : "fixed:3";
      assertEquals(expected, answer(ready(source, rule, path, null)), source);
    }
    String specDec = "specdec:" + folder.resolve("head.safetensors");
    assertEquals(expected, answer(ready("selfdraft:3", specDec, path, null)));
  }

  /** On the text that they were fitted to, beside what the identity leaves. */
  @Test
  void statesComeNearerToTheLastOnes() throws IOException {
    int width = weights.config().width();
    Map<Integer, Translator> translators = Translators.readOrMake(
        folder.resolve("near.safetensors"), weights, tokenizer, TEXT, null, 1, 3);
    float[][] states = new float[LAYERS + 1][];
    LayerObserver keep = (depth, rows) -> states[depth] = rows.hidden().toFloatArray();
    int[] text = tokenizer.encodePrompt(TEXT);
    double[][] errors = new double[LAYERS][2];
    try (Decoder decoder =
             new Decoder(weights, DecoderOptions.FULL.withObserver(keep), 1, CAPACITY)) {
      for (int piece = 0; piece < 8; piece++) {
        int[] ids =
            Arrays.copyOfRange(text, text.length * piece / 8, text.length * (piece + 1) / 8);
        decoder.restart(0);
        decoder.prefill(0, ids);
        for (int depth : new int[] {1, 3}) {
          for (int row = 0; row < ids.length; row++) {
            double[] from = unit(states[depth], row, width);
            double[] to = unit(states[LAYERS], row, width);
            for (int i = 0; i < width; i++) {
              double y = translators.get(depth).bias()[i];
              for (int j = 0; j < width; j++) {
                y += translators.get(depth).weight()[i * width + j] * from[j];
              }
              errors[depth][0] += (to[i] - from[i]) * (to[i] - from[i]);
              errors[depth][1] += (to[i] - y) * (to[i] - y);
            }
          }
        }
      }
    }
    for (int depth : new int[] {1, 3}) {
      assertTrue(errors[depth][1] < .7 * errors[depth][0],
          depth + " layers: " + Arrays.toString(errors[depth]));
    }
  }

  private static double[] unit(float[] rows, int row, int width) {
    double square = 0;
    for (int i = 0; i < width; i++) {
      square += (double) rows[row * width + i] * rows[row * width + i];
    }
    double[] result = new double[width];
    for (int i = 0; i < width; i++) {
      result[i] = rows[row * width + i] / Math.sqrt(square / width);
    }
    return result;
  }

  @Test
  void whatIsMissingIsAdded() throws IOException {
    int width = weights.config().width();
    Path path = folder.resolve("some").resolve("some.safetensors");
    Map<Integer, Translator> before = null;
    for (String source : List.of("selfdraft:3", "selfdraft:3", "del:1,1", "selfdraft:4")) {
      ByteArrayOutputStream log = new ByteArrayOutputStream();
      ready(source, null, path, new PrintStream(log, true, StandardCharsets.UTF_8));
      String told = log.toString(StandardCharsets.UTF_8);
      Map<Integer, Translator> now = Translators.read(path, width);
      if (before == null) {
        assertTrue(told.contains("after [3] layers"), told);
        assertEquals(List.of(3), List.copyOf(now.keySet()));
      } else if (source.startsWith("del")) {
        assertTrue(told.contains("after [1, 2, 4] layers"), told);
        assertEquals(List.of(1, 2, 3, 4), List.copyOf(now.keySet()));
      } else {
        assertEquals("", told);
      }
      if (before != null) {
        assertArrayEquals(before.get(3).weight(), now.get(3).weight());
        assertArrayEquals(before.get(3).bias(), now.get(3).bias());
      }
      before = now;
    }
    assertRefused(ModelFormatException.class,
        "has shape [32, 32], but what drafts here needs [8, 8]", () -> Translators.read(path, 8));
    Path head = folder.resolve("no-translators.safetensors");
    new SafetensorsWriter().add("a", new float[1], 1).write(head);
    assertRefused(ModelFormatException.class, "has no tensor 'depth.N.weight'",
        () -> ready("selfdraft:3", null, head, null));
    assertRefused(IllegalArgumentException.class, "only selfdraft and del draft with",
        () -> ready("lookup", null, path, null));
  }

  /** Rows of each place by its own translator, those after the last place not at all. */
  @Test
  void placesAreTranslatedEachByItsOwn() {
    int width = weights.config().width();
    float[] same = new float[width * width];
    float[] turned = new float[width * width];
    float[] bias = new float[width];
    for (int i = 0; i < width; i++) {
      same[i * width + i] = 1;
      turned[i * width + (i + 1) % width] = -2;
      bias[i] = i;
    }
    try (Scope scope = Scope.open();
        Decoder decoder = new Decoder(weights, DecoderOptions.FULL, 1, CAPACITY)) {
      DraftHeads heads = new DraftHeads(scope, decoder,
          Map.of(1, new Translator(same, new float[width]), 3, new Translator(turned, bias)), 0, 1,
          3);
      Tensor states = scope.allocate(Device.CPU, DType.F32, 4, width);
      float[] values = new float[4 * width];
      for (int i = 0; i < values.length; i++) {
        values[i] = i % 2 == 0 ? 4 : -4; // of root mean square 4
      }
      states.copyFrom(values);
      heads.translate(states, 0, 1, 3);
      float[] found = states.toFloatArray();
      for (int i = 0; i < width; i++) {
        float sign = i % 2 == 0 ? 1 : -1;
        assertEquals(sign, found[i], 1e-5, "first place");
        assertEquals(2 * sign + i, found[width + i], 1e-4, "second place");
        assertEquals(2 * sign + i, found[2 * width + i], 1e-4, "second place");
        assertEquals(4 * sign, found[3 * width + i], "no place");
      }
    }
  }

  private static void assertRefused(
      Class<? extends Exception> type, String expected, Executable call) {
    String message = assertThrows(type, call).getMessage();
    assertTrue(message.contains(expected), message);
    assertEquals(1, message.lines().count());
  }
}
