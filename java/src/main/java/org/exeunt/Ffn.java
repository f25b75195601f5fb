// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.exn_ffn_params;
import org.exeunt.jni.global.exeunt;

/**
 * A whole feed-forward block that rows may skip, [R,D] to [R,D], and how far it turned the residual
 * stream.
 *
 * <pre>
 *   x = norm(hidden)
 *   a = act(Wg x + bg) (Wu x + bu)      with a gate (SwiGLU, GEGLU)
 *   a = act(Wu x + bu)                  without
 *   f = Wd a + bd
 *   out = hidden + f
 *   cosine = &lt;hidden, out&gt; / (|hidden| |out|)
 *   branchCosine = &lt;hidden, f&gt; / (|hidden| |f|)
 * </pre>
 *
 * <p>A row whose {@code skip} is not 0 passes: {@code out = hidden}, both cosines NaN. Rows that do
 * not skip are compacted first, so a block of rows that all skip reads no weights. The cosines
 * (FFN-SkipLLM compares a block's input with its residual output) come out of the down projection,
 * without a second pass; they are taken of {@code out} before it is rounded. A norm of 0 gives 0.
 *
 * <p>Products are accumulated in f32, x and a stay f32; a row's result does not depend on the other
 * rows, but for more than 64 running rows on processors with AMX, as in {@link Linear}: their sums
 * go in another order, and subnormal BF16 weights count as 0. Quantised weights ({@link
 * Builder#weightBlocks}) meet an x and an a that are rounded as in {@link Linear}, whose bound holds
 * for each of the three products; a row with an element that is not finite becomes NaN. So do all
 * rows with a scale of gate or up that is not; one of down makes a column of the output NaN or
 * infinite. Bytes that must move: the three weights once for each block of up to 64 rows that run,
 * hidden and out once.
 *
 * <p>Errors, threads, alignment: {@link Op}. The output may be exactly the input.
 */
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

  private Ffn(Params params, Place place) {
    super(params, place);
  }

  /**
   * Starts building: no norm, no gate, SiLU, no row skips.
   *
   * @return an empty builder
   */
  public static Builder builder() {
    return new Builder();
  }

  @Override
  int supported(long params) {
    return exeunt.exn_ffn_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_ffn_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_ffn(params, workspace, workspaceBytes, stream);
  }

  /** Arguments of {@link Ffn}. */
  public static final class Builder extends Op.Builder<Ffn> {
    private Tensor hidden;
    private final InputNorm norm = new InputNorm();
    private Tensor gateWeight;
    private Tensor gateBias;
    private Tensor upWeight;
    private Tensor upBias;
    private Tensor downWeight;
    private BlockFormat gateBlocks;
    private BlockFormat upBlocks;
    private BlockFormat downBlocks;
    private Tensor downBias;
    private Activation activation = Activation.SILU;
    private Tensor skip;
    private Tensor out;
    private Tensor cosine;
    private Tensor branchCosine;

    private Builder() {}

    /**
     * The residual stream.
     *
     * @param tensor in, [R,D], F32, F16 or BF16, last stride 1; R may be 0, D at least 1
     * @return this
     */
    public Builder hidden(Tensor tensor) {
      hidden = tensor;
      return this;
    }

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
     * @param normWeight in, [D], F32, compact
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
     * @param normWeight in, [D], F32, compact
     * @param normBias in, optional, [D], F32, compact
     * @param eps added to the variance, 0 or more, finite
     * @return this
     */
    public Builder layerNorm(Tensor normWeight, Tensor normBias, float eps) {
      norm.set(Norm.Kind.LAYER, normWeight, normBias);
      norm.eps(eps);
      return this;
    }

    /**
     * The gate projection; left out, the block has none.
     *
     * @param weight in, optional, [F,D], dtype of the up projection, or blocks if that has some,
     *     last stride 1
     * @param bias in, optional, [F], F32, compact
     * @return this
     */
    public Builder gate(Tensor weight, Tensor bias) {
      gateWeight = weight;
      gateBias = bias;
      return this;
    }

    /**
     * The up projection.
     *
     * @param weight in, [F,D], F32, F16 or BF16, or blocks in a U8 tensor ({@link #weightBlocks}), last
     *     stride 1; F at least 1
     * @param bias in, optional, [F], F32, compact
     * @return this
     */
    public Builder up(Tensor weight, Tensor bias) {
      upWeight = weight;
      upBias = bias;
      return this;
    }

    /**
     * The down projection.
     *
     * @param weight in, [D,F], dtype of the up projection, or blocks if that has some, last stride 1
     * @param bias in, optional, [D], F32, compact
     * @return this
     */
    public Builder down(Tensor weight, Tensor bias) {
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
    public Builder weightBlocks(BlockFormat gate, BlockFormat up, BlockFormat down) {
      gateBlocks = gate;
      upBlocks = up;
      downBlocks = down;
      return this;
    }

    /**
     * The non-linear function.
     *
     * @param value SiLU or one of the GELUs
     * @return this
     */
    public Builder activation(Activation value) {
      activation = Named.present("activation", value);
      return this;
    }

    /**
     * Which rows pass by; {@link FfnSkipRule} writes it.
     *
     * @param tensor in, optional, [R], U8, compact; not 0: the row skips
     * @return this
     */
    public Builder skip(Tensor tensor) {
      skip = tensor;
      return this;
    }

    /**
     * The residual stream behind the block.
     *
     * @param tensor out, [R,D], dtype of the input, last stride 1; may be exactly the input
     * @return this
     */
    public Builder out(Tensor tensor) {
      out = tensor;
      return this;
    }

    /**
     * How much the block left the residual stream's direction alone.
     *
     * @param tensor out, optional, [R], F32, compact: cosine of input and output
     * @return this
     */
    public Builder cosine(Tensor tensor) {
      cosine = tensor;
      return this;
    }

    /**
     * The direction of what the block adds.
     *
     * @param tensor out, optional, [R], F32, compact: cosine of input and f
     * @return this
     */
    public Builder branchCosine(Tensor tensor) {
      branchCosine = tensor;
      return this;
    }

    @Override
    Ffn create(Place place) {
      Params params =
          new Params(exn_ffn_params.class)
              .tensor("hidden", hidden)
              .tensor("gate_weight", gateWeight)
              .tensor("gate_bias", gateBias)
              .tensor("up_weight", upWeight)
              .tensor("up_bias", upBias)
              .tensor("down_weight", downWeight)
              .tensor("down_bias", downBias)
              .tensor("skip", skip)
              .written("out", out)
              .written("cosine", cosine)
              .written("branch_cosine", branchCosine)
              .int32("activation", activation.code)
              .int32("gate_blocks", BlockFormat.tagOf(gateBlocks))
              .int32("up_blocks", BlockFormat.tagOf(upBlocks))
              .int32("down_blocks", BlockFormat.tagOf(downBlocks));
      norm.write(params);
      return new Ffn(params, place);
    }
  }
}
