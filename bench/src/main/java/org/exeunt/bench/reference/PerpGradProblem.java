// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

/** A gradient without its part along the weights, norm restored as the official code does. */
public final class PerpGradProblem extends Problem<float[]> {
  public final Matrix weight;
  public final Matrix grad;

  public PerpGradProblem(Matrix weight, Matrix grad) {
    super("perp_grad");
    this.weight = weight;
    this.grad = grad;
  }

  /** Bytes that must be read (twice) and written. */
  @Override
  public long bytes() {
    return 5 * weight.bytes();
  }

  /** Throws unless the projected gradient, widened to f32, is right. */
  @Override
  public void check(float[] out) {
    Check.length("gradient", grad.values().length, out.length);
    double wg = 0;
    double ww = 0;
    double gg = 0;
    for (int i = 0; i < out.length; i++) {
      double w = weight.values()[i];
      double g = grad.values()[i];
      wg += w * g;
      ww += w * w;
      gg += g * g;
    }
    double projection = wg / (ww + 1e-30);
    double perp = 0;
    for (int i = 0; i < out.length; i++) {
      double g = grad.values()[i] - projection * weight.values()[i];
      perp += g * g;
    }
    double scale = Math.sqrt(gg) / (Math.sqrt(perp) + 1e-30);
    double tolerance = Check.tolerance(grad.storage());
    for (int i = 0; i < out.length; i++) {
      double expected = (grad.values()[i] - projection * weight.values()[i]) * scale;
      Check.close("gradient", i, expected, out[i], tolerance, 1);
    }
  }
}
