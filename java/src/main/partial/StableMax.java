// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

/**
 * StableMax over rows, plain or logarithmic, and softmax as its twin ({@link Builder#normalizer}).
 * Prieto et al. 2025, "Grokking at the Edge of Numerical Stability", and its code: {@code s(x) = x
 * + 1} for {@code x >= 0}, {@code 1 / (1 - x)} below; {@code StableMax(z)_i = s(z_i) / sum s(z)};
 * computed through {@code ln s(x) = sign(x) log1p|x|}, which needs no epsilon and stays finite
 * where that code does not.
 *
 * <p>A row with a NaN or +inf, or with nothing but -inf, gives NaN in the whole row. -inf gives
 * probability 0. Reductions are f64 for F64 storage, else f32. Bytes that must move: {@code R V}
 * elements read and written.
 *
 * <p>Errors, threads, alignment: {@link Op}. {@code out} may be exactly {@code logits} (in place).
 */
public final class StableMax extends Op {
  /**
   * Starts building probabilities.
   *
   * @return an empty builder
   */
  public static Builder forward() {
    return new Builder(false);
  }

  /**
   * Starts building log-probabilities.
   *
   * @return an empty builder
   */
  public static Builder logForward() {
    return new Builder(true);
  }

  /**
   * Starts building the cross-entropy, with StableMax as its normalizer.
   *
   * @return an empty builder
   */
  public static CrossEntropy.Builder crossEntropy() {
    return CrossEntropy.builder().normalizer(Normalizer.STABLEMAX);
  }

  /**
   * Computes probabilities once on {@link Stream#DEFAULT}; see {@link Op.Builder#runOnce()}.
   *
   * @param logits [R,V], F64, F32, F16 or BF16
   * @param out [R,V], dtype of {@code logits}; may be {@code logits}
   */
  public static void forward(Tensor logits, Tensor out) {
    forward().logits(logits).out(out).runOnce();
  }

  /**
   * Computes log-probabilities once on {@link Stream#DEFAULT}; see {@link Op.Builder#runOnce()}.
   *
   * @param logits [R,V], F64, F32, F16 or BF16
   * @param out [R,V], dtype of {@code logits}; may be {@code logits}
   */
  public static void logForward(Tensor logits, Tensor out) {
    logForward().logits(logits).out(out).runOnce();
  }

  public static final class Builder extends Op.Builder<StableMax> {
    private final boolean log;
    private Normalizer normalizer = Normalizer.STABLEMAX;

    private Builder(boolean log) {
      this.log = log;
    }
  }
}
