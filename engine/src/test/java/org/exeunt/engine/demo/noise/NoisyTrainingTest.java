// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.demo.noise;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

class NoisyTrainingTest {
  @Test
  void elrSeesThroughTheLabelsThatCrossEntropyMemorises() {
    NoisyTraining.Snapshot plain = train(false);
    NoisyTraining.Snapshot regularised = train(true);
    assertTrue(plain.memorised() > .9, plain.toString());
    assertTrue(regularised.memorised() < .15, regularised.toString());
    assertTrue(regularised.seenThrough() > .8, regularised.toString());
    assertTrue(regularised.test() > plain.test() + .15, plain + " " + regularised);
  }

  private static NoisyTraining.Snapshot train(boolean regularised) {
    try (NoisyTraining training = new NoisyTraining(regularised)) {
      training.run(40);
      return training.evaluate();
    }
  }

  @Test
  void twoLabelsInFiveAreWrong() {
    NoisyClouds.Split split = NoisyClouds.split(10, 3, 1, 5000, 100, NoisyTraining.WRONG, 7);
    NoisyClouds train = split.train();
    int wrong = 0;
    int[] shift = new int[10];
    for (int i = 0; i < train.size(); i++) {
      wrong += train.labels()[i] != train.truth()[i] ? 1 : 0;
      shift[(train.labels()[i] - train.truth()[i] + 10) % 10]++;
    }
    assertEquals(.4, wrong / 5000., .03);
    for (int s = 1; s < 10; s++) {
      assertEquals(wrong / 9., shift[s], 60, "shift " + s);
    }
    for (int i = 0; i < split.test().size(); i++) {
      assertEquals(split.test().truth()[i], split.test().labels()[i]);
    }
  }
}
