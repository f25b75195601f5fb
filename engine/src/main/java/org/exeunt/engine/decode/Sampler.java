// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import java.nio.FloatBuffer;
import java.util.Arrays;
import java.util.SplittableRandom;

/**
 * Draws tokens from logits: a temperature, then the nucleus (top-p; Holtzman et al. 2020), the
 * smallest set of most probable tokens whose probabilities reach {@code topP}.
 *
 * <p>The same seed gives the same draws. One per sequence; allocates nothing while it draws.
 */
public final class Sampler {
  private final double temperature;
  private final double topP;
  private final SplittableRandom random;
  private final float[] weight;
  private final long[] order;

  /**
   * @param vocabulary number of logits
   * @param temperature divides the logits; positive
   * @param topP probability to keep, above 0; 1 keeps all
   * @param seed of the draws
   */
  public Sampler(int vocabulary, double temperature, double topP, long seed) {
    if (!(temperature > 0) || !(topP > 0 && topP <= 1)) {
      throw new IllegalArgumentException("temperature " + temperature + " must be above 0, and "
          + "top-p " + topP + " above 0 and at most 1");
    }
    this.temperature = temperature;
    this.topP = topP;
    random = new SplittableRandom(seed);
    weight = new float[vocabulary];
    order = new long[vocabulary];
  }

  /** The token drawn; a NaN is never drawn, and equal logits go by index. */
  public int draw(FloatBuffer logits) {
    double sum = weigh(logits);
    if (topP >= 1) {
      return pick(weight.length, sum, true);
    }
    int kept = sortCandidates(sum);
    double nucleus = 0;
    int size = 0;
    while (size < kept && nucleus < topP * sum) {
      nucleus += weight[index(size++)];
    }
    return pick(size, nucleus, false);
  }

  /** Fills {@link #weight} with exp((z - max) / temperature) and returns the sum. */
  private double weigh(FloatBuffer logits) {
    logits.get(0, weight);
    float max = Float.NEGATIVE_INFINITY;
    for (float logit : weight) {
      max = logit > max ? logit : max;
    }
    double sum = 0;
    for (int i = 0; i < weight.length; i++) {
      double w = Math.exp((weight[i] - max) / temperature);
      weight[i] = w > 0 ? (float) w : 0;
      sum += weight[i];
    }
    return sum;
  }

  /**
   * Sorts the tokens that can be in the nucleus, the most probable first, and returns their number.
   * Those below (1 - p) / n cannot: all of them together do not reach 1 - p.
   */
  private int sortCandidates(double sum) {
    double least = (1 - topP) / weight.length * sum;
    int kept = 0;
    for (int i = 0; i < weight.length; i++) {
      if (weight[i] >= least) {
        // Positive floats order like their bits; inverted, so that the largest comes first.
        order[kept++] = (long) ~Float.floatToRawIntBits(weight[i]) << 32 | i;
      }
    }
    Arrays.sort(order, 0, kept);
    return kept;
  }

  private int index(int rank) {
    return (int) order[rank];
  }

  private int pick(int count, double total, boolean inOrder) {
    double left = random.nextDouble() * total;
    int token = inOrder ? 0 : index(0);
    for (int i = 0; i < count; i++) {
      int candidate = inOrder ? i : index(i);
      if (weight[candidate] > 0) {
        token = candidate;
        left -= weight[candidate];
        if (left < 0) {
          break;
        }
      }
    }
    return token;
  }
}
