// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Random;
import org.exeunt.TranslatorFit;
import org.junit.jupiter.api.Test;

class TranslatorFitTest {
  private static final int DIM = 24;

  private final Random random = new Random(7);
  private final float[] weight = normal(DIM * DIM);
  private final float[] bias = normal(DIM);

  private float[] normal(int count) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }

  private float[] mapped(float[] x) {
    float[] y = new float[DIM];
    for (int out = 0; out < DIM; out++) {
      double sum = bias[out];
      for (int in = 0; in < DIM; in++) {
        sum += (double) weight[out * DIM + in] * x[in];
      }
      y[out] = (float) sum;
    }
    return y;
  }

  private TranslatorFit fit(int samples) {
    TranslatorFit fit = new TranslatorFit(DIM);
    for (int i = 0; i < samples; i++) {
      float[] x = normal(DIM);
      fit.add(x, mapped(x));
    }
    return fit;
  }

  @Test
  void findsAnAffineMapThatIsThere() {
    TranslatorFit.Translator found = fit(400).solve(1e-9);
    for (int i = 0; i < weight.length; i++) {
      assertEquals(weight[i], found.weight()[i], 1e-5, "weight " + i);
    }
    for (int i = 0; i < DIM; i++) {
      assertEquals(bias[i], found.bias()[i], 1e-5, "bias " + i);
    }
  }

  @Test
  void solvesTheNormalEquations() {
    // Two samples, one column: minimise sum (w x + b - y)^2 + r w^2, r = penalty * mean x^2 * 2.
    TranslatorFit fit = new TranslatorFit(1);
    fit.add(new float[] {1}, new float[] {2});
    fit.add(new float[] {3}, new float[] {10});
    // Sxx = 10, Sx = 4, n = 2, Sxy = 32, Sy = 12, r = 0.2 * 10 = 2:
    // (12 w + 4 b = 32, 4 w + 2 b = 12) -> w = 2, b = 2
    TranslatorFit.Translator found = fit.solve(0.2);
    assertEquals(2, found.weight()[0], 1e-6);
    assertEquals(2, found.bias()[0], 1e-6);
    assertEquals(2, fit.samples());
  }

  @Test
  void aLargePenaltyLeavesTheMean() {
    TranslatorFit.Translator found = fit(400).solve(1e6);
    for (float w : found.weight()) {
      assertTrue(Math.abs(w) < 1e-4, "weight " + w);
    }
  }

  @Test
  void staysFiniteWithFewerSamplesThanColumns() {
    for (float w : fit(3).solve(1e-3).weight()) {
      assertTrue(Float.isFinite(w), "weight " + w);
    }
  }

  @Test
  void refusesWhatItCannotUse() {
    TranslatorFit fit = new TranslatorFit(2);
    float[] good = {1, 2};
    assertMessage("from has 1 elements, but the fit has D = 2", () -> fit.add(new float[1], good));
    assertMessage("to[1] is NaN", () -> fit.add(good, new float[] {0, Float.NaN}));
    assertThrows(IllegalStateException.class, () -> fit.solve(1e-3));
    fit.add(good, good);
    assertMessage("penalty is 0.0", () -> fit.solve(0));
    assertMessage("dim is 0", () -> new TranslatorFit(0));
    assertEquals(1, fit.samples());
  }

  private static void assertMessage(String part, Runnable call) {
    String message = assertThrows(IllegalArgumentException.class, call::run).getMessage();
    assertTrue(message.contains(part), message);
  }
}
