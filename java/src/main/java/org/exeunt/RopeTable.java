// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.exn_rope_table_params;
import org.exeunt.jni.global.exeunt;

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
  private RopeTable(Params params, Place place) {
    super(params, place);
  }

  /**
   * Starts building: base 10000, no scaling.
   *
   * @return an empty builder
   */
  public static Builder builder() {
    return new Builder();
  }

  @Override
  int supported(long params) {
    return exeunt.exn_rope_table_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_rope_table_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_rope_table(params, workspace, workspaceBytes, stream);
  }

  /** Arguments of {@link RopeTable}. */
  public static final class Builder extends Op.Builder<RopeTable> {
    private Tensor table;
    private double base = 10000;
    private int scaling = exeunt.EXN_ROPE_SCALING_NONE;
    private double factor = 1;

    private Builder() {}

    /**
     * The table.
     *
     * @param tensor out, [T,n/2,2], F32, compact: T positions from 0 on, n rotated elements; T may
     *     be 0, n is at least 2 (4 with {@link #ntk})
     * @return this
     */
    public Builder table(Tensor tensor) {
      table = tensor;
      return this;
    }

    /**
     * The base of the frequencies.
     *
     * @param value positive and finite; below 1 it turns faster from pair to pair, and no angle may
     *     exceed 2^31
     * @return this
     */
    public Builder base(double value) {
      base = value;
      return this;
    }

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

    @Override
    RopeTable create(Place place) {
      return new RopeTable(
          new Params(exn_rope_table_params.class)
              .written("table", table)
              .float64("base", base)
              .float64("factor", factor)
              .int32("scaling", scaling),
          place);
    }
  }
}
