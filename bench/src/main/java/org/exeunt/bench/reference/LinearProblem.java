// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

import java.util.stream.IntStream;

/** Rows times a weight, and a residual where there is one. */
public final class LinearProblem extends Problem<float[]> {
  public final Matrix input;
  public final Matrix weight;

  /** Null: none. */
  public final Matrix residual;

  /** How the result is stored. */
  public final Storage out;

  public LinearProblem(Matrix input, Matrix weight, Matrix residual, Storage out) {
    super("linear");
    this.input = input;
    this.weight = weight;
    this.residual = residual;
    this.out = out;
  }

  /** Bytes that must move: the weight once for each 64 rows, input, output and residual. */
  @Override
  public long bytes() {
    long result = (long) out.bytes() * input.rows() * weight.rows();
    long blocks = (input.rows() + 63) / 64;
    return blocks * weight.bytes() + input.bytes() + (residual == null ? 1 : 2) * result;
  }

  /** Multiply-adds of the product. */
  @Override
  public long multiplyAdds() {
    return (long) input.rows() * weight.rows() * weight.cols();
  }

  /** Throws unless {@code result}, row-major, is right. */
  @Override
  public void check(float[] result) {
    int n = weight.rows();
    Check.length("elements", input.rows() * n, result.length);
    IntStream.range(0, input.rows()).parallel().forEach(r -> {
      double[] y = times(weight, Rows.row(input, r));
      for (int i = 0; i < n; i++) {
        double expected = y[i] + (residual == null ? 0 : residual.values()[r * n + i]);
        Check.close("out", r * n + i, expected, result[r * n + i], Check.tolerance(out), 1);
      }
    });
  }

  static double[] times(Matrix weight, double[] x) {
    double[] y = new double[weight.rows()];
    for (int o = 0; o < y.length; o++) {
      for (int i = 0; i < x.length; i++) {
        y[o] += x[i] * weight.values()[o * x.length + i];
      }
    }
    return y;
  }
}
