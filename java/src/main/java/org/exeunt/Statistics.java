// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.util.EnumSet;
import java.util.List;
import org.exeunt.jni.exn_stats;
import org.jspecify.annotations.Nullable;

/**
 * Where {@link RowStats} and {@link ExitHead} write. Each tensor is compact, of shape [R], on the
 * device of the inputs; null leaves that statistic out, and at least one must be there. What is not
 * asked for is not computed.
 *
 * @param argmax optional, I32, see {@link Statistic#ARGMAX}
 * @param maxLogit optional, F32, see {@link Statistic#MAX_LOGIT}
 * @param lse optional, F32, see {@link Statistic#LSE}
 * @param p1 optional, F32, see {@link Statistic#P1}
 * @param p2 optional, F32, see {@link Statistic#P2}
 * @param margin optional, F32, see {@link Statistic#MARGIN}
 * @param entropy optional, F32, see {@link Statistic#ENTROPY}
 * @param pow2Entropy optional, F32, see {@link Statistic#POW2_ENTROPY}
 * @param meanLogP optional, F32, see {@link Statistic#MEAN_LOG_P}
 * @param valid optional, U8, see {@link Statistic#VALID}
 * @param labelLogP optional, F32, with {@link StatisticsBuilder#labels}; see {@link
 *     Statistic#LABEL_LOG_P}
 * @param draw optional, I32, with {@link StatisticsBuilder#drawKey} and {@link
 *     StatisticsBuilder#drawCounter}; see {@link Statistic#DRAW}
 */
public record Statistics(@Nullable Tensor argmax, @Nullable Tensor maxLogit, @Nullable Tensor lse,
    @Nullable Tensor p1, @Nullable Tensor p2, @Nullable Tensor margin, @Nullable Tensor entropy,
    @Nullable Tensor pow2Entropy, @Nullable Tensor meanLogP, @Nullable Tensor valid,
    @Nullable Tensor labelLogP, @Nullable Tensor draw) {
  /**
   * Allocates outputs on {@link Device#defaultDevice()}.
   *
   * @param scope owns the memory
   * @param rows R
   * @param which the statistics wanted; none means all that need no other inputs, as
   *     {@link Statistic#LABEL_LOG_P} and {@link Statistic#DRAW} do
   * @return the outputs
   */
  public static Statistics allocate(Scope scope, long rows, Statistic... which) {
    return allocate(scope, Device.defaultDevice(), rows, which);
  }

  /**
   * Allocates outputs.
   *
   * @param scope owns the memory
   * @param device device of the inputs
   * @param rows R
   * @param which the statistics wanted; none means all that need no other inputs, as
   *     {@link Statistic#LABEL_LOG_P} and {@link Statistic#DRAW} do
   * @return the outputs
   */
  public static Statistics allocate(Scope scope, Device device, long rows, Statistic... which) {
    Named.present("scope", scope);
    for (Statistic statistic : Named.present("which", which)) {
      Named.present("an element of which", statistic);
    }
    EnumSet<Statistic> wanted = which.length == 0
        ? EnumSet.complementOf(EnumSet.of(Statistic.LABEL_LOG_P, Statistic.DRAW))
        : EnumSet.copyOf(List.of(which));
    Tensor[] tensors = new Tensor[Statistic.values().length];
    try {
      for (Statistic statistic : wanted) {
        tensors[statistic.ordinal()] = scope.allocate(device, statistic.dtype, rows);
      }
    } catch (RuntimeException | Error e) {
      for (Tensor tensor : tensors) {
        if (tensor != null) {
          scope.discard(e, tensor);
        }
      }
      throw e;
    }
    return of(tensors);
  }

  private static Statistics of(Tensor[] t) {
    return new Statistics(t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], t[8], t[9], t[10], t[11]);
  }

  /**
   * One of the outputs.
   *
   * @param statistic which
   * @return its tensor, or null if it was left out
   */
  public @Nullable Tensor get(Statistic statistic) {
    Tensor[] inOrder = {argmax, maxLogit, lse, p1, p2, margin, entropy, pow2Entropy, meanLogP,
        valid, labelLogP, draw};
    return inOrder[Named.present("statistic", statistic).ordinal()];
  }

  /**
   * The outputs of some of the rows.
   *
   * @param from first row
   * @param to one past the last row
   * @return views of the same memory
   */
  public Statistics rows(long from, long to) {
    Tensor[] tensors = new Tensor[Statistic.values().length];
    for (Statistic statistic : Statistic.values()) {
      Tensor tensor = get(statistic);
      tensors[statistic.ordinal()] = tensor == null ? null : tensor.rows(from, to);
    }
    return of(tensors);
  }

  /** Fills the field {@code out} of a params struct. */
  static void write(Statistics statistics, Params params) {
    if (statistics == null) {
      return;
    }
    Params out = params.inside("out", exn_stats.class);
    for (Statistic statistic : Statistic.values()) {
      out.written(statistic.field, statistics.get(statistic));
    }
  }
}
