// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.score;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Random;
import java.util.stream.IntStream;
import org.exeunt.engine.decode.DoubleDecoder;
import org.exeunt.engine.decode.LogProbs;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.TinyModel;
import org.exeunt.engine.model.gguf.GgufFile;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ScorerTest {
  @TempDir static Path folder;
  private static GgufFile file;
  private static LlamaWeights weights;

  @BeforeAll
  static void load() throws IOException {
    file = GgufFile.open(TinyModel.write(folder.resolve("tiny.gguf")));
    weights = LlamaWeights.load(file, null);
  }

  @AfterAll
  static void close() throws IOException {
    weights.close();
    file.close();
  }

  private static int[] tokens(long seed, int count) {
    return new Random(seed).ints(count, 0, weights.config().vocabulary()).toArray();
  }

  /** In double precision: ln p of every token but the first. */
  private static double[] exact(int... ids) {
    double[][] logits = new DoubleDecoder(weights, ids).logits(0, ids.length - 1);
    double[] values = new double[logits.length];
    for (int t = 0; t < values.length; t++) {
      double top = Arrays.stream(logits[t]).max().orElseThrow();
      double sum = Arrays.stream(logits[t]).map(z -> Math.exp(z - top)).sum();
      values[t] = logits[t][ids[t + 1]] - top - Math.log(sum);
    }
    return values;
  }

  private static void assertExact(double[] expected, LogProbs found) {
    assertEquals(expected.length, found.values().length);
    for (int t = 0; t < expected.length; t++) {
      assertEquals(expected[t], found.values()[t], 1e-5 * Math.max(1, Math.abs(expected[t])));
    }
  }

  @Test
  void textIsAsInDoublePrecision() {
    for (int length : new int[] {2, 3, 64, 65, 90}) {
      int[] ids = tokens(length, length);
      try (Scorer scorer = Scorer.ofTexts(weights, TinyModel.CONTEXT)) {
        LogProbs found = scorer.text(ids);
        assertExact(exact(ids), found);
        assertArrayEquals(
            Arrays.copyOf(new DoubleDecoder(weights, ids).argmax(), length - 1), found.argmax());
        assertEquals(Math.exp(-Arrays.stream(exact(ids)).average().orElseThrow()),
            found.perplexity(), 1e-4 * found.perplexity());
        assertArrayEquals(found.values(), scorer.text(ids).values(), "scored twice");
      }
    }
  }

  /** Every token once; those of the last window see as many as there is room for. */
  @Test
  void longTextGoesInWindows() {
    int capacity = 20;
    int[] ids = tokens(7, 2 * capacity + 6);
    try (Scorer scorer = Scorer.ofTexts(weights, capacity)) {
      LogProbs found = scorer.text(ids);
      assertExact(exact(Arrays.copyOf(ids, capacity + 1)), found.range(0, capacity));
      assertExact(exact(Arrays.copyOfRange(ids, capacity, 2 * capacity + 1)),
          found.range(capacity, 2 * capacity));
      int start = ids.length - capacity - 1;
      double[] last = exact(Arrays.copyOfRange(ids, start, ids.length));
      assertExact(Arrays.copyOfRange(last, capacity - 5, capacity),
          found.range(2 * capacity, ids.length - 1));
    }
  }

  /** More of them than are scored side by side, of many lengths, and questions one after another. */
  @Test
  void continuationsAreAsTheEndsOfTexts() {
    try (Scorer choices = Scorer.ofChoices(weights, TinyModel.CONTEXT);
        Scorer texts = Scorer.ofTexts(weights, TinyModel.CONTEXT)) {
      for (int length : new int[] {30, 1, 2, 70}) {
        int[] context = tokens(length, length);
        int[][] continuations =
            IntStream.of(3, 1, 20, 7, 1, 2).mapToObj(n -> tokens(n, n)).toArray(int[][] ::new);
        LogProbs[] found = choices.continuations(context, continuations);
        assertEquals(continuations.length, found.length);
        for (int i = 0; i < found.length; i++) {
          int[] text =
              IntStream.concat(IntStream.of(context), IntStream.of(continuations[i])).toArray();
          LogProbs whole = texts.text(text);
          LogProbs end = whole.range(context.length - 1, text.length - 1);
          assertArrayEquals(end.values(), found[i].values(), length + " tokens, choice " + i);
          assertArrayEquals(end.argmax(), found[i].argmax());
        }
      }
    }
  }

  @Test
  void whatCannotBeScoredIsRefused() {
    try (Scorer choices = Scorer.ofChoices(weights, 8); Scorer texts = Scorer.ofTexts(weights, 8)) {
      assertTrue(assertThrows(IllegalArgumentException.class, () -> texts.text(3))
              .getMessage()
              .contains("of 1 tokens"));
      assertThrows(IllegalArgumentException.class, () -> choices.continuations(new int[0]));
      assertThrows(IllegalArgumentException.class,
          () -> choices.continuations(new int[] {1}, new int[] {2}, new int[0]));
      assertTrue(assertThrows(
          IllegalArgumentException.class, () -> choices.continuations(new int[6], new int[4]))
              .getMessage()
              .contains("6 tokens and a continuation of 4"));
      assertEquals(3, choices.continuations(new int[6], new int[3])[0].values().length);
      assertThrows(IllegalArgumentException.class, () -> texts.text(1, 1000));
    }
  }
}
