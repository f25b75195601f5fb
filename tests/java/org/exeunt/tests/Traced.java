// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Expected.F32;
import static org.exeunt.tests.Expected.sumError;

import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.Norm;
import org.exeunt.Rope;

/**
 * A row of numbers in double on its way through an op, and how far an implementation in f32 may be
 * from each: by an error of its own, independent of the others, and by one in common, from a factor
 * or a shift that all elements of the row share.
 */
final class Traced {
  /**
   * Errors that do not conspire add as the root of their squares; four times that is not reached.
   */
  private static final double INDEPENDENT = 4;

  final double[] x;
  final double[] own;
  final double[] common;

  private Traced(int size) {
    this(new double[size]);
  }

  /** Exact numbers. */
  Traced(double[] exact) {
    x = exact;
    own = new double[x.length];
    common = new double[x.length];
  }

  int size() {
    return x.length;
  }

  double error(int i) {
    return own[i] + common[i];
  }

  /** Element i once stored; {@code exact}: every step before was exact in f32. */
  Expected stored(DType dtype, int i, boolean exact) {
    if (exact) {
      return new Expected(HostTensor.rounded(dtype, x[i]), 0);
    }
    // Beside an infinity a norm gives exact zeros, though no bound can be derived.
    double error = Double.isFinite(error(i)) ? error(i) : 0;
    return Expected.stored(dtype, x[i], error);
  }

  Expected[] stored(DType dtype, boolean exact) {
    Expected[] all = new Expected[size()];
    Arrays.setAll(all, i -> stored(dtype, i, exact));
    return all;
  }

  /** The norm of exact numbers. */
  Traced norm(Norm.Kind kind, double eps, HostTensor weight, HostTensor bias) {
    switch (kind) {
      case RMS:
        return rms(eps, weight);
      case LAYER:
        return layer(eps, weight, bias);
      default:
        return this;
    }
  }

  /**
   * Rounded to a 16-bit type, an element within its error of a boundary to either side; f32 stays.
   */
  Traced rounded(DType dtype) {
    if (dtype.bytes() > 2) {
      return this;
    }
    Traced y = new Traced(size());
    for (int i = 0; i < size(); i++) {
      double middle = HostTensor.rounded(dtype, x[i]);
      double low = HostTensor.rounded(dtype, x[i] - error(i));
      double high = HostTensor.rounded(dtype, x[i] + error(i));
      y.x[i] = middle;
      y.own[i] = Math.max(high - middle, middle - low);
    }
    return y;
  }

  private Traced rms(double eps, HostTensor weight) {
    int n = size();
    double square = 0;
    for (double v : x) {
      square += v * v / n;
    }
    double scale = 1 / Math.sqrt(square + eps);
    double relative = F32 * (0.5 * sumError(n) + 4);
    Traced y = new Traced(n);
    for (int i = 0; i < n; i++) {
      y.x[i] = x[i] * scale * weight.at(i);
      y.own[i] = 3 * F32 * Math.abs(y.x[i]);
      y.common[i] = relative * Math.abs(y.x[i]);
    }
    return y;
  }

  private Traced layer(double eps, HostTensor weight, HostTensor bias) {
    int n = size();
    double mean = 0;
    double magnitude = 0;
    for (double v : x) {
      mean += v / n;
      magnitude += Math.abs(v) / n;
    }
    double shift = F32 * (sumError(n) * magnitude + Math.abs(mean));
    double square = 0;
    double moved = shift * shift; // by an error of the mean, whose first order cancels
    for (double v : x) {
      double d = v - mean;
      square += d * d / n;
      moved += 2 * Math.abs(d) * F32 * (Math.abs(v) + Math.abs(mean)) / n;
    }
    double variance = square + eps;
    double scale = 1 / Math.sqrt(variance);
    double relative = F32 * (0.5 * sumError(n) + 4) + 0.5 * moved / variance;
    Traced y = new Traced(n);
    for (int i = 0; i < n; i++) {
      double w = scale * weight.at(i);
      double scaled = (x[i] - mean) * w;
      y.x[i] = bias == null ? scaled : scaled + bias.at(i);
      double subtraction = F32 * (Math.abs(x[i]) + Math.abs(mean)) * Math.abs(w);
      y.own[i] = subtraction + F32 * (3 * Math.abs(scaled) + Math.abs(y.x[i]));
      y.common[i] = relative * Math.abs(scaled) + shift * Math.abs(w);
    }
    return y;
  }

  /** {@code W x + bias}; the bias may be null. */
  Traced times(double[][] weight, HostTensor bias) {
    Traced y = new Traced(weight.length);
    for (int i = 0; i < weight.length; i++) {
      double magnitude = 0;
      double independent = 0;
      double[] w = weight[i];
      for (int j = 0; j < w.length; j++) {
        double term = w[j] * x[j];
        y.x[i] += term;
        magnitude += Math.abs(term);
        independent += w[j] * w[j] * own[j] * own[j];
        y.common[i] += Math.abs(w[j]) * common[j];
      }
      y.own[i] = F32 * sumError(w.length) * magnitude + INDEPENDENT * Math.sqrt(independent);
    }
    return bias == null ? y : y.plus(bias.row(0));
  }

  Traced plus(double[] exact) {
    Traced y = new Traced(size());
    for (int i = 0; i < size(); i++) {
      y.x[i] = x[i] + exact[i];
      y.own[i] = own[i] + F32 * Math.abs(y.x[i]);
      y.common[i] = common[i];
    }
    return y;
  }

  Traced times(Traced other) {
    Traced y = new Traced(size());
    for (int i = 0; i < size(); i++) {
      double a = Math.abs(x[i]);
      double b = Math.abs(other.x[i]);
      y.x[i] = x[i] * other.x[i];
      y.own[i] = a * other.own[i] + b * own[i] + error(i) * other.error(i) + F32 * a * b;
      y.common[i] = a * other.common[i] + b * common[i];
    }
    return y;
  }

  /** Rotates the head that begins at {@code first} by a row of the table. */
  void rotate(int first, HostTensor table, int position, Rope.Style style) {
    int pairs = (int) table.shape[1];
    for (int i = 0; i < pairs; i++) {
      int a = first + (style == Rope.Style.HALF ? i : 2 * i);
      int b = first + (style == Rope.Style.HALF ? i + pairs : 2 * i + 1);
      double cos = table.at((position * pairs + i) * 2);
      double sin = table.at((position * pairs + i) * 2 + 1);
      Traced pair = new Traced(new double[] {x[a], x[b]});
      System.arraycopy(new double[] {own[a], own[b]}, 0, pair.own, 0, 2);
      System.arraycopy(new double[] {common[a], common[b]}, 0, pair.common, 0, 2);
      turn(a, pair, 0, cos, 1, -sin);
      turn(b, pair, 1, cos, 0, sin);
    }
  }

  private void turn(int to, Traced pair, int i, double u, int j, double v) {
    double left = pair.x[i] * u;
    double right = pair.x[j] * v;
    x[to] = left + right;
    double rounding = Math.abs(left) + Math.abs(right) + Math.abs(x[to]);
    own[to] = pair.own[i] * Math.abs(u) + pair.own[j] * Math.abs(v) + F32 * rounding;
    common[to] = pair.common[i] * Math.abs(u) + pair.common[j] * Math.abs(v);
  }

  /** Cosine of exact numbers with these. */
  Expected cosine(double[] exact) {
    int n = size();
    double aa = 0;
    double bb = 0;
    double ab = 0;
    double magnitude = 0;
    for (int i = 0; i < n; i++) {
      aa += exact[i] * exact[i];
      bb += x[i] * x[i];
      ab += exact[i] * x[i];
      magnitude += Math.abs(exact[i] * x[i]);
    }
    if (Double.isNaN(ab)) {
      return Expected.NAN;
    }
    if (aa == 0 || bb == 0) {
      return Expected.ZERO;
    }
    double a = Math.sqrt(aa);
    double b = Math.sqrt(bb);
    double cosine = ab / (a * b);
    double independent = 0;
    double together = 0;
    for (int i = 0; i < n; i++) {
      double slope = Math.abs(exact[i] / a - cosine * x[i] / b) / b;
      independent += slope * slope * own[i] * own[i];
      together += slope * common[i];
    }
    double sums = F32 * sumError(n) * (magnitude / (a * b) + Math.abs(cosine));
    double bound = sums + INDEPENDENT * Math.sqrt(independent) + together;
    return new Expected(cosine, bound + Expected.smallest(DType.F32));
  }
}
