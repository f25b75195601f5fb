// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.exeunt.DType;
import org.exeunt.Scope;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.TinyModel;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.io.ModelFormatException;
import org.exeunt.engine.model.text.Tokenizer;
import org.exeunt.engine.speculate.draft.AcceptanceGate;
import org.exeunt.engine.speculate.draft.AcceptanceRecorder;
import org.exeunt.engine.speculate.draft.DraftPolicy;
import org.exeunt.engine.speculate.draft.SpecDecRule;
import org.exeunt.engine.train.AcceptanceFit.Head;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;

/** SpecDec++'s acceptance head: who makes it, what it says, and what is drafted by it. */
class AcceptanceHeadTest {
  private static final int CAPACITY = TinyModel.CONTEXT;
  private static final int[] PROMPT = {1, 2, 3, 4, 5, 1, 2};

  @TempDir static Path folder;
  private static GgufFile file;
  private static LlamaWeights weights;
  private static Tokenizer tokenizer;
  private static int width;

  @BeforeAll
  static void load() throws IOException {
    file = GgufFile.open(TinyModel.write(folder.resolve("tiny.gguf")));
    weights = LlamaWeights.load(file, DType.F32);
    tokenizer = new Tokenizer(file);
    width = weights.config().width();
  }

  @AfterAll
  static void close() throws IOException {
    weights.close();
    file.close();
  }

  private static Head random(int dim, int repeats) {
    Random random = new Random(dim + repeats);
    float[][] parts = {new float[dim * dim], new float[dim], new float[2 * dim], new float[2]};
    for (float[] part : parts) {
      for (int i = 0; i < part.length; i++) {
        part[i] = (float) (.3 * random.nextGaussian());
      }
    }
    return new Head(repeats, parts[0], parts[1], parts[2], parts[3]);
  }

  /** A head that gives every token the same. */
  private static Head constant(float logit) {
    return new Head(0, new float[width * width], new float[width], new float[2 * width],
        new float[] {0, logit});
  }

  private static SpeculativeDecoder decoder(Speculation how) {
    SpeculativeDecoder decoder = new SpeculativeDecoder(
        new Decoder(weights, DecoderOptions.FULL, 1, CAPACITY), how, weights, token -> false);
    decoder.prefill(0, PROMPT);
    return decoder;
  }

  private static Speculation parse(String source, String rule) {
    return Speculation.parse(source, 0, rule, TinyModel.LAYERS);
  }

  @Test
  void theRuleByHand() {
    float[] scores = {0, .95f, .90f, .85f, .80f}; // the first is not looked at
    try (Scope scope = Scope.open()) {
      DraftPolicy rule = new SpecDecRule(scope, .3f, 20);
      for (int draft = 0; draft < 2; draft++) {
        assertEquals(20, rule.most(0));
        for (int t = 0; t < scores.length; t++) {
          assertEquals(t < 4, rule.goesOn(scores[t]), "token " + (t + 1));
        }
      }
      rule = new SpecDecRule(scope, .3f, 1);
      assertEquals(1, rule.most(0));
    }
  }

  /** Beside the formula in double precision. */
  @Test
  void theGateSeesNormedStates() {
    Head head = random(width, 2);
    try (Decoder decoder = new Decoder(weights, DecoderOptions.FULL, 1, CAPACITY);
        AcceptanceGate gate = new AcceptanceGate(decoder, head)) {
      decoder.prefill(0, 7, 8);
      decoder.beginPass();
      for (int i = 0; i < 3; i++) {
        decoder.addRow(0, PROMPT[i], i);
      }
      decoder.embedRows();
      decoder.runRows(0, 2);
      gate.read(decoder, null);
      float[] hidden = decoder.rows().hidden().toFloatArray();
      float[] norm = weights.outputNorm().toFloatArray();
      for (int row = 0; row < 3; row++) {
        double square = 0;
        for (int i = 0; i < width; i++) {
          square += (double) hidden[row * width + i] * hidden[row * width + i];
        }
        double[] x = new double[width];
        for (int i = 0; i < width; i++) {
          x[i] = hidden[row * width + i] * norm[i]
              / Math.sqrt(square / width + weights.config().epsilon());
        }
        for (int repeat = 0; repeat < 2; repeat++) {
          double[] y = x.clone();
          for (int i = 0; i < width; i++) {
            double z = head.hiddenBias()[i];
            for (int j = 0; j < width; j++) {
              z += head.hiddenWeight()[i * width + j] * x[j];
            }
            y[i] += z / (1 + Math.exp(-z));
          }
          x = y;
        }
        double logit = head.outBias()[1] - head.outBias()[0];
        for (int i = 0; i < width; i++) {
          logit += (head.outWeight()[width + i] - head.outWeight()[i]) * x[i];
        }
        assertEquals(1 / (1 + Math.exp(-logit)), gate.of(row), 1e-4, "row " + row);
      }
    }
  }

  @Test
  void draftsAreAsLongAsTheHeadSays() {
    for (String source : List.of("selfdraft:2", "model:other")) {
      // 1 - 0.9^(t - 1) exceeds 0.3 from t = 5 on.
      float[] logits = {-20, (float) Math.log(9), 20};
      int[] lengths = {2, 5, 20};
      for (int i = 0; i < 3; i++) {
        Speculation how = parse(source, "specdec:none").withAcceptance(constant(logits[i]));
        try (SpeculativeDecoder decoder = decoder(how)) {
          decoder.round();
          assertEquals(lengths[i], decoder.drafted(), source);
          decoder.round();
          assertEquals(2 * lengths[i], decoder.drafted(), source);
        }
      }
    }
  }

  @Test
  void oneIsMadeKeptAndReadAgain() throws IOException {
    List<Integer> expected = new ArrayList<>();
    try (Decoder decoder = new Decoder(weights, DecoderOptions.FULL, 1, CAPACITY)) {
      decoder.prefill(0, PROMPT);
      for (int i = 0; i < 50; i++) {
        expected.add(decoder.argmax(0));
        decoder.step(decoder.argmax(0));
      }
    }
    Path path = folder.resolve("made").resolve("head.safetensors");
    for (int time = 0; time < 2; time++) {
      ByteArrayOutputStream log = new ByteArrayOutputStream();
      Speculation how = DraftFiles.ready(parse("selfdraft:3", "specdec:" + path + ",0.6"), weights,
          null, tokenizer, "abcdefgabcdefghijklmnop".repeat(4),
          new PrintStream(log, true, StandardCharsets.UTF_8));
      assertEquals(time == 0, log.size() > 0);
      List<Integer> found = new ArrayList<>();
      try (SpeculativeDecoder decoder = decoder(how)) {
        while (found.size() < 50) {
          for (int token : decoder.tokens(0)) {
            found.add(token);
          }
          decoder.round();
        }
      }
      assertEquals(expected, found.subList(0, 50));
    }
    Head made = AcceptanceHead.read(path, width);
    assertEquals(3, made.repeats());
    assertTrue(made.outBias()[1] != 0, "it has learnt");
    Head some = random(5, 4);
    Path other = folder.resolve("other.safetensors");
    AcceptanceHead.write(other, some);
    Head read = AcceptanceHead.read(other, 5);
    assertEquals(4, read.repeats());
    assertArrayEquals(some.hiddenWeight(), read.hiddenWeight());
    assertArrayEquals(some.hiddenBias(), read.hiddenBias());
    assertArrayEquals(some.outWeight(), read.outWeight());
    assertArrayEquals(some.outBias(), read.outBias());
  }

  /** Those up to the first wrong one, and not the last, which no row took in. */
  @Test
  void tokensAreLabelledByWhatBecameOfThem() {
    int[][] drafts = {{6, 2, 2, 1}, {6, 6, 5, 0}, {6, 5, 5, 0}, {6, 0, 0, 1}, {1, 1, 0, 0}};
    for (int[] draft : drafts) { // drafted, accepted, right and wrong ones that are told
      try (AcceptanceRecorder recorder = new AcceptanceRecorder(width);
          Decoder decoder = new Decoder(weights, DecoderOptions.FULL, 1, CAPACITY)) {
        assertEquals(6, recorder.most(0));
        decoder.prefill(0, PROMPT);
        for (int i = 0; i < draft[0]; i++) {
          decoder.beginPass();
          decoder.addRow(0, i, 0);
          decoder.embedRows();
          recorder.read(decoder, null);
          assertTrue(Float.isNaN(recorder.of(0)));
        }
        recorder.learn(0, draft[0], draft[1]);
        assertEquals(draft[2] + draft[3], recorder.fit().samples());
        if (recorder.fit().samples() > 0) {
          Head even = new Head(3, new float[width * width], new float[width], new float[2 * width],
              new float[] {0, 1});
          double right = draft[2] * Math.log1p(Math.exp(-1));
          double wrong = 6 * draft[3] * Math.log1p(Math.exp(1));
          assertEquals((right + wrong) / (draft[2] + 6 * draft[3]),
              recorder.fit().loss(even, 6, null), 1e-12);
        }
      }
    }
  }

  private static void assertRefused(
      Class<? extends Exception> type, String expected, Executable call) {
    String message = assertThrows(type, call).getMessage();
    assertTrue(message.contains(expected), message);
    assertEquals(1, message.lines().count());
  }

  @Test
  void whatIsNoHeadIsRefused() throws IOException {
    Path path = folder.resolve("wrong.safetensors");
    AcceptanceHead.write(path, random(5, 1));
    assertRefused(ModelFormatException.class,
        "tensor 'hidden.weight' has shape [5, 5], but what drafts here needs "
            + "[" + width + ", " + width + "]",
        ()
            -> DraftFiles.ready(
                parse("selfdraft:3", "specdec:" + path), weights, null, tokenizer, "a", null));
    Head broken = random(5, 1);
    broken.outWeight()[3] = Float.NaN;
    AcceptanceHead.write(path, broken);
    assertRefused(ModelFormatException.class, "tensor 'out.weight' has NaN at element 3",
        () -> AcceptanceHead.read(path, 5));
    AcceptanceHead.write(path, random(5, 1));
    byte[] bytes = Files.readAllBytes(path);
    bytes[bytes.length - 4] = 65;
    Files.write(path, bytes);
    assertRefused(ModelFormatException.class, "repeats is 65", () -> AcceptanceHead.read(path, 5));
    Files.write(path, new byte[] {1, 2, 3});
    assertRefused(ModelFormatException.class, "has 3 bytes", () -> AcceptanceHead.read(path, 5));
    assertRefused(
        IOException.class, "", () -> AcceptanceHead.read(folder, 5)); // a folder is no file
    assertNull(DraftFiles.ready(null, weights, null, tokenizer, "a", null));
    Speculation none = parse("selfdraft:3", null);
    assertSame(none, DraftFiles.ready(none, weights, null, tokenizer, "a", null));
  }
}
