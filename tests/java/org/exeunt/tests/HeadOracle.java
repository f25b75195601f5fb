// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Expected.F32;
import static org.exeunt.tests.Expected.sumError;

import org.exeunt.DType;
import org.exeunt.ExitHead.Translate;

/** Hidden state to logits in double, with an error bound for each logit. */
final class HeadOracle {
  /**
   * Errors that do not conspire add as the root of their squares; four times that is not reached.
   */
  private static final double INDEPENDENT = 4;

  private final ExitHeadTest.Inputs in;
  private final int norm;
  private final double eps;
  private final Translate translate;
  private final boolean exact;
  private final double[][] weight;

  record Logits(double[] value, double[] error) {}

  /**
   * Takes norm 0 (none), 1 (RMS) or 2 (layer); {@code exact}: every product and sum is exact in
   * f32.
   */
  HeadOracle(ExitHeadTest.Inputs in, int norm, float eps, Translate translate, boolean exact) {
    this.in = in;
    this.norm = norm;
    this.eps = eps;
    this.translate = translate;
    this.exact = exact;
    weight = new double[in.weight.rows][];
    for (int v = 0; v < weight.length; v++) {
      weight[v] = in.weight.row(v);
    }
  }

  Logits logits(double[] hidden, long[] ids) {
    State s = new State(hidden);
    if (in.translator != null) {
      s.translate();
    }
    if (norm == 1) {
      s.rmsNorm();
    } else if (norm == 2) {
      s.layerNorm();
    }
    DType type = in.weight.dtype;
    if (in.hidden.dtype == type && type.bytes() == 2) {
      s.round(type);
    }
    int n = ids == null ? weight.length : ids.length;
    Logits z = new Logits(new double[n], new double[n]);
    for (int k = 0; k < n; k++) {
      int v = ids == null ? k : (int) ids[k];
      s.dot(weight[v], in.bias == null ? 0 : in.bias.at(v), z, k);
    }
    return z;
  }

  /**
   * A hidden state on its way to the head. Element i is off by {@code error[i]}, independent of the
   * others, by a common factor on {@code scaled} and by a common shift along {@code shifted}.
   */
  private final class State {
    private final int n;
    private double[] x;
    private double[] error;
    private double[] scaled;
    private double[] shifted;
    private double scaleError;
    private double shiftError;

    State(double[] hidden) {
      n = hidden.length;
      x = hidden.clone();
      error = new double[n];
      scaled = new double[n];
      shifted = new double[n];
    }

    private double meanSquare() {
      double sum = 0;
      for (double v : x) {
        sum += v * v;
      }
      return sum / n;
    }

    /** Relative error of {@code 1 / sqrt(mean x^2 + eps)}. */
    private double rmsError() {
      double cross = 0;
      for (int i = 0; i < n; i++) {
        cross += x[i] * x[i] * error[i] * error[i];
      }
      double total = n * (meanSquare() + eps);
      double fromX = total > 0 ? INDEPENDENT * Math.sqrt(cross) / total : 0;
      return F32 * (0.5 * sumError(n) + 4) + fromX;
    }

    void translate() {
      double inputError = 0;
      if (translate == Translate.RMS) {
        double scale = 1 / Math.sqrt(meanSquare() + eps);
        inputError = rmsError();
        for (int i = 0; i < n; i++) {
          x[i] *= scale;
        }
      }
      double[] y = new double[n];
      for (int i = 0; i < n; i++) {
        double sum = 0;
        double magnitude = 0;
        for (int j = 0; j < n; j++) {
          double term = in.translator.at(i, j) * x[j];
          sum += term;
          magnitude += Math.abs(term);
        }
        y[i] = sum + (in.translatorBias == null ? 0 : in.translatorBias.at(i));
        error[i] = F32 * (sumError(n) * magnitude + Math.abs(y[i])) + inputError * Math.abs(sum);
      }
      x = y;
    }

    void rmsNorm() {
      double scale = 1 / Math.sqrt(meanSquare() + eps);
      scaleError = rmsError();
      for (int i = 0; i < n; i++) {
        double w = in.normWeight.at(i);
        x[i] *= scale * w;
        error[i] = error[i] * scale * Math.abs(w) + 3 * F32 * Math.abs(x[i]);
      }
      scaled = x.clone();
    }

    void layerNorm() {
      double sum = 0;
      double magnitude = 0;
      double errors = 0;
      for (int i = 0; i < n; i++) {
        sum += x[i];
        magnitude += Math.abs(x[i]);
        errors += error[i] * error[i];
      }
      double mean = sum / n;
      shiftError =
          F32 * (sumError(n) * magnitude / n + Math.abs(mean))
              + INDEPENDENT * Math.sqrt(errors) / n;
      for (int i = 0; i < n; i++) {
        error[i] += F32 * (Math.abs(x[i]) + Math.abs(mean));
        x[i] -= mean;
      }
      double variance = meanSquare() + eps;
      double scale = 1 / Math.sqrt(variance);
      scaleError = rmsError() + shiftError * shiftError / variance;
      for (int i = 0; i < n; i++) {
        double w = in.normWeight.at(i);
        scaled[i] = x[i] * scale * w;
        shifted[i] = scale * w;
        x[i] = scaled[i] + (in.normBias == null ? 0 : in.normBias.at(i));
        error[i] =
            error[i] * scale * Math.abs(w) + F32 * (3 * Math.abs(scaled[i]) + Math.abs(x[i]));
      }
    }

    /**
     * Rounds to a 16-bit type; an element within its error of a boundary may land on either side.
     */
    void round(DType type) {
      for (int i = 0; i < n; i++) {
        double e = error[i] + scaleError * Math.abs(scaled[i]) + shiftError * Math.abs(shifted[i]);
        double rounded = HostTensor.rounded(type, x[i]);
        double low = HostTensor.rounded(type, x[i] - e);
        double high = HostTensor.rounded(type, x[i] + e);
        x[i] = rounded;
        error[i] = Math.max(high - rounded, rounded - low);
      }
      scaled = new double[n];
      shifted = new double[n];
    }

    void dot(double[] w, double bias, Logits z, int k) {
      double value = bias;
      double magnitude = 0;
      double independent = 0;
      double common = 0;
      double shift = 0;
      for (int i = 0; i < n; i++) {
        double term = w[i] * x[i];
        value += term;
        magnitude += Math.abs(term);
        independent += w[i] * w[i] * error[i] * error[i];
        common += w[i] * scaled[i];
        shift += w[i] * shifted[i];
      }
      z.value[k] = value;
      if (!exact && !Double.isInfinite(value)) {
        z.error[k] =
            F32 * (sumError(n) * magnitude + Math.abs(value))
                + INDEPENDENT * Math.sqrt(independent)
                + scaleError * Math.abs(common)
                + shiftError * Math.abs(shift)
                + 1e-37;
      }
    }
  }
}
