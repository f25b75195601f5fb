// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

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

  public static final class Builder extends Op.Builder<KvLength> {
    private final int action;
    private final long capacity;

    private Builder(int action, long capacity) {
      this.action = action;
      this.capacity = capacity;
    }
  }
}
