// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import org.exeunt.Normalizer;

/**
 * A softmax over x = z or x = ln s(z), in double, and what statistics and error bounds are made of.
 */
final class Scores {
  final double[] x;
  final double[] p;
  double top = Double.NEGATIVE_INFINITY;
  double lse;

  /** {@code sum p (top - x)}. */
  double spread;

  double entropy;

  /** {@code sum p |ln p + H|}: how the entropy answers to errors of x. */
  double entropySlope;

  /** Largest error of an x as its weight has it. */
  final double error;

  /** What taking a logarithm adds to it. */
  final double logError;

  /** Relative error of the sum of weights. */
  final double sumBound;

  Scores(double[] x, double power, double error, double logError, double u) {
    this.x = x;
    this.error = error;
    this.logError = logError;
    p = new double[x.length];
    double largest = Double.NEGATIVE_INFINITY;
    for (double v : x) {
      largest = Math.max(largest, v);
    }
    top = power * largest;
    double sum = 0;
    for (int j = 0; j < x.length; j++) {
      p[j] = Math.exp(power * (x[j] - largest));
      sum += p[j];
    }
    double logSum = Math.log(sum);
    lse = top + logSum;
    for (int j = 0; j < x.length; j++) {
      p[j] /= sum;
      spread += p[j] > 0 ? p[j] * power * (largest - x[j]) : 0;
    }
    entropy = logSum + spread;
    for (int j = 0; j < x.length; j++) {
      entropySlope += p[j] > 0 ? p[j] * Math.abs(power * (x[j] - largest) - logSum + entropy) : 0;
    }
    // In f64 the weights of StableMax are taken from their logarithms.
    sumBound =
        u == Expected.F32
            ? Expected.STATS + 2 * error
            : u * (Expected.sumError(x.length) + 2 * spread) + 2 * (error + logError);
  }

  /** Of logits that carry no error of their own. */
  static Scores of(double[] z, Normalizer normalizer, double u) {
    if (normalizer == Normalizer.SOFTMAX) {
      return new Scores(z, 1, 0, 0, u);
    }
    double[] x = new double[z.length];
    double error = 0;
    for (int j = 0; j < z.length; j++) {
      x[j] = logS(z[j]);
      error =
          z[j] == Double.NEGATIVE_INFINITY ? error : Math.max(error, 2 * u * (Math.abs(x[j]) + 1));
    }
    return new Scores(x, 1, 0, error, u);
  }

  /** {@code ln s(z)} of StableMax, where -inf stands for a logit that is left out. */
  static double logS(double z) {
    if (z == Double.NEGATIVE_INFINITY) {
      return z;
    }
    return z >= 0 ? Math.log1p(z) : -Math.log1p(-z);
  }

  static boolean valid(double[] z) {
    boolean finite = false;
    for (double v : z) {
      if (Double.isNaN(v) || v == Double.POSITIVE_INFINITY) {
        return false;
      }
      finite |= v != Double.NEGATIVE_INFINITY;
    }
    return finite;
  }

  double probabilityBound(int j, double u) {
    return p[j] == 0 && x[j] == Double.NEGATIVE_INFINITY
        ? 0
        : p[j] * (sumBound + u * ((u == Expected.F32 ? 0 : 4) + 2 * (top - x[j])));
  }

  double logBound(int j, double u) {
    return sumBound + 2 * logError + u * 2 * (Math.abs(x[j] - top) + Math.abs(x[j] - lse));
  }

  double entropyBound() {
    return Expected.STATS * (1 + entropy) + 2 * error * entropySlope + 2 * logError;
  }
}
