// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

/** The row formulas in double precision, written as the headers of the C ABI state them. */
final class Rows {
  private Rows() {}

  static double score(Normalizer normalizer, double z, double max) {
    if (normalizer == Normalizer.SOFTMAX) {
      return Math.exp(z - max);
    }
    return z >= 0 ? z + 1 : 1 / (1 - z);
  }

  static int argmax(double[] z) {
    int argmax = 0;
    for (int i = 1; i < z.length; i++) {
      argmax = z[i] > z[argmax] ? i : argmax;
    }
    return argmax;
  }

  /** The logarithm of the sum of scores relative to {@code max} (softmax) or as such. */
  static double logSum(Normalizer normalizer, double[] z, double max) {
    double sum = 0;
    for (double value : z) {
      sum += score(normalizer, value, max);
    }
    return Math.log(sum);
  }

  static double[] probabilities(Normalizer normalizer, double[] z) {
    double max = z[argmax(z)];
    double logSum = logSum(normalizer, z, max);
    double[] p = new double[z.length];
    for (int i = 0; i < z.length; i++) {
      p[i] = score(normalizer, z[i], max) / Math.exp(logSum);
    }
    return p;
  }

  static double[] row(Matrix matrix, int row) {
    double[] z = new double[matrix.cols()];
    for (int i = 0; i < z.length; i++) {
      z[i] = matrix.values()[row * z.length + i];
    }
    return z;
  }

  /**
   * Throws unless the statistics of row {@code row} are those of the logits {@code z}, which
   * belong to the vocabulary ids given (null: to all of them in order).
   */
  static void check(
      Normalizer normalizer, double[] z, int[] ids, int row, RowStats actual, double tolerance) {
    int best = argmax(z);
    double[] p = probabilities(normalizer, z);
    double p2 = 0;
    double entropy = 0;
    double squares = 0;
    double sumLog = 0;
    for (int i = 0; i < p.length; i++) {
      p2 = i == best ? p2 : Math.max(p2, p[i]);
      entropy -= p[i] > 0 ? p[i] * Math.log(p[i]) : 0;
      squares += p[i] * p[i];
      sumLog += Math.log(p[i]);
    }
    Check.same("argmax", row, ids == null ? best : ids[best], actual.argmax[row]);
    Check.close("p1", row, p[best], actual.p1[row], tolerance, 0);
    // A margin is the difference of two probabilities, so its error is relative to those.
    Check.close("margin", row, p[best] - p2, actual.margin[row], tolerance, p[best]);
    Check.close("entropy", row, entropy, actual.entropy[row], tolerance, 1e-1);
    if (actual.lse == null) {
      return;
    }
    double pow2Entropy = 0;
    for (double value : p) {
      double q = value * value / squares;
      pow2Entropy -= q > 0 ? q * Math.log(q) : 0;
    }
    double max = normalizer == Normalizer.SOFTMAX ? z[best] : 0;
    Check.close("max_logit", row, z[best], actual.maxLogit[row], tolerance, 1);
    Check.close("lse", row, max + logSum(normalizer, z, max), actual.lse[row], tolerance, 1);
    Check.close("p2", row, p2, actual.p2[row], tolerance, 0);
    Check.close("pow2_entropy", row, pow2Entropy, actual.pow2Entropy[row], tolerance, 1e-1);
    Check.close("mean_log_p", row, sumLog / p.length, actual.meanLogP[row], tolerance, 1);
  }
}
