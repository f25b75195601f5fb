// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.jspecify.annotations.Nullable;

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

  public static final class Builder extends Op.Builder<Norm> {
    private Kind kind = Kind.NONE; // norm

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
     * @param normWeight {weight}
     * @param normEps added to the mean square, 0 or more, finite
     * @return this
     */
    public Builder rms(Tensor normWeight, float normEps) {
      return norm(Kind.RMS, normWeight, null, normEps);
    }

    /**
     * LayerNorm.
     *
     * @param normWeight {weight}
     * @param normBias {bias}
     * @param normEps added to the variance, 0 or more, finite
     * @return this
     */
    public Builder layer(Tensor normWeight, @Nullable Tensor normBias, float normEps) {
      return norm(Kind.LAYER, normWeight, normBias, normEps);
    }

    private Builder norm(Kind which, Tensor normWeight, Tensor normBias, float normEps) {
      kind = which;
      weight = normWeight;
      bias = normBias;
      eps = normEps;
      return this;
    }
  }
}
