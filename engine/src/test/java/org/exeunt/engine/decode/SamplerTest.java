// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.FloatBuffer;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class SamplerTest {
  private static final int DRAWS = 20_000;

  private static int[] histogram(Sampler sampler, float... logits) {
    int[] counts = new int[logits.length];
    FloatBuffer buffer = FloatBuffer.wrap(logits);
    for (int i = 0; i < DRAWS; i++) {
      counts[sampler.draw(buffer)]++;
    }
    return counts;
  }

  private static float[] logitsOf(double... probabilities) {
    float[] logits = new float[probabilities.length];
    for (int i = 0; i < logits.length; i++) {
      logits[i] = (float) (Math.log(probabilities[i]) + 3);
    }
    return logits;
  }

  /** Five standard deviations of a binomial count. */
  private static void assertShare(double expected, int count) {
    double deviation = Math.sqrt(DRAWS * expected * (1 - expected));
    assertEquals(DRAWS * expected, count, 5 * deviation + 1e-9);
  }

  @Test
  void drawsByProbability() {
    int[] counts = histogram(new Sampler(4, 1, 1, 1), logitsOf(.5, .3, .15, .05));
    assertShare(.5, counts[0]);
    assertShare(.3, counts[1]);
    assertShare(.15, counts[2]);
    assertShare(.05, counts[3]);
  }

  @Test
  void temperatureSharpensOrFlattens() {
    int[] sharp = histogram(new Sampler(2, .5, 1, 1), logitsOf(.75, .25));
    assertShare(.9, sharp[0]); // 9 : 1
    int[] flat = histogram(new Sampler(2, 2, 1, 1), logitsOf(.75, .25));
    assertShare(Math.sqrt(3) / (1 + Math.sqrt(3)), flat[0]);
  }

  @Test
  void theNucleusIsTheSmallestSetThatReachesP() {
    int[] counts = histogram(new Sampler(4, 1, .7, 1), logitsOf(.15, .5, .05, .3));
    assertEquals(0, counts[0]);
    assertEquals(0, counts[2]);
    assertShare(.5 / .8, counts[1]);
    assertShare(.3 / .8, counts[3]);
    int[] top = histogram(new Sampler(4, 1, 1e-9, 1), logitsOf(.15, .5, .05, .3));
    assertEquals(DRAWS, top[1]);
  }

  @Test
  void equalLogitsGoByIndex() {
    int[] counts = histogram(new Sampler(3, 1, .3, 1), 1, 1, 1);
    assertEquals(DRAWS, counts[0]);
  }

  @Test
  void whatIsNoNumberIsNeverDrawn() {
    float none = Float.NEGATIVE_INFINITY;
    int[] counts = histogram(new Sampler(4, 1, 1, 1), Float.NaN, 0, none, 0);
    assertEquals(DRAWS, counts[1] + counts[3]);
    assertTrue(counts[1] > 0 && counts[3] > 0);
  }

  @Test
  void theSameSeedDrawsTheSame() {
    float[] logits = logitsOf(IntStream.range(0, 50).mapToDouble(i -> .02).toArray());
    assertArrayEquals(histogram(new Sampler(50, 1, .9, 42), logits),
        histogram(new Sampler(50, 1, .9, 42), logits));
  }

  @Test
  void senselessSettingsAreRefused() {
    assertThrows(IllegalArgumentException.class, () -> new Sampler(4, 0, 1, 1));
    assertThrows(IllegalArgumentException.class, () -> new Sampler(4, Double.NaN, 1, 1));
    assertThrows(IllegalArgumentException.class, () -> new Sampler(4, 1, 0, 1));
    assertThrows(IllegalArgumentException.class, () -> new Sampler(4, 1, 1.01, 1));
  }
}
