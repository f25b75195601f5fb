// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.exn_linear_params;
import org.exeunt.jni.global.exeunt;

/**
 * {@code out = input W^T + bias + residual}, [R,D] to [R,N]: one row, a batch, or a whole prompt;
 * with an adapter {@code out = input W^T + t U + bias + residual}, {@code t = s * (input V^T)}.
 *
 * <p>Products are accumulated in f32; the bias, then the residual are added in f32 before the
 * result is rounded to the dtype of the output. Where input and weight are both BF16, the CPU may
 * sum their exact products in pairs, which takes subnormal elements, products and sums for 0. A
 * row's result does not depend on the other rows, with one exception: on processors with AMX
 * (instruction set "amx") more than 64 rows meet BF16 weights in tiles, whose sums go in another
 * order than those of fewer rows, and which take subnormal weights for 0 whatever the input is;
 * {@code -Dexeunt.isa=avx512} keeps to one order. Bytes that must move: {@code N D} weight elements,
 * or N rows of blocks, once for each block of up to 64 rows, the input and the output once, a
 * residual once, {@code K (D + N)} elements of an adapter.
 *
 * <p>An adapter of rank K ({@link Builder#adapter}) is LoRA's, whose A is V and whose B, transposed,
 * is U, or SPM's one-dimensional one (Lyu et al., CVPR 2024), K concepts at once. {@code s} has a
 * factor for each row and component ({@link Builder#adapterScale}): alpha / rank, or gamma, and 0
 * for a row that does without, so that rows of one batch may have different adapters. {@code t} is
 * summed in f32 and not rounded; the components are added to the product in ascending order, before
 * the bias; one whose {@code t} is 0 is not added.
 *
 * <p>Quantised weights ({@link Builder#weightBlocks}) meet an input whose every 32 elements were
 * rounded to 16 bits and a common exponent: a result is off by at most {@code 2^-15 + 2^-22} times
 * the sum over these of {@code max |x|} (at least {@code 2^-88}) and {@code sum |w|}, and by what
 * sums in f32 lose. A block with a scale that is NaN or infinite makes the outputs of its weight row
 * NaN or infinite, an input element that is so its row of the output NaN.
 *
 * <p>Weights in panels ({@link Packed#of(Tensor)}), on the CPU, meet the input as f32, by sums of
 * up to 512 columns each: a result is off by at most {@code min(512 + D / 512, D) 2^-24 sum |W x|},
 * and is the same for any number of rows.
 *
 * <p>Errors, threads, alignment: {@link Op}. The output may be exactly the residual.
 */
public final class Linear extends Op {
  private Linear(Params params, Place place) {
    super(params, place);
  }

  /**
   * Starts building: no bias, no residual, no adapter.
   *
   * @return an empty builder
   */
  public static Builder builder() {
    return new Builder();
  }

  /**
   * Multiplies once on {@link Stream#DEFAULT}; see {@link Op.Builder#runOnce()}.
   *
   * @param input [R,D], F32, F16 or BF16
   * @param weight [N,D], F32, F16 or BF16
   * @param out [R,N], F32, F16 or BF16
   */
  public static void compute(Tensor input, Tensor weight, Tensor out) {
    builder().input(input).weight(weight).out(out).runOnce();
  }

  @Override
  int supported(long params) {
    return exeunt.exn_linear_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_linear_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_linear(params, workspace, workspaceBytes, stream);
  }

  /** Arguments of {@link Linear}. */
  public static final class Builder extends Op.Builder<Linear> {
    private Tensor input;
    private Tensor weight;
    private BlockFormat weightBlocks;
    private Tensor bias;
    private Tensor residual;
    private Tensor out;
    private Tensor adapterDown;
    private Tensor adapterUp;
    private Tensor adapterScale;

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
     * The weight.
     *
     * @param tensor in, [N,D] (out, in), F32, F16 or BF16, or blocks in a U8 tensor ({@link
     *     #weightBlocks}), last stride 1; N at least 1. Panels: compact, aligned to an element
     * @return this
     */
    public Builder weight(Tensor tensor) {
      weight = tensor;
      return this;
    }

    /**
     * What blocks the rows of the weight are made of, or what panels they are in.
     *
     * @param format the format; null, the default: elements of the weight's type
     * @return this
     */
    public Builder weightBlocks(BlockFormat format) {
      weightBlocks = format;
      return this;
    }

    /**
     * What is added to each row.
     *
     * @param tensor in, optional, [N], F32, compact
     * @return this
     */
    public Builder bias(Tensor tensor) {
      bias = tensor;
      return this;
    }

    /**
     * What the product is added to.
     *
     * @param tensor in, optional, [R,N], dtype of the output, last stride 1
     * @return this
     */
    public Builder residual(Tensor tensor) {
      residual = tensor;
      return this;
    }

    /**
     * An adapter of rank K, beside the weight.
     *
     * @param down V: in, optional, [K,D], F32, F16 or BF16, last stride 1; K at least 1
     * @param up U: in, optional, [K,N], dtype of {@code down}, last stride 1; both or neither
     * @return this
     */
    public Builder adapter(Tensor down, Tensor up) {
      adapterDown = down;
      adapterUp = up;
      return this;
    }

    /**
     * How much of each component a row gets.
     *
     * @param tensor in, optional, [R,K], F32, last stride 1; null, the default: all 1. With an
     *     adapter only
     * @return this
     */
    public Builder adapterScale(Tensor tensor) {
      adapterScale = tensor;
      return this;
    }

    /**
     * The result.
     *
     * @param tensor out, [R,N], F32, F16 or BF16, last stride 1; may be exactly the residual
     * @return this
     */
    public Builder out(Tensor tensor) {
      out = tensor;
      return this;
    }

    @Override
    Linear create(Place place) {
      return new Linear(
          new Params(exn_linear_params.class)
              .tensor("input", input)
              .tensor("weight", weight)
              .tensor("bias", bias)
              .tensor("residual", residual)
              .written("out", out)
              .int32("weight_blocks", BlockFormat.tagOf(weightBlocks))
              .tensor("adapter_down", adapterDown)
              .tensor("adapter_up", adapterUp)
              .tensor("adapter_scale", adapterScale),
          place);
    }
  }
}
