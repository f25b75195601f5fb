// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Prompts.list;
import static org.exeunt.tests.Prompts.tensor;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Random;
import java.util.function.IntToDoubleFunction;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.FastV;
import org.exeunt.GemFilter;
import org.exeunt.H2o;
import org.exeunt.Hired;
import org.exeunt.HiredBudget;
import org.exeunt.KvCache;
import org.exeunt.PromptDistill;
import org.exeunt.PromptLayer;
import org.exeunt.PyramidDrop;
import org.exeunt.Scope;
import org.exeunt.Selection;
import org.exeunt.SnapKv;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.junit.jupiter.api.Test;

/**
 * The settings of the methods' authors, written out once more, and what {@code standard()} chooses
 * with them: the lists are those of the formulas in double.
 */
class DropDefaultsTest {
  private static final int HEADS = 2;
  private static final int WIDTH = 4;

  private static final int SIDE = 12;
  private static final int PATCHES = SIDE * SIDE;
  private static final int PARTITIONS = 5; // the full image, and 2 x 2

  /** Two query heads share a key head. */
  private record Prompt(int tokens, float[] query, float[] keys) {
    static Prompt random(int tokens, int seed) {
      return new Prompt(
          tokens, gaussian(tokens * HEADS * WIDTH, seed), gaussian(tokens * WIDTH, seed + 1));
    }

    PromptLayer layer(Scope scope) {
      return new PromptLayer(tensor(scope, query, tokens, HEADS, WIDTH),
          Prompts.keys(scope, keys, 1, tokens, WIDTH), 0, tokens);
    }

    /** q.k / sqrt(dh). */
    double logit(int row, int head, int column) {
      double product = 0;
      for (int i = 0; i < WIDTH; i++) {
        product += (double) query[(row * HEADS + head) * WIDTH + i] * keys[column * WIDTH + i];
      }
      return product / Math.sqrt(WIDTH);
    }

    /** The softmax of a row over itself and the tokens before it. */
    double[] attention(int row, int head) {
      return softmax(j -> j <= row ? logit(row, head, j) : Double.NEGATIVE_INFINITY, tokens);
    }

    /** What the rows from {@code first} on pay to each token. */
    double[] paid(int first, int head) {
      double[] sums = new double[tokens];
      for (int row = first; row < tokens; row++) {
        double[] p = attention(row, head);
        Arrays.setAll(sums, j -> sums[j] + p[j]);
      }
      return sums;
    }

    /** Over all heads. */
    double mean(int column) {
      return IntStream.range(0, HEADS)
          .mapToDouble(h -> logit(tokens - 1, h, column))
          .average()
          .orElseThrow();
    }
  }

  private static float[] gaussian(int count, int seed) {
    Random random = new Random(seed);
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }

  private static double[] softmax(IntToDoubleFunction logit, int count) {
    double[] p =
        IntStream.range(0, count).mapToDouble(j -> Math.exp(logit.applyAsDouble(j))).toArray();
    double sum = Arrays.stream(p).sum();
    return Arrays.stream(p).map(value -> value / sum).toArray();
  }

  private static double[] scores(int count, IntToDoubleFunction score) {
    return IntStream.range(0, count).mapToDouble(score).toArray();
  }

  /** The average over five neighbours, zero outside. */
  private static double[] pooled(double... scores) {
    return scores(scores.length,
        j
        -> IntStream.rangeClosed(j - 2, j + 2)
                .filter(i -> i >= 0 && i < scores.length)
                .mapToDouble(i -> scores[i])
                .sum()
            / 5);
  }

  /** The k best, ascending; the cut must be clearer than what f32 can blur. */
  private static int[] best(double[] scores, int k) {
    int[] order =
        IntStream.range(0, scores.length)
            .boxed()
            .sorted(Comparator.comparingDouble(j -> - scores[j]))
            .mapToInt(j -> j)
            .toArray();
    if (k > 0 && k < order.length) {
      double largest = Arrays.stream(scores).map(Math::abs).max().orElseThrow();
      assertTrue(scores[order[k - 1]] - scores[order[k]] > 1e-5 * largest, "the cut is not clear");
    }
    return Arrays.stream(order, 0, k).sorted().toArray();
  }

  private static int[] and(int[] list, int from, int to) {
    return IntStream.concat(IntStream.of(list), IntStream.range(from, to)).sorted().toArray();
  }

  // ---- methods of a prompt

  @Test
  void promptDistill() {
    PromptDistill method = PromptDistill.standard();
    assertEquals(List.of(new PromptDistill.Stage(13, 1024)), method.stages());
    assertTrue(method.truncates(0));
    assertFalse(method.truncates(1));
    assertEquals(0, method.stageBehind(13, 32));
    Prompt prompt = Prompt.random(1200, 1);
    int last = prompt.tokens - 1;
    double[] scores = pooled(scores(prompt.tokens, j -> j < last ? prompt.mean(j) : 0));
    try (Scope scope = Scope.open()) {
      assertArrayEquals(and(best(Arrays.copyOf(scores, last), 1024), last, last + 1),
          list(method.choose(scope, Stream.DEFAULT, 0, prompt.layer(scope)), 0));
    }
  }

  @Test
  void gemFilter() {
    GemFilter method = GemFilter.standard();
    assertEquals(13, method.layer());
    assertEquals(19, GemFilter.LAYER_MISTRAL_PHI);
    Prompt prompt = Prompt.random(1200, 3);
    double[] scores = pooled(scores(prompt.tokens, prompt::mean));
    try (Scope scope = Scope.open()) {
      assertArrayEquals(
          best(scores, 1024), list(method.choose(scope, Stream.DEFAULT, prompt.layer(scope)), 0));
    }
  }

  @Test
  void snapKv() {
    SnapKv method = SnapKv.standard();
    assertFalse(method.prunes(2047));
    assertTrue(method.prunes(2048));
    Prompt prompt = Prompt.random(2100, 5);
    int before = prompt.tokens - 32;
    try (Scope scope = Scope.open()) {
      Selection kept = method.choose(scope, Stream.DEFAULT, prompt.layer(scope));
      assertEquals(HEADS, kept.count().size(0));
      for (int h = 0; h < HEADS; h++) {
        double[] sums = prompt.paid(before, h);
        assertArrayEquals(
            and(best(pooled(Arrays.copyOf(sums, before)), 2016), before, prompt.tokens),
            list(kept, h), "head " + h);
      }
    }
  }

  @Test
  void h2o() {
    H2o method = H2o.standard();
    assertEquals(0, method.kept(9));
    assertEquals(2, method.kept(10));
    assertEquals(102, method.kept(512));
    Prompt prompt = Prompt.random(205, 7);
    int older = prompt.tokens - 20;
    try (Scope scope = Scope.open()) {
      Selection kept = method.choose(scope, Stream.DEFAULT, prompt.layer(scope));
      assertEquals(HEADS, kept.count().size(0));
      for (int h = 0; h < HEADS; h++) {
        double[] sums = prompt.paid(0, h);
        assertArrayEquals(and(best(Arrays.copyOf(sums, older), 20), older, prompt.tokens),
            list(kept, h), "head " + h);
      }
    }
  }

  /** What the last token sees of the image tokens 10 to 89, and all others. */
  private static int[] ofImage(Prompt prompt, int keep) {
    double[] mean = new double[prompt.tokens];
    for (int h = 0; h < HEADS; h++) {
      double[] p = prompt.attention(prompt.tokens - 1, h);
      Arrays.setAll(mean, j -> mean[j] + p[j] / HEADS);
    }
    int[] image = best(Arrays.copyOfRange(mean, 10, 90), keep);
    return and(and(IntStream.of(image).map(i -> 10 + i).toArray(), 0, 10), 90, prompt.tokens);
  }

  @Test
  void fastV() {
    FastV method = FastV.standard();
    assertArrayEquals(
        new int[] {1}, IntStream.range(0, 32).filter(l -> method.choosesBehind(l, 32)).toArray());
    assertEquals(288, method.kept(576));
    Prompt prompt = Prompt.random(100, 9);
    try (Scope scope = Scope.open()) {
      assertArrayEquals(ofImage(prompt, 40),
          list(method.choose(scope, Stream.DEFAULT, prompt.layer(scope), 10, 90), 0));
    }
  }

  @Test
  void pyramidDrop() {
    PyramidDrop method = PyramidDrop.standard();
    assertEquals(List.of(new PyramidDrop.Stage(8, .5), new PyramidDrop.Stage(16, .25),
                     new PyramidDrop.Stage(24, .125)),
        method.stages());
    assertArrayEquals(new int[] {8, 16, 24},
        IntStream.range(0, 32).filter(l -> method.stageBefore(l) >= 0).toArray());
    Prompt prompt = Prompt.random(100, 11); // its 80 image tokens were 160 at first
    try (Scope scope = Scope.open()) {
      assertArrayEquals(ofImage(prompt, 40),
          list(method.choose(scope, Stream.DEFAULT, 1, prompt.layer(scope), 10, 90, 160), 0));
    }
  }

  // ---- HiRED

  /** CLS queries [P,H,dh] and keys [P,H,1+Nv,dh] of a block of the encoder. */
  private record Encoder(float[] query, float[] keys) {
    static Encoder random(int seed) {
      return new Encoder(gaussian(PARTITIONS * HEADS * WIDTH, seed),
          gaussian(PARTITIONS * HEADS * (1 + PATCHES) * WIDTH, seed + 1));
    }

    Hired.Block block(Scope scope) {
      return new Hired.Block(tensor(scope, query, PARTITIONS, HEADS, WIDTH),
          KvCache.ofHeadMajor(tensor(scope, keys, PARTITIONS, HEADS, 1 + PATCHES, WIDTH), null));
    }

    /** What the CLS token pays to each patch, summed over heads. */
    double[] attention(int partition) {
      double[] sums = new double[PATCHES];
      for (int h = 0; h < HEADS; h++) {
        int head = partition * HEADS + h;
        double[] p = softmax(j -> {
          double product = 0;
          for (int i = 0; i < WIDTH; i++) {
            product +=
                (double) query[head * WIDTH + i] * keys[(head * (1 + PATCHES) + j) * WIDTH + i];
          }
          return product / Math.sqrt(WIDTH);
        }, 1 + PATCHES);
        Arrays.setAll(sums, j -> sums[j] + p[j + 1]);
      }
      return sums;
    }
  }

  /** The paper's form: a fifth of 720 tokens, half of it for the full image. */
  private static int[] budgets(double[] attention, boolean withoutLoss) {
    double[] cell = new double[4];
    for (int j = 0; j < PATCHES; j++) {
      cell[j / SIDE / (SIDE / 2) * 2 + j % SIDE / (SIDE / 2)] += attention[j];
    }
    double sum = Arrays.stream(cell).sum();
    double[] quota = Arrays.stream(cell).map(value -> value / sum * 72).toArray();
    int[] budget = Arrays.stream(quota).mapToInt(q -> (int) q).toArray();
    double[] fraction = scores(4, i -> quota[i] - budget[i]);
    for (double f : fraction) {
      assertTrue(f > 1e-4 && f < 1 - 1e-4, "the share is not clear");
    }
    int lost = 72 - IntStream.of(budget).sum();
    assertTrue(lost > 0, "nothing is lost");
    if (withoutLoss) {
      IntStream.of(best(fraction, lost)).forEach(i -> budget[i]++);
    }
    return IntStream.concat(IntStream.of(72), IntStream.of(budget)).toArray();
  }

  private static void assertChosen(Hired method, boolean withoutLoss) {
    Encoder early = Encoder.random(13);
    Encoder late = Encoder.random(15);
    int[] budgets = budgets(early.attention(0), withoutLoss);
    try (Scope scope = Scope.open()) {
      Selection kept = method.choose(scope, Stream.DEFAULT, early.block(scope), late.block(scope),
          new Hired.Grid(SIDE, SIDE, 2, 2));
      assertArrayEquals(budgets, kept.budget().toIntArray());
      for (int p = 0; p < PARTITIONS; p++) {
        assertArrayEquals(best(late.attention(p), budgets[p]), list(kept, p), "partition " + p);
      }
    }
  }

  @Test
  void hired() {
    assertEquals(0, Hired.EARLY_BLOCK);
    assertEquals(22, Hired.LATE_BLOCK);
    assertChosen(Hired.standard(), false);
    assertChosen(Hired.standard().withoutLoss(), true);
  }

  /** The op alone has the same settings. */
  @Test
  void hiredBudget() {
    double[] attention = Encoder.random(13).attention(0);
    float[] rounded = new float[PATCHES];
    for (int j = 0; j < PATCHES; j++) {
      rounded[j] = (float) attention[j];
    }
    try (Scope scope = Scope.open()) {
      Tensor budget = scope.allocate(Device.defaultDevice(), DType.I32, 1, PARTITIONS);
      HiredBudget.builder()
          .attention(tensor(scope, rounded, 1, PATCHES))
          .budget(budget)
          .patches(SIDE, SIDE)
          .grid(2, 2)
          .runOnce();
      assertArrayEquals(budgets(attention, false), budget.toIntArray());
    }
  }

  /** The code's form keeps the same share. */
  @Test
  void hiredAsInCode() {
    Encoder early = Encoder.random(13);
    Encoder late = Encoder.random(15);
    try (Scope scope = Scope.open()) {
      Hired.Grid grid = new Hired.Grid(SIDE, SIDE, 2, 2);
      assertArrayEquals(
          Hired.asInCode()
              .withRate(.2, .5)
              .choose(scope, Stream.DEFAULT, early.block(scope), late.block(scope), grid)
              .indices()
              .toIntArray(),
          Hired.asInCode()
              .choose(scope, Stream.DEFAULT, early.block(scope), late.block(scope), grid)
              .indices()
              .toIntArray());
    }
  }
}
