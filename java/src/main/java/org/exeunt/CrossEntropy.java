// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.exn_cross_entropy_params;
import org.exeunt.jni.global.exeunt;

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

  private CrossEntropy(Params params, Place place) {
    super(params, place);
  }

  /**
   * Starts building: softmax, mean, ignored label -100.
   *
   * @return an empty builder
   */
  public static Builder builder() {
    return new Builder();
  }

  @Override
  int supported(long params) {
    return exeunt.exn_cross_entropy_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_cross_entropy_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_cross_entropy(params, workspace, workspaceBytes, stream);
  }

  /** Arguments of {@link CrossEntropy}. */
  public static final class Builder extends Op.Builder<CrossEntropy> {
    private Tensor logits;
    private Tensor labels;
    private Tensor loss;
    private Tensor grad;
    private long ignoreIndex = -100;
    private Normalizer normalizer = Normalizer.SOFTMAX;
    private Reduction reduction = Reduction.MEAN;

    private Builder() {}

    /**
     * The logits.
     *
     * @param tensor in, [R,V], F64, F32, F16 or BF16, last stride 1; V at least 1, R may be 0
     * @return this
     */
    public Builder logits(Tensor tensor) {
      logits = tensor;
      return this;
    }

    /**
     * The right answers.
     *
     * @param tensor in, [R], I32 or I64, compact
     * @return this
     */
    public Builder labels(Tensor tensor) {
      labels = tensor;
      return this;
    }

    /**
     * The loss.
     *
     * @param tensor out, optional, [R] for {@link Reduction#NONE}, [1] for {@link Reduction#MEAN};
     *     F64 for F64 logits, else F32; compact
     * @return this
     */
    public Builder loss(Tensor tensor) {
      loss = tensor;
      return this;
    }

    /**
     * The gradient of the loss.
     *
     * @param tensor out, optional, [R,V], dtype of the logits, last stride 1; may be exactly the
     *     logits
     * @return this
     */
    public Builder grad(Tensor tensor) {
      grad = tensor;
      return this;
    }

    /**
     * The label that is left out: loss 0, gradient 0.
     *
     * @param label any value, inside the vocabulary or not
     * @return this
     */
    public Builder ignoreIndex(long label) {
      ignoreIndex = label;
      return this;
    }

    /**
     * Softmax (the default) or StableMax.
     *
     * @param value the normalizer
     * @return this
     */
    public Builder normalizer(Normalizer value) {
      normalizer = Named.present("normalizer", value);
      return this;
    }

    /**
     * How the rows' losses are combined.
     *
     * @param value none or mean
     * @return this
     */
    public Builder reduction(Reduction value) {
      reduction = Named.present("reduction", value);
      return this;
    }

    @Override
    CrossEntropy create(Place place) {
      return new CrossEntropy(
          new Params(exn_cross_entropy_params.class)
              .tensor("logits", logits)
              .tensor("labels", labels)
              .written("loss", loss)
              .written("grad", grad)
              .int64("ignore_index", ignoreIndex)
              .int32("normalizer", normalizer.code)
              .int32("reduction", reduction.code),
          place);
    }
  }
}
