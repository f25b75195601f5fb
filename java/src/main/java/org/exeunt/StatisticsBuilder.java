// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.exn_stats;
import org.jspecify.annotations.Nullable;

/**
 * The arguments that {@link RowStats} and {@link ExitHead} share: how logits become probabilities,
 * and which {@link Statistics} of them to compute.
 *
 * @param <O> the op
 * @param <B> the builder itself
 */
public abstract sealed class StatisticsBuilder<O extends Op, B extends StatisticsBuilder<O, B>>
    extends Op.Builder<O> permits RowStats.Builder, ExitHead.Builder {
  private Normalizer normalizer = Normalizer.SOFTMAX;
  private float temperature = 1;
  private float softcap;
  private Tensor labels;
  private Tensor drawKey;
  private Tensor drawCounter;
  private Tensor drawTemperature;
  private Statistics out;

  StatisticsBuilder() {}

  abstract B self();

  /**
   * How logits become probabilities.
   *
   * @param value softmax or StableMax
   * @return this
   */
  public final B normalizer(Normalizer value) {
    normalizer = Named.present("normalizer", value);
    return self();
  }

  /**
   * Divisor of the logits.
   *
   * @param value positive and finite; 1 leaves the logits alone
   * @return this
   */
  public final B temperature(float value) {
    temperature = value;
    return self();
  }

  /**
   * Soft cap of the logits, applied before the temperature.
   *
   * @param value 0 or more, finite; 0 means none
   * @return this
   */
  public final B softcap(float value) {
    softcap = value;
    return self();
  }

  /**
   * The token of each row whose log-probability {@link Statistic#LABEL_LOG_P} is.
   *
   * @param value in, optional, [R], I32, compact, -1..V-1; -1: the row has none. An entry outside is
   *     an {@link IllegalArgumentException} on the CPU and makes the row's log-probability NaN on
   *     CUDA. null, the default: no log-probability can be asked for
   * @return this
   */
  public final B labels(@Nullable Tensor value) {
    labels = value;
    return self();
  }

  /**
   * The key of each row's noise, by which {@link Statistic#DRAW} is drawn. Rows of the same key,
   * counter, temperature and logits draw the same id, in every batch and on every device; a key for
   * each sequence, with the position as counter, will do.
   *
   * <pre>{@code
   * Statistics out = Statistics.allocate(scope, 1, Statistic.DRAW);
   * ExitHead.builder().hidden(hidden).weight(weight).out(out)
   *     .drawKey(scope.allocate(DType.I64, 1).copyFrom(new int[] {seed}))
   *     .drawCounter(scope.allocate(DType.I64, 1).copyFrom(new int[] {position}))
   *     .runOnce();
   * int token = out.draw().toIntArray()[0];
   * }</pre>
   *
   * @param value in, optional, [R], I64, compact; every number will do. With {@link #drawCounter}
   *     and the output. null, the default: nothing can be drawn
   * @return this
   */
  public final B drawKey(@Nullable Tensor value) {
    drawKey = value;
    return self();
  }

  /**
   * The counter of each row's noise; see {@link #drawKey}.
   *
   * @param value in, optional, [R], I64, compact; every number will do. With {@link #drawKey}
   * @return this
   */
  public final B drawCounter(@Nullable Tensor value) {
    drawCounter = value;
    return self();
  }

  /**
   * Divisor of each row's logits before one is drawn, after {@link #temperature}. The other
   * statistics do not notice.
   *
   * @param value in, optional, [R], F32, compact, 0 or more and finite; 0 draws the argmax. Another
   *     number is an {@link IllegalArgumentException} on the CPU and makes the draw -1 on CUDA.
   *     With {@link #drawKey}; null, the default: 1 each
   * @return this
   */
  public final B drawTemperature(@Nullable Tensor value) {
    drawTemperature = value;
    return self();
  }

  /**
   * What to compute and where to write it.
   *
   * @param statistics at least one output of shape [R]
   * @return this
   */
  public final B out(Statistics statistics) {
    out = statistics;
    return self();
  }

  final Params write(Params params) {
    params.int32("normalizer", normalizer.code)
        .float32("temperature", temperature)
        .float32("softcap", softcap);
    Statistics.write(out, params);
    params.inside("out", exn_stats.class)
        .tensor("labels", labels)
        .tensor("draw_key", drawKey)
        .tensor("draw_counter", drawCounter)
        .tensor("draw_temperature", drawTemperature);
    return params;
  }
}
