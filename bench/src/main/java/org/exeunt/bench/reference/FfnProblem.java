// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

import java.util.stream.IntStream;

/**
 * A feed-forward block behind a norm, with its residual: SwiGLU with RMSNorm or, where there is no
 * gate, GELU with LayerNorm and biases.
 */
public final class FfnProblem extends Problem<FfnResult> {
  /** What is wanted beside the output. */
  public enum Extra {
    /** Nothing. */
    NONE,
    /** The cosines of input and output, and of input and branch. */
    COSINES,
    /** The cosines, and the decision who skips the next block. */
    DECISION
  }

  public final Matrix hidden;
  public final Matrix normWeight;

  /** Null: RMSNorm. */
  public final Matrix normBias;

  public final float eps;

  /** Null: GELU without a gate. */
  public final Matrix gate;

  public final Matrix up;
  public final Matrix down;

  /** Null, like the next: no biases. */
  public final Matrix upBias;

  public final Matrix downBias;

  /** Rows that pass by; null: none. */
  public final boolean[] skip;

  public final Extra extra;

  /** A block with the weights of the case tables. */
  public FfnProblem(Matrix hidden, int width, Storage storage, float scale, boolean gated,
      boolean biased, float eps, boolean[] skip, Extra extra, int seed) {
    super("ffn");
    int d = hidden.cols();
    this.hidden = hidden;
    this.eps = eps;
    this.skip = skip;
    this.extra = extra;
    normWeight = NormProblem.weight(d, seed, 4);
    normBias = gated ? null : Matrix.normal(1, d, Storage.F32, 0.25f, seed, 5);
    gate = gated ? Matrix.normal(width, d, storage, scale, seed, 1) : null;
    up = Matrix.normal(width, d, storage, scale, seed, 2);
    down = Matrix.normal(d, width, storage, scale, seed, 3);
    upBias = biased ? Matrix.normal(1, width, Storage.F32, 0.125f, seed, 7) : null;
    downBias = biased ? Matrix.normal(1, d, Storage.F32, 0.125f, seed, 8) : null;
  }

  private boolean skips(int row) {
    return skip != null && skip[row];
  }

  private long running() {
    return IntStream.range(0, hidden.rows()).filter(r -> !skips(r)).count();
  }

  /** Bytes that must move: the weights once for each 64 rows that run, input and output. */
  @Override
  public long bytes() {
    long weights = up.bytes() + down.bytes() + (gate == null ? 0 : gate.bytes());
    return (running() + 63) / 64 * weights + 2 * hidden.bytes();
  }

  /** Multiply-adds of the projections of the rows that run. */
  @Override
  public long multiplyAdds() {
    return running() * (gate == null ? 2 : 3) * up.rows() * up.cols();
  }

  @Override
  public void check(FfnResult result) {
    int d = hidden.cols();
    Check.length("elements", hidden.rows() * d, result.out().length);
    IntStream.range(0, hidden.rows()).parallel().forEach(r -> {
      double[] x = Rows.row(hidden, r);
      double[] out = skips(r) ? x : block(x);
      double xx = 0;
      double yy = 0;
      double xy = 0;
      for (int i = 0; i < d; i++) {
        Check.close("out", r * d + i, out[i], result.out()[r * d + i],
            Check.tolerance(hidden.storage()), 1);
        xx += x[i] * x[i];
        yy += out[i] * out[i];
        xy += x[i] * out[i];
      }
      if (result.cosine() != null && !skips(r)) {
        Check.close("cosine", r, xy / Math.sqrt(xx * yy), result.cosine()[r], 1e-4, 1);
      }
    });
  }

  private double[] block(double[] hiddenRow) {
    double[] x = NormProblem.normed(hiddenRow, normWeight, normBias, eps);
    double[] a = LinearProblem.times(up, x);
    add(a, upBias);
    double[] g = gate == null ? null : LinearProblem.times(gate, x);
    for (int i = 0; i < a.length; i++) {
      a[i] = g == null ? gelu(a[i]) : g[i] / (1 + Math.exp(-g[i])) * a[i];
    }
    double[] out = LinearProblem.times(down, a);
    add(out, downBias);
    for (int i = 0; i < out.length; i++) {
      out[i] += hiddenRow[i];
    }
    return out;
  }

  private static void add(double[] y, Matrix bias) {
    for (int i = 0; bias != null && i < y.length; i++) {
      y[i] += bias.values()[i];
    }
  }

  private static double gelu(double z) {
    return z / 2 * (1 + erf(z / Math.sqrt(2)));
  }

  /** To about 1e-7: Abramowitz and Stegun 7.1.26. */
  public static double erf(double x) {
    double t = 1 / (1 + 0.3275911 * Math.abs(x));
    double poly =
        ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592)
        * t;
    return Math.signum(x) * (1 - poly * Math.exp(-x * x));
  }
}
