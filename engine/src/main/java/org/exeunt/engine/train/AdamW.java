// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.train;

import java.util.List;

/** AdamW in f32, weight decay 0. */
public final class AdamW {
  private final float rate;
  private final float beta1;
  private final float beta2;
  private final float epsilon;
  private final List<Matrix> weights;
  private final float[][] mean;
  private final float[][] square;
  private int step;

  /** An optimiser of these weights, which it changes. */
  public AdamW(List<Matrix> weights, float rate, float beta1, float beta2, float epsilon) {
    this.weights = weights;
    this.rate = rate;
    this.beta1 = beta1;
    this.beta2 = beta2;
    this.epsilon = epsilon;
    mean = weights.stream().map(w -> new float[w.rows() * w.columns()]).toArray(float[][] ::new);
    square = weights.stream().map(w -> new float[w.rows() * w.columns()]).toArray(float[][] ::new);
  }

  /** Moves every weight against its gradient. */
  public void step(List<Matrix> gradients) {
    step++;
    for (int i = 0; i < weights.size(); i++) {
      update(weights.get(i), gradients.get(i), mean[i], square[i]);
    }
  }

  private void update(Matrix weight, Matrix gradient, float[] mean, float[] square) {
    float stepSize = (float) (rate / (1 - Math.pow(beta1, step)));
    float correction = (float) Math.sqrt(1 - Math.pow(beta2, step));
    float[] w = new float[weight.columns()];
    float[] g = new float[weight.columns()];
    for (int row = 0; row < weight.rows(); row++) {
      weight.getRow(row, w);
      gradient.getRow(row, g);
      for (int j = 0, k = row * w.length; j < w.length; j++, k++) {
        mean[k] = beta1 * mean[k] + (1 - beta1) * g[j];
        square[k] = beta2 * square[k] + (1 - beta2) * g[j] * g[j];
        w[j] -= stepSize * mean[k] / ((float) Math.sqrt(square[k]) / correction + epsilon);
      }
      weight.setRow(row, w);
    }
  }
}
