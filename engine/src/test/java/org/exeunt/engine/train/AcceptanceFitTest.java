// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.Random;
import org.exeunt.Backend;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Gate;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.engine.train.AcceptanceFit.Head;
import org.exeunt.engine.train.AcceptanceFit.Settings;
import org.junit.jupiter.api.Test;

class AcceptanceFitTest {
  private static final int DIM = 16;

  private final Random random = new Random(11);

  private float[] normal(int count, double scale) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) (scale * random.nextGaussian());
    }
    return values;
  }

  /** Of numbers that a step of 2^-10 leaves exact. */
  private static float[] coarse(float[] values) {
    for (int i = 0; i < values.length; i++) {
      values[i] = Math.round(values[i] * 1024) / 1024f;
    }
    return values;
  }

  private Head head(int dim, int repeats) {
    return new Head(repeats, coarse(normal(dim * dim, .4)), coarse(normal(dim, .4)),
        coarse(normal(2 * dim, 1)), coarse(normal(2, 1)));
  }

  /** The derivative by w[i], by differences of two widths. */
  private static double slope(AcceptanceFit fit, Head head, float[] w, int i) {
    double[] slopes = new double[2];
    float kept = w[i];
    for (int half = 0; half < 2; half++) {
      float width = 0x1p-9f / (1 << half);
      w[i] = kept + width;
      double above = fit.loss(head, 6, null);
      w[i] = kept - width;
      slopes[half] = (above - fit.loss(head, 6, null)) / (2 * width);
    }
    w[i] = kept;
    return (4 * slopes[1] - slopes[0]) / 3;
  }

  @Test
  void theGradientIsThatOfTheLoss() {
    for (int repeats : new int[] {0, 1, 3}) {
      int dim = 6;
      AcceptanceFit fit = new AcceptanceFit(dim, repeats);
      for (int i = 0; i < 300; i++) { // more than are taken at once
        fit.add(normal(dim, 1), i < 4 ? i % 2 : random.nextFloat());
      }
      Head head = head(dim, repeats);
      double[] gradient = new double[dim * dim + 2 * dim + 1];
      fit.loss(head, 6, gradient);
      for (int i = 0; i < gradient.length; i++) {
        double expected = i < dim * dim ? slope(fit, head, head.hiddenWeight(), i)
            : i < dim * dim + dim       ? slope(fit, head, head.hiddenBias(), i - dim * dim)
            : i + 1 < gradient.length
            ? slope(fit, head, head.outWeight(), i - dim * dim)
            : slope(fit, head, head.outBias(), 1);
        assertEquals(expected, gradient[i], 1e-8, repeats + " blocks, weight " + i);
      }
    }
  }

  @Test
  void theLossByHand() {
    // Of no weights: a = 1/2 for each token, so the loss is ln 2 whatever the labels are.
    AcceptanceFit fit = new AcceptanceFit(1, 1);
    fit.add(new float[] {2}, .25f);
    fit.add(new float[] {-1}, 1);
    Head none = new Head(1, new float[1], new float[1], new float[2], new float[2]);
    assertEquals(Math.log(2), fit.loss(none, 6, null), 1e-15);
    // y = x + SiLU(x), then softmax(0, y): weights .25 and 6 * .75, and 1.
    Head head = new Head(1, new float[] {1}, new float[1], new float[] {0, 1}, new float[2]);
    double first = 2 + 2 / (1 + Math.exp(-2));
    double second = -1 - 1 / (1 + Math.exp(1));
    double loss = .25 * Math.log1p(Math.exp(-first)) + 4.5 * Math.log1p(Math.exp(first))
        + Math.log1p(Math.exp(-second));
    assertEquals(loss / 5.75, fit.loss(head, 6, null), 1e-12);
  }

  /** Tokens are accepted where this is positive: a plane, bent. */
  private static double margin(float[] x) {
    return 2 * Math.abs(x[0]) + x[1] - x[2] - 1;
  }

  private AcceptanceFit drafts(int repeats, int samples, Random from) {
    AcceptanceFit fit = new AcceptanceFit(DIM, repeats);
    for (int i = 0; i < samples; i++) {
      float[] x = new float[DIM];
      for (int j = 0; j < DIM; j++) {
        x[j] = (float) from.nextGaussian();
      }
      fit.add(x, (float) (1 / (1 + Math.exp(-20 * margin(x)))));
    }
    return fit;
  }

  /** Of a head that gives every token the same probability, the best one. */
  private static double constantLoss(AcceptanceFit fit) {
    double least = Double.MAX_VALUE;
    for (double logit = -6; logit < 6; logit += .05) {
      float[] bias = {0, (float) logit};
      least = Math.min(least,
          fit.loss(new Head(0, new float[DIM * DIM], new float[DIM], new float[2 * DIM], bias), 6,
              null));
    }
    return least;
  }

  /** How a head of a gate divides new tokens: the share of pairs that it puts in order. */
  private double areaUnderCurve(Head head) {
    int count = 400;
    float[] states = normal(count * DIM, 1);
    float[] prob;
    try (Scope scope = Scope.open()) {
      Tensor out = scope.allocate(DType.F32, count);
      head.applyTo(scope, Device.defaultDevice(), Gate.builder())
          .features(scope.copyOf(states, count, DIM))
          .prob(out)
          .runOnce();
      prob = out.toFloatArray();
    }
    long right = 0;
    long pairs = 0;
    for (int i = 0; i < count; i++) {
      for (int j = 0; j < count; j++) {
        if (margin(row(states, i)) > 0 && margin(row(states, j)) < 0) {
          pairs++;
          right += prob[i] > prob[j] ? 1 : 0;
        }
      }
    }
    return (double) right / pairs;
  }

  private static float[] row(float[] rows, int i) {
    return Arrays.copyOfRange(rows, i * DIM, (i + 1) * DIM);
  }

  @Test
  void tellsDraftsApartThatCanBe() {
    Settings settings = new Settings(6, 30, 32, 3e-3);
    Head bent = drafts(3, 3000, new Random(5)).solve(settings);
    Head flat = drafts(0, 3000, new Random(5)).solve(settings);
    AcceptanceFit later = drafts(3, 1000, new Random(6));
    double constant = constantLoss(drafts(0, 1000, new Random(6)));
    assertTrue(later.loss(bent, 6, null) < .25 * constant, "loss beside " + constant);
    assertTrue(
        drafts(0, 1000, new Random(6)).loss(flat, 6, null) < .95 * constant, "without blocks");
    assertTrue(areaUnderCurve(bent) > .98, "area of the head with blocks");
    assertTrue(areaUnderCurve(flat) < .95, "a plane is not enough");
  }

  @Test
  void aConstantIsTheBestWhereStatesSayNothing() {
    AcceptanceFit fit = new AcceptanceFit(1, 3);
    for (int i = 0; i < 100; i++) {
      fit.add(new float[1], i % 4 == 0 ? 0 : 1);
    }
    Head head = fit.solve(new Settings(6, 300, 100, .05));
    double logit = Math.log(75.0 / (6 * 25));
    assertEquals(logit, head.outBias()[1] - head.outBias()[0], .01);
  }

  @Test
  void theSameDraftsGiveTheSameHead() {
    Settings settings = new Settings(6, 2, 300, 1e-3); // steps of more than are taken at once
    Head one = drafts(3, 700, new Random(5)).solve(settings);
    Head other = drafts(3, 700, new Random(5)).solve(settings);
    assertArrayEquals(one.hiddenWeight(), other.hiddenWeight());
    assertArrayEquals(one.hiddenBias(), other.hiddenBias());
    assertArrayEquals(one.outWeight(), other.outWeight());
    assertArrayEquals(one.outBias(), other.outBias());
  }

  /** Adam in double, on the gradient of all tokens. */
  private static Head descended(AcceptanceFit fit, int dim, int repeats, int steps, double rate) {
    double[] w = new double[dim * dim + 2 * dim + 1];
    double[] gradient = new double[w.length];
    double[] mean = new double[w.length];
    double[] square = new double[w.length];
    for (int step = 1; step <= steps; step++) {
      fit.loss(unpacked(w, dim, repeats), 6, gradient);
      double scale = rate * (1 - (step - 1.0) / steps) / (1 - Math.pow(.9, step));
      for (int i = 0; i < w.length; i++) {
        mean[i] += .1 * (gradient[i] - mean[i]);
        square[i] += .001 * (gradient[i] * gradient[i] - square[i]);
        w[i] -= scale * mean[i] / (Math.sqrt(square[i] / (1 - Math.pow(.999, step))) + 1e-8);
      }
    }
    return unpacked(w, dim, repeats);
  }

  private static Head unpacked(double[] w, int dim, int repeats) {
    float[] out = new float[2 * dim];
    for (int i = 0; i < dim; i++) {
      out[dim + i] = (float) (w[dim * dim + dim + i] / 2);
      out[i] = -out[dim + i];
    }
    float half = (float) (w[w.length - 1] / 2);
    return new Head(repeats, floats(w, 0, dim * dim), floats(w, dim * dim, dim), out,
        new float[] {-half, half});
  }

  private static float[] floats(double[] values, int from, int count) {
    float[] floats = new float[count];
    for (int i = 0; i < count; i++) {
      floats[i] = (float) values[from + i];
    }
    return floats;
  }

  /** How far two lists are apart, as a share of how far the first is from 0. */
  private static double apart(float[] expected, float[] got) {
    double difference = 0;
    double size = 0;
    for (int i = 0; i < expected.length; i++) {
      difference += Math.pow(expected[i] - got[i], 2);
      size += Math.pow(expected[i], 2);
    }
    return size == 0 ? difference : Math.sqrt(difference / size);
  }

  /** Widths below, at and beyond those of panels and of chunks. */
  @Test
  void descendsAsAdamDoesInDouble() {
    for (int dim : new int[] {1, 5, 32, 33, 64, 97, 130}) {
      for (int repeats : new int[] {0, 1, 3}) {
        AcceptanceFit fit = new AcceptanceFit(dim, repeats);
        for (int i = 0; i < 70; i++) {
          fit.add(normal(dim, 1), random.nextFloat());
        }
        int steps = 12;
        Head expected = descended(fit, dim, repeats, steps, .01);
        Head got = fit.solve(new Settings(6, steps, 70, .01));
        String what = dim + " wide, " + repeats + " blocks";
        assertEquals(0, apart(expected.hiddenWeight(), got.hiddenWeight()), 2e-3, what);
        assertEquals(0, apart(expected.hiddenBias(), got.hiddenBias()), 2e-3, what);
        assertEquals(0, apart(expected.outWeight(), got.outWeight()), 2e-3, what);
        assertEquals(0, apart(expected.outBias(), got.outBias()), 2e-3, what);
        double loss = fit.loss(expected, 6, null);
        assertEquals(loss, fit.loss(got, 6, null), 1e-4 * loss, what);
      }
    }
  }

  @Test
  void threadsChangeNoBits() {
    int threads = Backend.threads();
    AcceptanceFit fit = new AcceptanceFit(150, 2);
    for (int i = 0; i < 90; i++) {
      fit.add(normal(150, 1), random.nextFloat());
    }
    Settings settings = new Settings(6, 2, 40, 1e-2); // the last step of an epoch is of fewer
    try {
      Backend.setThreads(1);
      Head alone = fit.solve(settings);
      Backend.setThreads(3);
      Head together = fit.solve(settings);
      assertArrayEquals(alone.hiddenWeight(), together.hiddenWeight());
      assertArrayEquals(alone.hiddenBias(), together.hiddenBias());
      assertArrayEquals(alone.outWeight(), together.outWeight());
    } finally {
      Backend.setThreads(threads);
    }
  }

  @Test
  void refusesWhatItCannotUse() {
    AcceptanceFit fit = new AcceptanceFit(2, 1);
    assertThrows(IllegalStateException.class, () -> fit.solve(Settings.SPECDEC));
    assertMessage("state has 1 elements, but the fit has D = 2", () -> fit.add(new float[1], 1));
    assertMessage("state[1] is NaN", () -> fit.add(new float[] {0, Float.NaN}, 1));
    assertMessage("probability is 1.5, expected 0..1", () -> fit.add(new float[2], 1.5f));
    assertMessage("probability is NaN", () -> fit.add(new float[2], Float.NaN));
    assertMessage("dim is 0", () -> new AcceptanceFit(0, 1));
    assertMessage("repeats is 65", () -> new AcceptanceFit(2, 65));
    assertMessage("mismatchWeight is 0.0", () -> new Settings(0, 1, 1, 1));
    assertMessage("rate is NaN", () -> new Settings(6, 1, 1, Double.NaN));
    assertMessage("epochs is 0", () -> new Settings(6, 0, 1, 1));
    assertMessage("batch is -3", () -> new Settings(6, 1, -3, 1));
    assertEquals(0, fit.samples());
    fit.add(new float[2], .5f);
    Head other = new Head(2, new float[4], new float[2], new float[4], new float[2]);
    assertMessage("2 repeats", () -> fit.loss(other, 6, null));
    assertMessage("hiddenWeight has 3 elements, but hiddenBias has D = 2: expected 4",
        () -> new Head(1, new float[3], new float[2], new float[4], new float[2]));
    assertMessage("outWeight has 2",
        () -> new Head(1, new float[4], new float[2], new float[2], new float[2]));
    assertMessage(
        "outBias has 1", () -> new Head(1, new float[4], new float[2], new float[4], new float[1]));
    Head fits = fit.solve(Settings.SPECDEC);
    assertMessage("gradient has 3 elements", () -> fit.loss(fits, 6, new double[3]));
    assertMessage("mismatchWeight is -1.0", () -> fit.loss(fits, -1, null));
  }

  private static void assertMessage(String part, Runnable call) {
    String message = assertThrows(IllegalArgumentException.class, call::run).getMessage();
    assertTrue(message.contains(part), message);
  }
}
