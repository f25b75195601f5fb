// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

/**
 * A statistic of a row of logits; z is after soft cap and temperature, p after the
 * {@link Normalizer}.
 */
public enum Statistic {
  /** Smallest index of the largest logit; -1 for an invalid row. I32. */
  ARGMAX(DType.I32, "argmax"),
  /** The largest logit. F32. */
  MAX_LOGIT(DType.F32, "max_logit"),
  /** {@code ln sum exp z}, or {@code ln sum s(z)} for StableMax. F32, nats. */
  LSE(DType.F32, "lse"),
  /** The largest probability (EE-LLM's confidence, t5x's softmax_max). F32. */
  P1(DType.F32, "p1"),
  /** The second largest probability; 0 for a vocabulary of one. F32. */
  P2(DType.F32, "p2"),
  /** {@code p1 - p2} (CALM's softmax_diff, FREE's confidence); 1 for a vocabulary of one. F32. */
  MARGIN(DType.F32, "margin"),
  /** {@code -sum p ln p} (CNTP's code: {@code ln(p + 1e-10)}, at most V 1e-10 less). F32, nats. */
  ENTROPY(DType.F32, "entropy"),
  /** Entropy of {@code p^2 / sum p^2} (JEI-DNN). F32, nats. Adds arithmetic for each logit. */
  POW2_ENTROPY(DType.F32, "pow2_entropy"),
  /**
   * {@code (1/V) sum ln p}, so that {@code -mean - ln V} is the self-certainty KL(U||p). F32, nats.
   * Adds arithmetic for each logit.
   */
  MEAN_LOG_P(DType.F32, "mean_log_p"),
  /** 1, or 0 for a row with a NaN, +inf, or nothing but -inf. U8. */
  VALID(DType.U8, "valid"),
  /**
   * {@code ln p} of the row's label ({@link StatisticsBuilder#labels}); NaN where that is -1. F32,
   * nats.
   */
  LABEL_LOG_P(DType.F32, "label_log_p"),
  /**
   * An id that is drawn from softmax(z / t) by the noise of the row's key and counter ({@link
   * StatisticsBuilder#drawKey}); -1 for an invalid row. I32.
   */
  DRAW(DType.I32, "draw");

  final DType dtype;
  final String field;

  Statistic(DType dtype, String field) {
    this.dtype = dtype;
    this.field = field;
  }

  /**
   * Element type of the statistic's tensor.
   *
   * @return I32, F32 or U8
   */
  public DType dtype() {
    return dtype;
  }
}
