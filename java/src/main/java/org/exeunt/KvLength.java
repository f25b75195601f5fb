// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.exn_kv_length_params;
import org.exeunt.jni.global.exeunt;

/**
 * Counts, on the device, how many slots of each sequence of a {@link KvCache} are in use.
 *
 * <p>{@link #advance}, rows in ascending order: an active row r of sequence s gets {@code slot[r] =
 * length[s]} and {@code visible[r] = length[s] + 1}, and {@code length[s]} grows by one; an
 * inactive row gets slot -1 and visible {@code length[s]} as it stands then. Where a sequence is
 * full ({@code length = capacity}): an {@link IllegalArgumentException} on the CPU, with nothing
 * written; on CUDA the row gets slot -1 and visible 0, and the length stays.
 *
 * <p>{@link #crop}: {@code length = min(length, limit)}, element by element; slots are not touched.
 *
 * <p>What changes from token to token lies in tensors, so one op serves a whole generation. Bytes
 * that must move: 12 for each row or length.
 *
 * <p>Errors, threads, alignment, aliasing: {@link Op}.
 */
public final class KvLength extends Op {
  private KvLength(Params params, Place place) {
    super(params, place);
  }

  /**
   * Starts building an op that hands out the next free slots; {@link KvCache#advance()} does so
   * with the cache's capacity.
   *
   * @param capacity T, 1 to 2^31 - 1
   * @return a builder that needs length and slot
   */
  public static Builder advance(long capacity) {
    return new Builder(exeunt.EXN_KV_ADVANCE, capacity);
  }

  /**
   * Starts building an op that shortens sequences.
   *
   * @return a builder that needs length and limit
   */
  public static Builder crop() {
    return new Builder(exeunt.EXN_KV_CROP, 0);
  }

  @Override
  int supported(long params) {
    return exeunt.exn_kv_length_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_kv_length_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_kv_length(params, workspace, workspaceBytes, stream);
  }

  /** Arguments of {@link KvLength}. */
  public static final class Builder extends Op.Builder<KvLength> {
    private final int action;
    private final long capacity;
    private Tensor length;
    private Tensor sequence;
    private Tensor active;
    private Tensor slot;
    private Tensor visible;
    private Tensor limit;

    private Builder(int action, long capacity) {
      this.action = action;
      this.capacity = capacity;
    }

    /**
     * Slots in use.
     *
     * @param tensor in and out, I32, compact, entries 0 or more, any shape, such as layers times S;
     *     advance: S elements
     * @return this
     */
    public Builder length(Tensor tensor) {
      length = tensor;
      return this;
    }

    /**
     * The sequence of each row; advance only.
     *
     * @param tensor in, optional, [R], I32, compact; left out, all rows belong to sequence 0
     * @return this
     */
    public Builder sequence(Tensor tensor) {
      sequence = tensor;
      return this;
    }

    /**
     * Which rows get a slot; advance only.
     *
     * @param tensor in, optional, [R], U8, compact; left out, all do
     * @return this
     */
    public Builder active(Tensor tensor) {
      active = tensor;
      return this;
    }

    /**
     * The slot of each row; advance only.
     *
     * @param tensor out, [R], I32, compact
     * @return this
     */
    public Builder slot(Tensor tensor) {
      slot = tensor;
      return this;
    }

    /**
     * What {@link Attention} lets each row see; advance only.
     *
     * @param tensor out, optional, [R], I32, compact
     * @return this
     */
    public Builder visible(Tensor tensor) {
      visible = tensor;
      return this;
    }

    /**
     * The longest a sequence may stay; crop only.
     *
     * @param tensor in, I32, compact, entries 0 or more: as many as {@link #length} has, or one for
     *     all
     * @return this
     */
    public Builder limit(Tensor tensor) {
      limit = tensor;
      return this;
    }

    @Override
    KvLength create(Place place) {
      return new KvLength(
          new Params(exn_kv_length_params.class)
              .written("length", length)
              .tensor("sequence", sequence)
              .tensor("active", active)
              .written("slot", slot)
              .written("visible", visible)
              .tensor("limit", limit)
              .int64("capacity", capacity)
              .int32("action", action),
          place);
    }
  }
}
