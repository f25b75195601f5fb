// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

public final class RowStats extends Op {
  /**
   * Computes softmax statistics once on {@link Stream#DEFAULT}; see {@link Op.Builder#runOnce()}.
   *
   * @param logits [R,V], F32, F16 or BF16
   * @param out what to compute
   */
  public static void compute(Tensor logits, Statistics out) {
    builder().logits(logits).out(out).runOnce();
  }

  public static final class Builder extends StatisticsBuilder<RowStats, Builder> {
    @Override
    Builder self() {
      return this;
    }
  }
}
