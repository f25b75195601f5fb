// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

/**
 * When a token leaves before the last layer: where the most probable token that the head sees in
 * its state has at least {@code probability}. The layers above get its keys and values from that
 * state.
 *
 * @param probability above 0, at most 1
 * @param first layers that every token runs, at least 1
 * @param stride layers between two looks, at least 1
 */
public record Exit(float probability, int first, int stride) {
  /** Refuses what makes no sense. */
  public Exit {
    if (!(probability > 0 && probability <= 1)) {
      throw new IllegalArgumentException(
          "probability is " + probability + ", expected one above 0, at most 1");
    }
    if (first < 1 || stride < 1) {
      throw new IllegalArgumentException(
          "first is " + first + ", stride " + stride + ", expected at least 1");
    }
  }

  /** Whether the head is read after so many layers. */
  boolean looks(int depth, int layers) {
    return depth < layers && depth >= first && (depth - first) % stride == 0;
  }
}
