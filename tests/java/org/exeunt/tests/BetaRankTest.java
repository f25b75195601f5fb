// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.exeunt.BetaRank;
import org.exeunt.BetaRank.Window;
import org.exeunt.DType;
import org.exeunt.PruneMask;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.junit.jupiter.api.Test;

class BetaRankTest {
  /** Two images of 2 x 2 pixels, three filters of one weight. */
  private static final float[] WEIGHTS = {-2, 1, 3};
  private static final float[] INPUT = {0, 0, 0, 5, 2, 4, 8, 5};
  private static final float[] OUTPUT = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, //
      2, 4, 8, 100, 4, 4, 0, 0, 1, 0, 0, 7};

  /** Pixels deviate by 1, 2, 4 and 0, the last of which is skipped: ranks 6, 3 and 1.5. */
  @Test
  void patchesByHand() {
    try (Scope scope = Scope.open()) {
      assertArrayEquals(new double[] {1, 1 / 3., 0}, scores(scope, Window.PATCH), 1e-12);
    }
  }

  /** Rows deviate by the roots of 2.75 and 8.25; below there is no channel. */
  @Test
  void theCodeByHand() {
    try (Scope scope = Scope.open()) {
      double upper = 1 / Math.sqrt(2.75);
      double lower = 1 / Math.sqrt(8.25);
      double most = 2 * (upper + 2 * lower);
      double middle = 2 * upper + 2 * lower;
      double least = 1.5 * upper;
      double[] expected = {1, (middle - least) / (most - least), 0};
      assertArrayEquals(expected, scores(scope, Window.CODE), 1e-12);
    }
  }

  @Test
  void masksTakeTheLeastFilters() {
    try (Scope scope = Scope.open()) {
      double[] scores = scores(scope, Window.PATCH);
      Tensor row =
          scope.copyOf(new float[] {(float) scores[0], (float) scores[1], (float) scores[2]}, 1, 3);
      Tensor mask = scope.allocate(DType.U8, 1, 3);
      PruneMask.compute(row, .67, mask);
      assertArrayEquals(new int[] {1, 0, 0}, mask.toIntArray());
    }
  }

  /** Against the loops of the definition, weight by weight. */
  @Test
  void asDefined() {
    int[][] shapes = {// images, channels, height, width, filters, window, output
        {3, 2, 5, 6, 4, 3, 3, 5, 6}, {4, 3, 8, 8, 5, 2, 3, 4, 4}, {2, 7, 4, 4, 3, 1, 1, 4, 4},
        {5, 1, 7, 9, 2, 3, 2, 3, 4}, {3, 2, 4, 9, 3, 2, 2, 4, 3}}; // of the columns' stride, 3
    Random random = new Random(1);
    for (int[] s : shapes) {
      try (Scope scope = Scope.open()) {
        Tensor weight = normal(scope, random, s[4], s[1], s[5], s[6]);
        Tensor input = normal(scope, random, s[0], s[1], s[2], s[3]);
        Tensor output = normal(scope, random, s[0], s[4], s[7], s[8]);
        for (Window window : Window.values()) {
          assertArrayEquals(defined(weight, input, output, window),
              BetaRank.scores(weight, input, output, window), 1e-9, window + " " + s[0]);
        }
      }
    }
  }

  @Test
  void equalRanksAndNan() {
    try (Scope scope = Scope.open()) {
      Tensor weight = scope.copyOf(new float[] {1, 1}, 2, 1, 1, 1);
      Tensor input = scope.copyOf(new float[] {0, 2}, 2, 1, 1, 1);
      Tensor output = scope.copyOf(new float[] {0, 5, 3, 8}, 2, 2, 1, 1);
      assertArrayEquals(new double[2], BetaRank.scores(weight, input, output, Window.PATCH));
      Tensor broken = scope.copyOf(new float[] {0, 5, Float.NaN, 8}, 2, 2, 1, 1);
      assertArrayEquals(new double[] {Double.NaN, Double.NaN},
          BetaRank.scores(weight, input, broken, Window.PATCH));
      Tensor constant = scope.copyOf(new float[] {2, 2}, 2, 1, 1, 1);
      assertArrayEquals(new double[2], BetaRank.scores(weight, constant, output, Window.PATCH));
    }
  }

  @Test
  void whatDoesNotFitIsRefused() {
    try (Scope scope = Scope.open()) {
      Tensor weight = scope.copyOf(new float[4], 2, 2, 1, 1);
      Tensor input = scope.copyOf(new float[8], 1, 2, 2, 2);
      Tensor output = scope.copyOf(new float[8], 1, 2, 2, 2);
      refused(scope, null, input, output, Window.CODE, "weight is null");
      refused(scope, weight, input, output, null, "window is null");
      refused(scope, weight, scope.copyOf(new float[4], 1, 1, 2, 2), output, Window.CODE,
          "input has 1 channels", "weight has 2");
      refused(scope, weight, input, scope.copyOf(new float[4], 1, 1, 2, 2), Window.CODE,
          "output has 1 channels", "2 filters");
      refused(scope, weight, input, scope.copyOf(new float[16], 2, 2, 2, 2), Window.CODE,
          "output has 2 images", "input has 1");
      refused(scope, weight, input, scope.copyOf(new float[12], 1, 2, 2, 3), Window.CODE,
          "output has 3 columns", "input 2");
      refused(scope, weight, scope.copyOf(new float[8], 4, 2), output, Window.CODE,
          "input has 2 axes", "4");
      refused(scope, weight, scope.allocate(DType.F32, 0, 2, 2, 2), output, Window.CODE,
          "input has size 0 in axis 0");
    }
  }

  private static double[] scores(Scope scope, Window window) {
    return BetaRank.scores(scope.copyOf(WEIGHTS, 3, 1, 1, 1), scope.copyOf(INPUT, 2, 1, 2, 2),
        scope.copyOf(OUTPUT, 2, 3, 2, 2), window);
  }

  private static void refused(
      Scope scope, Tensor weight, Tensor input, Tensor output, Window window, String... words) {
    String message = assertThrows(
        IllegalArgumentException.class, () -> BetaRank.scores(weight, input, output, window))
                         .getMessage();
    for (String word : words) {
      assertTrue(message.contains(word), message);
    }
  }

  private static Tensor normal(Scope scope, Random random, int... shape) {
    int size = 1;
    long[] extents = new long[shape.length];
    for (int i = 0; i < shape.length; i++) {
      size *= shape[i];
      extents[i] = shape[i];
    }
    float[] values = new float[size];
    for (int i = 0; i < size; i++) {
      values[i] = (float) random.nextGaussian() + i % 7;
    }
    return scope.copyOf(values, extents);
  }

  private static double[] defined(Tensor weight, Tensor input, Tensor output, Window window) {
    float[] w = weight.toFloatArray();
    long[] k = weight.shape();
    long[] in = input.shape();
    long[] out = output.shape();
    int stride = (int) (in[3] / out[3]);
    int size = w.length / (int) k[0];
    double[] ranks = new double[(int) k[0]];
    for (int o = 0; o < k[0]; o++) {
      double[] filter = new double[size];
      for (int y = 0; y < out[2]; y++) {
        for (int x = 0; x < out[3]; x++) {
          List<Double> made = new ArrayList<>();
          for (int n = 0; n < in[0]; n++) {
            made.add(at(output, n, o, y, x));
          }
          List<Double> read = new ArrayList<>();
          for (int n = 0; n < in[0]; n++) {
            for (int c = 0; c < in[1]; c++) {
              for (int i = 0; i < in[2]; i++) {
                for (int j = 0; j < in[3]; j++) {
                  int first = window == Window.CODE ? c : i;
                  int second = window == Window.CODE ? i : j;
                  if (first >= y * stride && first < y * stride + k[2] && second >= x * stride
                      && second < x * stride + k[3]) {
                    read.add(at(input, n, c, i, j));
                  }
                }
              }
            }
          }
          for (int i = 0; i < size && !read.isEmpty(); i++) {
            filter[i] += Math.abs(w[o * size + i] * deviation(made) / deviation(read));
          }
        }
      }
      for (double value : filter) {
        ranks[o] += value / size;
      }
    }
    double least = Double.MAX_VALUE;
    double most = 0;
    for (double rank : ranks) {
      least = Math.min(least, rank);
      most = Math.max(most, rank);
    }
    for (int o = 0; o < ranks.length; o++) {
      ranks[o] = (ranks[o] - least) / (most - least);
    }
    return ranks;
  }

  private static double at(Tensor tensor, int... index) {
    long[] shape = tensor.shape();
    int at = 0;
    for (int axis = 0; axis < index.length; axis++) {
      at = at * (int) shape[axis] + index[axis];
    }
    return tensor.toFloatArray()[at];
  }

  private static double deviation(List<Double> values) {
    double mean = values.stream().mapToDouble(v -> v).average().orElseThrow();
    return Math.sqrt(
        values.stream().mapToDouble(v -> (v - mean) * (v - mean)).average().orElseThrow());
  }
}
