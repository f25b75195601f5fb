// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.jspecify.annotations.Nullable;

public final class Gate extends Op {
  public static final class Builder extends Op.Builder<Gate> {
    private int kind = exeunt.EXN_GATE_LINEAR;

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
    public Builder residual(Tensor weight, @Nullable Tensor bias, int times) {
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
    public Builder tanh(Tensor weight, @Nullable Tensor bias, int layers) {
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
    public Builder output(Tensor weight, @Nullable Tensor bias) {
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
    public Builder weightBlocks(@Nullable BlockFormat hidden, BlockFormat output) {
      hiddenBlocks = hidden;
      outBlocks = output;
      return this;
    }
  }
}
