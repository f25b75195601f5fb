// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.demo.noise;

import java.util.Random;
import org.exeunt.engine.train.Matrix;

/**
 * Points of Gaussian clouds, one cloud for each class.
 *
 * @param points a row each
 * @param labels what the data say
 * @param truth the clouds that the points are of
 */
public record NoisyClouds(Matrix points, int[] labels, int[] truth) {
  /** Points to learn from, some of whose labels are wrong, and points to test with. */
  public record Split(NoisyClouds train, NoisyClouds test) {}

  /**
   * Draws clouds of deviation 1 about centres that lie {@code distance} times as far apart, and
   * points of each in turn; a share of the training labels is then another class, any with the same
   * chance.
   */
  public static Split split(
      int classes, int width, double distance, int trained, int tested, double wrong, long seed) {
    Random random = new Random(seed);
    double[][] centres = new double[classes][width];
    for (double[] centre : centres) {
      for (int i = 0; i < width; i++) {
        centre[i] = distance * random.nextGaussian();
      }
    }
    NoisyClouds train = of(centres, trained, random);
    for (int i = 0; i < trained; i++) {
      if (random.nextDouble() < wrong) {
        train.labels[i] = (train.truth[i] + 1 + random.nextInt(classes - 1)) % classes;
      }
    }
    return new Split(train, of(centres, tested, random));
  }

  private static NoisyClouds of(double[][] centres, int size, Random random) {
    int[] truth = new int[size];
    Matrix points = new Matrix(size, centres[0].length);
    float[] row = new float[centres[0].length];
    for (int i = 0; i < size; i++) {
      truth[i] = i % centres.length;
      for (int j = 0; j < row.length; j++) {
        row[j] = (float) (centres[truth[i]][j] + random.nextGaussian());
      }
      points.setRow(i, row);
    }
    return new NoisyClouds(points, truth.clone(), truth);
  }

  /** Number of points. */
  public int size() {
    return labels.length;
  }
}
