// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

/** A mean loss and the gradient of the logits, widened to f32. */
public final class LossAndGrad {
  public final float loss;
  public final float[] grad;

  public LossAndGrad(float loss, float[] grad) {
    this.loss = loss;
    this.grad = grad;
  }
}
