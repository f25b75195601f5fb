// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.jspecify.annotations.Nullable;

public final class Ffn extends Op {
  /** The non-linear function. */
  public enum Activation {
    /** {@code z / (1 + exp(-z))}. */
    SILU(exeunt.EXN_ACT_SILU),
    /** {@code z/2 (1 + erf(z / sqrt 2))}. */
    GELU(exeunt.EXN_ACT_GELU),
    /** {@code z/2 (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3)))}. */
    GELU_TANH(exeunt.EXN_ACT_GELU_TANH);

    final int code;

    Activation(int code) {
      this.code = code;
    }
  }

  public static final class Builder extends Op.Builder<Ffn> {
    private final InputNorm norm = new InputNorm(); // norm, norm_weight, norm_bias, norm_eps
    private Activation activation = Activation.SILU;
    private InputRounding inputRounding = InputRounding.INT16;

    /**
     * Leaves the norm out (the default).
     *
     * @return this
     */
    public Builder noNorm() {
      norm.set(Norm.Kind.NONE, null, null);
      return this;
    }

    /**
     * RMSNorm before the projections.
     *
     * @param normWeight {norm_weight}
     * @param eps added to the mean square, 0 or more, finite
     * @return this
     */
    public Builder rmsNorm(Tensor normWeight, float eps) {
      norm.set(Norm.Kind.RMS, normWeight, null);
      norm.eps(eps);
      return this;
    }

    /**
     * LayerNorm before the projections.
     *
     * @param normWeight {norm_weight}
     * @param normBias {norm_bias}
     * @param eps added to the variance, 0 or more, finite
     * @return this
     */
    public Builder layerNorm(Tensor normWeight, @Nullable Tensor normBias, float eps) {
      norm.set(Norm.Kind.LAYER, normWeight, normBias);
      norm.eps(eps);
      return this;
    }

    /**
     * The gate projection; left out, the block has none.
     *
     * @param weight {gate_weight}
     * @param bias {gate_bias}
     * @return this
     */
    public Builder gate(@Nullable Tensor weight, @Nullable Tensor bias) {
      gateWeight = weight;
      gateBias = bias;
      return this;
    }

    /**
     * The up projection.
     *
     * @param weight {up_weight}
     * @param bias {up_bias}
     * @return this
     */
    public Builder up(Tensor weight, @Nullable Tensor bias) {
      upWeight = weight;
      upBias = bias;
      return this;
    }

    /**
     * The down projection.
     *
     * @param weight {down_weight}
     * @param bias {down_bias}
     * @return this
     */
    public Builder down(Tensor weight, @Nullable Tensor bias) {
      downWeight = weight;
      downBias = bias;
      return this;
    }

    /**
     * What blocks the rows of the three weights are made of; all have some, or none has.
     *
     * @param gate the format; null, the default: elements of the weight's type
     * @param up the same of the up projection
     * @param down the same of the down projection
     * @return this
     */
    public Builder weightBlocks(@Nullable BlockFormat gate, BlockFormat up, BlockFormat down) {
      gateBlocks = gate;
      upBlocks = up;
      downBlocks = down;
      return this;
    }
  }
}
