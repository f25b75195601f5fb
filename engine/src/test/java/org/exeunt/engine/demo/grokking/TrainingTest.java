// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.demo.grokking;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.HashSet;
import java.util.Set;
import org.exeunt.Normalizer;
import org.exeunt.engine.train.Matrix;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledIfSystemProperty;

class TrainingTest {
  /** As in the demo, whose own test looks at the same in a quick run. */
  @Test
  @DisabledIfSystemProperty(named = "exeunt.quick", matches = "true",
      disabledReason = "a quick run leaves it to the demo's test")
  void
  perpGradGeneralisesWherePlainTrainingMemorises() {
    Training.Snapshot with = train(Normalizer.SOFTMAX, true, .4, 125);
    Training.Snapshot without = train(Normalizer.SOFTMAX, false, .4, 125);
    assertTrue(with.testAccuracy() > .95, with.toString());
    assertTrue(without.trainAccuracy() > .99, without.toString());
    assertTrue(without.testAccuracy() < .05, without.toString());
  }

  @Test
  void softmaxCollapsesAndStableMaxDoesNot() {
    Training.Snapshot softmax = train(Normalizer.SOFTMAX, false, .05, 75);
    Training.Snapshot stableMax = train(Normalizer.STABLEMAX, false, .05, 75);
    assertTrue(softmax.collapsed() > .5, softmax.toString());
    assertEquals(0, stableMax.collapsed(), stableMax.toString());
    assertTrue(stableMax.trainAccuracy() > .9, stableMax.toString());
  }

  private static Training.Snapshot train(
      Normalizer normalizer, boolean perpGrad, double share, int epochs) {
    float rate = share < .1 ? .02f : .01f;
    try (Training training = new Training(new Training.Setup(normalizer, perpGrad, share, rate))) {
      training.run(epochs);
      return training.evaluate();
    }
  }

  @Test
  void theSplitHoldsEveryPairOnce() {
    ModularAddition.Split split = ModularAddition.split(7, .4, 1);
    Set<Integer> seen = new HashSet<>();
    for (ModularAddition part : new ModularAddition[] {split.train(), split.test()}) {
      for (int i = 0; i < part.size(); i++) {
        seen.add(part.left()[i] * 7 + part.right()[i]);
        assertEquals((part.left()[i] + part.right()[i]) % 7, part.labels()[i]);
      }
    }
    assertEquals(49, seen.size());
    assertEquals(19, split.train().size());
  }

  /** Gradients against central differences of a loss that weighs the logits: L = sum c * z. */
  @Test
  void gradientsAreThoseOfTheForwardPass() {
    Mlp mlp = new Mlp(5, 6, 3);
    ModularAddition pairs = ModularAddition.split(5, .8, 3).train();
    Mlp.Batch batch = mlp.new Batch(pairs);
    batch.forward();
    for (int i = 0; i < pairs.size(); i++) {
      batch.gradLogits().setRow(i, coefficients(i));
    }
    batch.backward();
    for (int k = 0; k < 3; k++) {
      Matrix weight = mlp.weights().get(k);
      for (int row = 0; row < weight.rows(); row++) {
        float[] numeric = numericGradient(batch, weight, row, pairs.size());
        float[] analytic = new float[weight.columns()];
        batch.gradients().get(k).getRow(row, analytic);
        assertArrayEquals(numeric, analytic, 2e-2f, "weight " + k + ", row " + row);
      }
    }
  }

  private static float[] coefficients(int i) {
    return new float[] {(i % 3) - 1, .5f, (i % 2), -1, .25f};
  }

  private static float[] numericGradient(Mlp.Batch batch, Matrix weight, int row, int pairs) {
    float[] original = new float[weight.columns()];
    weight.getRow(row, original);
    float[] gradient = new float[original.length];
    float step = 1e-4f; // small, so that hardly a ReLU changes sides
    for (int j = 0; j < original.length; j++) {
      float[] moved = original.clone();
      moved[j] = original[j] + step;
      weight.setRow(row, moved);
      double above = loss(batch, pairs);
      moved[j] = original[j] - step;
      weight.setRow(row, moved);
      gradient[j] = (float) ((above - loss(batch, pairs)) / (2 * step));
    }
    weight.setRow(row, original);
    return gradient;
  }

  private static double loss(Mlp.Batch batch, int pairs) {
    batch.forward();
    double loss = 0;
    for (int i = 0; i < pairs; i++) {
      float[] c = coefficients(i);
      for (int j = 0; j < c.length; j++) {
        loss += c[j] * batch.logits().get(i, j);
      }
    }
    return loss;
  }
}
