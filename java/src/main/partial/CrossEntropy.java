// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

/**
 * Cross-entropy {@code -ln p_y} of StableMax or softmax, with the gradient in the same pass:
 * {@code dL/dz_i = g'(z_i) (p_i - [i = y])}, {@code g'(x) = 1 / (1 + |x|)} for StableMax and 1 for
 * softmax. Prieto et al. 2025, "Grokking at the Edge of Numerical Stability", in the form that
 * {@link StableMax} describes.
 *
 * <p>{@link Reduction#MEAN} divides loss and gradient by the number of labels that are not ignored;
 * if all are, the loss is NaN and the gradient 0. A label outside the vocabulary that is not the
 * ignored one is an {@link IllegalArgumentException} on the CPU, with nothing written, and on CUDA
 * gives NaN for that row and the mean. A row with a NaN or +inf, or with nothing but -inf, gives
 * NaN loss and gradient. Reductions are f64 for F64 storage, else f32. Bytes that must move: {@code
 * R V} elements read, and written if a gradient is asked for.
 *
 * <p>Errors, threads, alignment: {@link Op}. The gradient may be exactly the logits (in place).
 */
public final class CrossEntropy extends Op {
  /** How the rows' losses are combined. */
  public enum Reduction {
    /** One loss for each row; the gradient is that of their sum. */
    NONE(exeunt.EXN_REDUCE_NONE),
    /** The mean over labels that are not ignored. */
    MEAN(exeunt.EXN_REDUCE_MEAN);

    final int code;

    Reduction(int code) {
      this.code = code;
    }
  }

  public static final class Builder extends Op.Builder<CrossEntropy> {
    private long ignoreIndex = -100;
    private Normalizer normalizer = Normalizer.SOFTMAX;
    private Reduction reduction = Reduction.MEAN;
  }
}
