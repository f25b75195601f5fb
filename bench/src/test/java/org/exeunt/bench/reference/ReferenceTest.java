// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import org.junit.jupiter.api.Test;

/** The reference against numbers worked out by hand, and against results that are a bit wrong. */
class ReferenceTest {
  private static final float[] LOGITS = {2, 1, 0, -1};

  private static Matrix row(float... values) {
    return Matrix.of(1, values.length, Storage.F32, i -> values[i]);
  }

  private static RowStats handStats() {
    RowStats stats = new RowStats(1, true);
    stats.argmax[0] = 0;
    stats.p1[0] = 0.643914f;
    stats.p2[0] = 0.236883f;
    stats.margin[0] = 0.407031f;
    stats.entropy[0] = 0.947537f;
    stats.maxLogit[0] = 2;
    stats.lse[0] = 2.440190f;
    stats.pow2Entropy[0] = 0.455429f;
    stats.meanLogP[0] = -1.940190f;
    return stats;
  }

  @Test
  void wordsAreThoseOfTheSharedTables() {
    assertEquals(0xA706DD2F4D197E6FL, new Words(1, 0).word(0));
    assertEquals(0xB382A305F4414F5EL, new Words(1, 0).word(1));
    assertEquals(0xCF603E8DA46F9711L, new Words(7, 3).word(1000));
  }

  @Test
  void bfloat16RoundsToNearestEven() {
    assertEquals(1f, Storage.BF16.stored(1f + 0x1p-8f));
    assertEquals(1f + 0x1p-6f, Storage.BF16.stored(1f + 0x1p-7f + 0x1p-8f));
    assertEquals(-3.140625f, Storage.BF16.stored(-3.14159f));
  }

  @Test
  void packedPairsAndTransposeKeepTheOrder() {
    Matrix m = Matrix.of(2, 2, Storage.BF16, i -> i + 1);
    assertArrayEquals(new int[] {0x40003f80, 0x40804040}, m.packed());
    assertArrayEquals(new float[] {1, 3, 2, 4}, m.transposed());
  }

  @Test
  void statisticsOfFourLogits() {
    RowStatsProblem problem = new RowStatsProblem(Normalizer.SOFTMAX, row(LOGITS), true);
    assertDoesNotThrow(() -> problem.check(handStats()));
  }

  @Test
  void wrongStatisticsAreNoticed() {
    RowStatsProblem problem = new RowStatsProblem(Normalizer.SOFTMAX, row(LOGITS), true);
    RowStats stats = handStats();
    stats.argmax[0] = 1;
    assertThrows(IllegalStateException.class, () -> problem.check(stats));
    for (int field = 0; field < 7; field++) {
      RowStats off = handStats();
      float[][] fields = {
          off.p1, off.p2, off.margin, off.entropy, off.lse, off.pow2Entropy, off.meanLogP};
      fields[field][0] *= 1.005f;
      assertThrows(IllegalStateException.class, () -> problem.check(off));
      fields[field][0] = Float.NaN;
      assertThrows(IllegalStateException.class, () -> problem.check(off));
    }
  }

  @Test
  void tiesGoToTheSmallerIndex() {
    RowStatsProblem problem = new RowStatsProblem(Normalizer.SOFTMAX, row(0, 3, 3), false);
    RowStats stats = new RowStats(1, false);
    double sum = 2 + Math.exp(-3);
    stats.argmax[0] = 2;
    stats.p1[0] = (float) (1 / sum);
    stats.entropy[0] = (float) (Math.log(sum) + 3 * Math.exp(-3) / sum);
    assertThrows(IllegalStateException.class, () -> problem.check(stats));
    stats.argmax[0] = 1;
    assertDoesNotThrow(() -> problem.check(stats));
  }

  @Test
  void stableMaxOfThreeLogits() {
    // s = 3, 1, 1/2, so p = 6/9, 2/9, 1/9.
    SoftmaxProblem problem = new SoftmaxProblem(Normalizer.STABLEMAX, row(2, 0, -1));
    assertDoesNotThrow(() -> problem.check(new float[] {6 / 9f, 2 / 9f, 1 / 9f}));
    assertThrows(
        IllegalStateException.class, () -> problem.check(new float[] {6 / 9f, 2 / 9f, 1.01f / 9f}));
  }

  @Test
  void stableMaxLossAndGradient() {
    CrossEntropyProblem problem = new CrossEntropyProblem(Normalizer.STABLEMAX, row(2, 0, -1), 1);
    float[] p = {6 / 9f, 2 / 9f, 1 / 9f};
    float[] slope = {1 / 3f, 1, 1 / 2f};
    float[] grad = new float[3];
    int label = problem.labels[0];
    for (int i = 0; i < 3; i++) {
      grad[i] = slope[i] * (p[i] - (i == label ? 1 : 0));
    }
    float loss = (float) -Math.log(p[label]);
    assertDoesNotThrow(() -> problem.check(new LossAndGrad(loss, grad)));
    assertThrows(
        IllegalStateException.class, () -> problem.check(new LossAndGrad(loss * 1.01f, grad)));
    grad[label] *= 1.01f;
    assertThrows(IllegalStateException.class, () -> problem.check(new LossAndGrad(loss, grad)));
  }

  @Test
  void exitHeadWithNormAndShortlist() {
    Matrix hidden = row(3, 4);
    Matrix weight = Matrix.of(4, 2, Storage.F32, i -> new float[] {9, 9, 1, 0, 9, 9, 0, 1}[i]);
    Matrix ones = row(1, 1);
    // x = (3, 4) / sqrt(12.5); the listed rows pick its two components.
    ExitHeadProblem problem = new ExitHeadProblem(hidden, weight, ones, 0, new int[] {1, 3}, false);
    double gap = Math.exp(-1 / Math.sqrt(12.5));
    double sum = 1 + gap;
    RowStats stats = new RowStats(1, false);
    stats.argmax[0] = 3;
    stats.p1[0] = (float) (1 / sum);
    stats.margin[0] = (float) ((1 - gap) / sum);
    stats.entropy[0] = (float) (Math.log(sum) + gap / sum / Math.sqrt(12.5));
    assertDoesNotThrow(() -> problem.check(stats));
    stats.argmax[0] = 1;
    assertThrows(IllegalStateException.class, () -> problem.check(stats));
  }

  @Test
  void cosineOfTwoRows() {
    Matrix a = Matrix.of(2, 2, Storage.F32, i -> new float[] {3, 4, 1, 0}[i]);
    Matrix b = Matrix.of(2, 2, Storage.F32, i -> new float[] {4, 3, 0, 2}[i]);
    CosineProblem problem = new CosineProblem(a, b);
    assertDoesNotThrow(() -> problem.check(new float[] {0.96f, 0}));
    assertThrows(IllegalStateException.class, () -> problem.check(new float[] {0.9601f, 0}));
  }

  @Test
  void perpGradRestoresTheNorm() {
    // g = (3, 4) loses its part along w = (1, 0) and is scaled from 4 back to 5.
    PerpGradProblem problem = new PerpGradProblem(row(1, 0), row(3, 4));
    assertDoesNotThrow(() -> problem.check(new float[] {0, 5}));
    assertThrows(IllegalStateException.class, () -> problem.check(new float[] {0, 4}));
  }

  @Test
  void ruleStopsAtTheFirstReason() {
    ExitRuleProblem problem =
        new ExitRuleProblem(ExitRuleProblem.Rule.QUANTILE, 1, 4, 0.5f, false, 1);
    float[] lambda = {.1f, .2f, .5f, .9f};
    System.arraycopy(lambda, 0, problem.scores.values(), 0, 4);
    assertDoesNotThrow(() -> problem.check(new int[] {2}));
    assertThrows(IllegalStateException.class, () -> problem.check(new int[] {3}));
  }
}
