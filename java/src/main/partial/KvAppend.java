// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

/**
 * Writes rows of K and V, converted to the cache's dtype, to their slots of a {@link KvCache}.
 *
 * <p>A slot of -1 switches a row off: nothing is read or written for it, and its sequence may be
 * anything. Any other slot outside 0 to T - 1, a sequence outside 0 to S - 1 or a page outside 0 to
 * P - 1 is an {@link IllegalArgumentException} on the CPU, with nothing written; on CUDA, where a
 * run cannot read them, such a row is switched off. Two rows of one run that write one slot, be it
 * through a page that their sequences share, are an error of the caller: on the CPU the last one
 * stays (a native library built without NDEBUG refuses them), on CUDA one of them.
 *
 * <p>Bytes that must move: {@code 2 Hkv dh} elements read and as many written for each row.
 *
 * <p>Errors, threads, alignment, aliasing: {@link Op}.
 */
public final class KvAppend extends Op {
  /**
   * Starts building; {@link KvCache#append()} does so with the cache.
   *
   * @return an empty builder
   */
  public static Builder builder() {
    return new Builder();
  }
}
