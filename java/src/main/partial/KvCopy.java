// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.jspecify.annotations.Nullable;

/**
 * Copies slots within a {@link KvCache} or from one to another: a layer's K and V for the next one,
 * compaction after tokens were dropped, the fork of a sequence.
 *
 * <p>Entries are copied as if one after another, so an ascending list may move slots down within
 * one cache. A slot of -1, on either side, switches an entry off, whose other ids may be anything.
 * Ids out of range and slots that are written twice: {@link KvAppend}.
 *
 * <p>Bytes that must move: {@code 2 Hkv dh} elements read and as many written for each entry.
 *
 * <p>Errors, threads, alignment: {@link Op}. The destination may be exactly the source, which means
 * K and V both, with heads and slots at the same distances.
 */
public final class KvCopy extends Op {
  public static final class Builder extends Op.Builder<KvCopy> {
    /**
     * The slots to read.
     *
     * @param slot {from_slot}
     * @param sequence {from_sequence}
     * @return this
     */
    public Builder from(Tensor slot, @Nullable Tensor sequence) {
      fromSlot = slot;
      fromSequence = sequence;
      return this;
    }

    /**
     * The slots to write.
     *
     * @param slot {to_slot}
     * @param sequence {to_sequence}
     * @return this
     */
    public Builder to(Tensor slot, @Nullable Tensor sequence) {
      toSlot = slot;
      toSequence = sequence;
      return this;
    }
  }
}
