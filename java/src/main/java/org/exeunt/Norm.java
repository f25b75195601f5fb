// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.exn_norm_params;
import org.exeunt.jni.global.exeunt;

/**
 * RMSNorm (Zhang and Sennrich 2019) or LayerNorm (Ba et al. 2016) of each row, [R,D] to [R,D].
 *
 * <pre>
 *   RMS    y = x / sqrt(mean x^2 + eps) * weight
 *   LAYER  y = (x - mean x) / sqrt(var x + eps) * weight + bias
 *   NONE   y = x, which copies or changes the dtype
 * </pre>
 *
 * <p>Sums and products are f32. A row with a NaN or an infinity gives what the formula gives; other
 * rows are untouched. Bytes that must move: the input and the output once.
 *
 * <p>Errors, threads, alignment: {@link Op}. The output may be exactly the input.
 */
public final class Norm extends Op {
  /** Which norm; {@link ExitHead}, {@link Ffn} and {@link KvPropagate} know the same ones. */
  public enum Kind {
    /** {@code x} as it is. */
    NONE(exeunt.EXN_NORM_NONE),
    /** {@code x / sqrt(mean x^2 + eps) * weight}. */
    RMS(exeunt.EXN_NORM_RMS),
    /** {@code (x - mean x) / sqrt(var x + eps) * weight + bias}. */
    LAYER(exeunt.EXN_NORM_LAYER);

    final int code;

    Kind(int code) {
      this.code = code;
    }
  }

  private Norm(Params params, Place place) {
    super(params, place);
  }

  /**
   * Starts building: no norm.
   *
   * @return an empty builder
   */
  public static Builder builder() {
    return new Builder();
  }

  @Override
  int supported(long params) {
    return exeunt.exn_norm_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_norm_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_norm(params, workspace, workspaceBytes, stream);
  }

  /** Arguments of {@link Norm}. */
  public static final class Builder extends Op.Builder<Norm> {
    private Tensor input;
    private Kind kind = Kind.NONE;
    private Tensor weight;
    private Tensor bias;
    private float eps;
    private Tensor out;

    private Builder() {}

    /**
     * The rows.
     *
     * @param tensor in, [R,D], F32, F16 or BF16, last stride 1; R may be 0, D at least 1
     * @return this
     */
    public Builder input(Tensor tensor) {
      input = tensor;
      return this;
    }

    /**
     * No norm (the default): a copy, or a change of dtype.
     *
     * @return this
     */
    public Builder none() {
      return norm(Kind.NONE, null, null, 0);
    }

    /**
     * RMSNorm.
     *
     * @param normWeight in, [D], F32, compact
     * @param normEps added to the mean square, 0 or more, finite
     * @return this
     */
    public Builder rms(Tensor normWeight, float normEps) {
      return norm(Kind.RMS, normWeight, null, normEps);
    }

    /**
     * LayerNorm.
     *
     * @param normWeight in, [D], F32, compact
     * @param normBias in, optional, [D], F32, compact
     * @param normEps added to the variance, 0 or more, finite
     * @return this
     */
    public Builder layer(Tensor normWeight, Tensor normBias, float normEps) {
      return norm(Kind.LAYER, normWeight, normBias, normEps);
    }

    private Builder norm(Kind which, Tensor normWeight, Tensor normBias, float normEps) {
      kind = which;
      weight = normWeight;
      bias = normBias;
      eps = normEps;
      return this;
    }

    /**
     * The normed rows.
     *
     * @param tensor out, [R,D], F32, F16 or BF16, last stride 1; may be exactly the input
     * @return this
     */
    public Builder out(Tensor tensor) {
      out = tensor;
      return this;
    }

    @Override
    Norm create(Place place) {
      return new Norm(
          new Params(exn_norm_params.class)
              .tensor("input", input)
              .tensor("weight", weight)
              .tensor("bias", bias)
              .written("out", out)
              .int32("norm", kind.code)
              .float32("eps", eps),
          place);
    }
  }
}
