// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

/**
 * Fills the table of cosines and sines that {@link Rope} and {@link KvPropagate} rotate by; once
 * for each model.
 *
 * <pre>
 *   inv_freq_i = base^(-2i/n), i = 0 .. n/2 - 1
 *   none    angle = t inv_freq_i
 *   linear  angle = (t / factor) inv_freq_i              position interpolation
 *   ntk     base is replaced by base factor^(n / (n - 2))
 *   table[t,i,0] = cos angle, table[t,i,1] = sin angle
 * </pre>
 *
 * <p>Computed in f64, rounded once to f32. No angle may exceed 2^31, and the base of ntk is finite.
 * A table of another making (Llama 3's scaling, YaRN) serves as well: the ops read the table and
 * nothing else. Bytes that must move: the table's.
 *
 * <p>Errors, threads, alignment, aliasing: {@link Op}.
 */
public final class RopeTable extends Op {
  public static final class Builder extends Op.Builder<RopeTable> {
    private double base = 10000;
    private int scaling = exeunt.EXN_ROPE_SCALING_NONE;
    private double factor = 1;

    /**
     * Divides positions (position interpolation).
     *
     * @param by 1 or more, finite
     * @return this
     */
    public Builder linear(double by) {
      scaling = exeunt.EXN_ROPE_SCALING_LINEAR;
      factor = by;
      return this;
    }

    /**
     * Raises the base (NTK-aware scaling).
     *
     * @param by 1 or more, finite
     * @return this
     */
    public Builder ntk(double by) {
      scaling = exeunt.EXN_ROPE_SCALING_NTK;
      factor = by;
      return this;
    }
  }
}
