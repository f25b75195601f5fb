// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.exn_row_stats_params;
import org.exeunt.jni.global.exeunt;

/**
 * Confidence {@link Statistics} of rows of logits in one pass, without writing probabilities: what
 * CALM, FREE, JEI-DNN, CNTP and self-certainty look at.
 *
 * <p>For each row, {@code z <- softcap tanh(z / softcap)} if there is a soft cap, then {@code z <-
 * z / temperature}. An invalid row (a NaN, +inf, or nothing but -inf) gets valid 0, argmax -1 and
 * NaN elsewhere; other rows are untouched. A -inf contributes exactly 0. Ties go to the smaller
 * index. Reductions are f32. Bytes that must move: {@code R V} elements read.
 *
 * <p>Errors, threads, alignment, aliasing: {@link Op}.
 */
public final class RowStats extends Op {
  private RowStats(Params params, Place place) {
    super(params, place);
  }

  /**
   * Starts building: softmax, temperature 1, no soft cap.
   *
   * @return an empty builder
   */
  public static Builder builder() {
    return new Builder();
  }

  /**
   * Computes softmax statistics once on {@link Stream#DEFAULT}; see {@link Op.Builder#runOnce()}.
   *
   * @param logits [R,V], F32, F16 or BF16
   * @param out what to compute
   */
  public static void compute(Tensor logits, Statistics out) {
    builder().logits(logits).out(out).runOnce();
  }

  @Override
  int supported(long params) {
    return exeunt.exn_row_stats_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_row_stats_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_row_stats(params, workspace, workspaceBytes, stream);
  }

  /** Arguments of {@link RowStats}. */
  public static final class Builder extends StatisticsBuilder<RowStats, Builder> {
    private Tensor logits;

    private Builder() {}

    /**
     * The logits.
     *
     * @param tensor in, [R,V], F32, F16 or BF16, last stride 1; V from 1 to 2^31 - 1, R may be 0
     * @return this
     */
    public Builder logits(Tensor tensor) {
      logits = tensor;
      return this;
    }

    @Override
    Builder self() {
      return this;
    }

    @Override
    RowStats create(Place place) {
      return new RowStats(
          write(new Params(exn_row_stats_params.class).tensor("logits", logits)), place);
    }
  }
}
