// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.exn_gate_params;
import org.exeunt.jni.global.exeunt;

/**
 * Small learned exit heads, features [R,D] to a probability [R].
 *
 * <pre>
 *   y = f                                           the features
 *   linear     y as it is                           CALM's meta classifier, JEI-DNN
 *   residual   y = y + SiLU(H y + h), repeated      SpecDec++, whose blocks share weights: one H
 *   tanh       y = tanh(H_i y + h_i), i below n     PALBERT, whose n counts the output layer too
 *   o = W y + c
 *   p = sigmoid(o) for one row of W, softmax(o)[1] for two
 * </pre>
 *
 * <p>Everything after loading is f32. A NaN in a row gives NaN for that row. Quantised weights
 * ({@link Builder#weightBlocks}) meet a y that is rounded as in {@link Linear}, whose bound holds for
 * each product; an infinity in such a y gives NaN, too. A scale that is NaN gives NaN, an infinite
 * one any probability. Bytes that must move: the weights once for each block of up to 64 rows, the
 * features once.
 *
 * <p>Errors, threads, alignment, aliasing: {@link Op}.
 */
public final class Gate extends Op {
  private Gate(Params params, Place place) {
    super(params, place);
  }

  /**
   * Starts building a linear gate.
   *
   * @return an empty builder
   */
  public static Builder builder() {
    return new Builder();
  }

  @Override
  int supported(long params) {
    return exeunt.exn_gate_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_gate_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_gate(params, workspace, workspaceBytes, stream);
  }

  /** Arguments of {@link Gate}. */
  public static final class Builder extends Op.Builder<Gate> {
    private Tensor features;
    private int kind = exeunt.EXN_GATE_LINEAR;
    private Tensor hiddenWeight;
    private Tensor hiddenBias;
    private int repeats;
    private Tensor outWeight;
    private Tensor outBias;
    private BlockFormat hiddenBlocks;
    private BlockFormat outBlocks;
    private Tensor prob;

    private Builder() {}

    /**
     * The features.
     *
     * @param tensor in, [R,D], F32, F16 or BF16, last stride 1; R may be 0, D at least 1
     * @return this
     */
    public Builder features(Tensor tensor) {
      features = tensor;
      return this;
    }

    /**
     * No hidden part (the default).
     *
     * @return this
     */
    public Builder linear() {
      return hidden(exeunt.EXN_GATE_LINEAR, null, null, 0);
    }

    /**
     * Residual SiLU blocks that share one weight.
     *
     * @param weight in, [D,D], F32, F16 or BF16, or blocks in a U8 tensor ({@link #weightBlocks}),
     *     compact
     * @param bias in, optional, [D], F32, compact
     * @param times how often the block is applied, 0 to 64
     * @return this
     */
    public Builder residual(Tensor weight, Tensor bias, int times) {
      return hidden(exeunt.EXN_GATE_RESIDUAL, weight, bias, times);
    }

    /**
     * Hidden tanh layers, each with its own weight.
     *
     * @param weight in, [layers,D,D], F32, F16 or BF16, or blocks in a U8 tensor ({@link
     *     #weightBlocks}), compact
     * @param bias in, optional, [layers,D], F32, compact
     * @param layers number of hidden layers, 0 to 64
     * @return this
     */
    public Builder tanh(Tensor weight, Tensor bias, int layers) {
      return hidden(exeunt.EXN_GATE_TANH, weight, bias, layers);
    }

    private Builder hidden(int which, Tensor weight, Tensor bias, int times) {
      kind = which;
      hiddenWeight = weight;
      hiddenBias = bias;
      repeats = times;
      return this;
    }

    /**
     * The output layer.
     *
     * @param weight in, [O,D] with O 1 (sigmoid) or 2 (softmax), F32, F16 or BF16, or blocks in a U8
     *     tensor ({@link #weightBlocks}), compact
     * @param bias in, optional, [O], F32, compact
     * @return this
     */
    public Builder output(Tensor weight, Tensor bias) {
      outWeight = weight;
      outBias = bias;
      return this;
    }

    /**
     * What blocks the rows of the weights are made of.
     *
     * @param hidden the format of the hidden part's; null, the default: elements of the weight's type
     * @param output the same of the output layer's
     * @return this
     */
    public Builder weightBlocks(BlockFormat hidden, BlockFormat output) {
      hiddenBlocks = hidden;
      outBlocks = output;
      return this;
    }

    /**
     * The probabilities.
     *
     * @param tensor out, [R], F32, compact
     * @return this
     */
    public Builder prob(Tensor tensor) {
      prob = tensor;
      return this;
    }

    @Override
    Gate create(Place place) {
      return new Gate(
          new Params(exn_gate_params.class)
              .tensor("features", features)
              .tensor("hidden_weight", hiddenWeight)
              .tensor("hidden_bias", hiddenBias)
              .tensor("out_weight", outWeight)
              .tensor("out_bias", outBias)
              .written("prob", prob)
              .int32("kind", kind)
              .int32("repeats", repeats)
              .int32("hidden_blocks", BlockFormat.tagOf(hiddenBlocks))
              .int32("out_blocks", BlockFormat.tagOf(outBlocks)),
          place);
    }
  }
}
