// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import org.exeunt.DType;
import org.exeunt.Scope;
import org.exeunt.engine.TestData;
import org.exeunt.engine.layer.LayerObserver;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.text.Texts;
import org.exeunt.engine.model.text.Tokenizer;
import org.junit.jupiter.api.Test;

/** Gemma 3 270M as people have it: its words, and what it computes. */
class Gemma3ModelTest {
  /** Double precision takes minutes for as many as reach beyond the window. */
  private static final int POSITIONS = System.getenv("EXEUNT_LONG") == null ? 24 : 520;

  /** Recorded with llama.cpp (llama-cpp-python 0.3.36). */
  @Test
  void spellsTextsAsLlamaCppDoes() throws IOException {
    Map<String, int[]> texts = new LinkedHashMap<>();
    texts.put("The capital of France is", new int[] {818, 5279, 529, 7001, 563});
    texts.put("Hello  world\n\n\nfoo\tbar 12345",
        new int[] {9259, 138, 12392, 109, 26537, 255968, 2230, 236743, 236770, 236778, 236800,
            236812, 236810});
    texts.put("na\u00efve caf\u00e9 \u2014 \u201cquotes\u201d \ud83d\ude00 \u4e2d\u6587 \u00dcbung",
        new int[] {1789, 238527, 560, 33443, 2192, 999, 52231, 236919, 163543, 17346, 237364, 15356,
            51554});
    texts.put("  leading", new int[] {138, 26016});
    texts.put("<start_of_turn>user\nhi<end_of_turn>\n", new int[] {105, 2364, 107, 2202, 106, 107});
    texts.put("x=1;\n    if (x > 2) {\n\t\treturn;\n    }\n",
        new int[] {236781, 236784, 236770, 236793, 107, 140, 584, 568, 236781, 1890, 236743, 236778,
            236768, 642, 107, 255969, 2060, 236793, 107, 140, 236783, 107});
    texts.put("<table><b>bold</b>", new int[] {168, 200, 15640, 209});
    texts.put(
        "\uc548\ub155\ud558\uc138\uc694 \u041f\u0440\u0438\u0432\u0435\u0442 \u0928\u092e\u0938\u094d\u0924\u0947",
        new int[] {61659, 15745, 8362, 173040});
    texts.put("aaaaaaaaaaaaaaaaaaaaaaaaaa 1.5e-10 don't I'LL",
        new int[] {128820, 128820, 128820, 9236, 236743, 236770, 236761, 236810, 236744, 236772,
            236770, 236771, 1537, 236789, 236745, 564, 236789, 2182});
    try (GgufFile file = GgufFile.open(TestData.gemma3())) {
      Tokenizer tokenizer = new Tokenizer(file);
      texts.forEach((text, ids) -> {
        assertArrayEquals(ids, tokenizer.encode(text), text);
        assertEquals(text, tokenizer.decode(ids));
      });
      assertArrayEquals(new int[] {2, 818, 5279}, tokenizer.encodePrompt("The capital"));
    }
  }

  /** Recorded with llama.cpp, where its two best logits are never nearer than 0.12. */
  @Test
  void answersAsLlamaCppDoes() throws IOException {
    Map<String, int[]> answers = new LinkedHashMap<>();
    answers.put("def fibonacci(n):\n    ",
        new int[] {584, 538, 1251, 236743, 236771, 236787, 107, 144, 2060, 236743, 236771, 107, 140,
            36208, 538, 1251, 236743, 236770, 236787, 107, 144, 2060, 236743, 236770});
    answers.put("Water boils at",
        new int[] {236743, 236770, 236771, 236771, 10674, 57356, 236761, 108, 17390, 104264, 657,
            236743, 236770, 236771, 236771, 10674, 57356, 236761, 108, 17390, 104264, 657, 236743,
            236770});
    try (GgufFile file = GgufFile.open(TestData.gemma3());
        LlamaWeights weights = LlamaWeights.load(file, null)) {
      Tokenizer tokenizer = new Tokenizer(file);
      answers.forEach((prompt, answer) -> {
        int[] found = new int[answer.length];
        try (Decoder decoder = new Decoder(weights, DecoderOptions.FULL, 1, 64)) {
          decoder.prefill(0, tokenizer.encodePrompt(prompt));
          for (int i = 0; i < found.length; i++) {
            found[i] = decoder.argmax(0);
            decoder.step(found[i]);
          }
        }
        assertArrayEquals(answer, found, prompt);
      });
    }
  }

  /** The weights as the file has them, and as F32, which holds the same numbers. */
  @Test
  void computesWhatDoublePrecisionDoes() throws IOException {
    try (GgufFile file = GgufFile.open(TestData.gemma3());
        LlamaWeights kept = LlamaWeights.load(file, null);
        LlamaWeights wide = LlamaWeights.load(file, DType.F32)) {
      int[] essay = new Tokenizer(file).encodePrompt(Texts.story());
      int[] ids = Arrays.copyOf(essay, Math.min(essay.length, POSITIONS));
      DoubleDecoder exact = new DoubleDecoder(wide, ids);
      assertNear("F32 weights", wide, exact, 1e-3, ids);
      assertNear("the file's weights", kept, exact, 0.02, ids);
    }
  }

  private static void assertNear(
      String what, LlamaWeights weights, DoubleDecoder exact, double bound, int... ids) {
    Found found = new Found(exact);
    look(weights, ids, found);
    System.out.printf("Gemma 3, %s: argmax as in double precision in %d of %d positions, largest "
            + "error of a logit %.1e, mean nll %.4f%n",
        what, found.same, ids.length, found.worst, exact.nll() / (ids.length - 1));
    assertEquals(ids.length, found.seen);
    assertTrue(found.worst < bound, "largest error of a logit: " + found.worst);
    assertTrue(
        found.widest < 2 * found.worst, "an argmax differs where the margin is " + found.widest);
  }

  /** How far the decoder is from double precision. */
  private static final class Found {
    private final DoubleDecoder exact;
    int seen;
    int same;
    double worst;
    double widest; // margin of a position where the two differ

    Found(DoubleDecoder exact) {
      this.exact = exact;
    }

    void look(int position, double[] expected, float... logits) {
      int argmax = 0;
      for (int v = 0; v < logits.length; v++) {
        double error = Math.abs(expected[v] - logits[v]);
        worst = Math.max(worst, error);
        argmax = logits[v] > logits[argmax] ? v : argmax;
      }
      seen++;
      if (argmax == exact.argmax()[position]) {
        same++;
      } else {
        widest = Math.max(widest, exact.margin()[position]);
      }
    }
  }

  /** Looks at the logits of every position. */
  private static void look(LlamaWeights weights, int[] ids, Found found) {
    LayerObserver look = (depth, rows) -> {
      for (int from = 0; depth == weights.config().layers() && from < rows.count(); from += 32) {
        try (Scope scope = Scope.open()) {
          int to = Math.min(rows.count(), from + 32);
          Head head = new Head(scope, weights, rows.hidden().rows(from, to), true);
          head.run();
          int first = rows.positionOf(from);
          double[][] expected = found.exact.logits(first, first + to - from);
          for (int row = from; row < to; row++) {
            found.look(rows.positionOf(row), expected[row - from],
                head.logits().row(row - from).toFloatArray());
          }
        }
      }
    };
    try (Decoder decoder =
             new Decoder(weights, DecoderOptions.FULL.withObserver(look), 1, ids.length)) {
      decoder.prefill(0, ids);
    }
  }
}
