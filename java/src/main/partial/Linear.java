// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.jspecify.annotations.Nullable;

public final class Linear extends Op {
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

  public static final class Builder extends Op.Builder<Linear> {
    private InputRounding inputRounding = InputRounding.INT16;

    /**
     * An adapter of rank K, beside the weight.
     *
     * @param down {adapter_down}
     * @param up {adapter_up}
     * @return this
     */
    public Builder adapter(@Nullable Tensor down, @Nullable Tensor up) {
      adapterDown = down;
      adapterUp = up;
      return this;
    }
  }
}
