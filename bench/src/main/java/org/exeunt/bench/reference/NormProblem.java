// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

/** RMSNorm, or LayerNorm where there is a bias, of the rows of a matrix. */
public final class NormProblem extends Problem<float[]> {
  public final Matrix input;

  /** In f32. */
  public final Matrix weight;

  /** In f32; null: RMSNorm. */
  public final Matrix bias;

  public final float eps;

  public NormProblem(Matrix input, Matrix weight, Matrix bias, float eps) {
    super("norm");
    this.input = input;
    this.weight = weight;
    this.bias = bias;
    this.eps = eps;
  }

  /** The weights of the case tables: around 1, from a stream of their own. */
  public static Matrix weight(int width, int seed, int stream) {
    Words words = new Words(seed, stream);
    return Matrix.of(1, width, Storage.F32, i -> 1 + words.bell(i) / 4);
  }

  /** Bytes that must move. */
  @Override
  public long bytes() {
    return 2 * input.bytes();
  }

  /** Throws unless {@code out}, row-major, is right. */
  @Override
  public void check(float[] out) {
    int width = input.cols();
    Check.length("elements", input.rows() * width, out.length);
    for (int r = 0; r < input.rows(); r++) {
      double[] y = normed(Rows.row(input, r), weight, bias, eps);
      for (int i = 0; i < width; i++) {
        Check.close(
            "out", r * width + i, y[i], out[r * width + i], Check.tolerance(input.storage()), 1);
      }
    }
  }

  static double[] normed(double[] x, Matrix weight, Matrix bias, double eps) {
    double mean = 0;
    for (double v : x) {
      mean += bias == null ? 0 : v / x.length;
    }
    double square = 0;
    for (double v : x) {
      square += (v - mean) * (v - mean) / x.length;
    }
    double[] y = new double[x.length];
    for (int i = 0; i < x.length; i++) {
      y[i] = (x[i] - mean) / Math.sqrt(square + eps) * weight.values()[i]
          + (bias == null ? 0 : bias.values()[i]);
    }
    return y;
  }
}
