// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.exn_kv_copy_params;
import org.exeunt.jni.global.exeunt;

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
  private KvCopy(Params params, Place place) {
    super(params, place);
  }

  /**
   * Starts building; {@link KvCache#copyTo} does so with both caches.
   *
   * @return an empty builder
   */
  public static Builder builder() {
    return new Builder();
  }

  @Override
  int supported(long params) {
    return exeunt.exn_kv_copy_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_kv_copy_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_kv_copy(params, workspace, workspaceBytes, stream);
  }

  /** Arguments of {@link KvCopy}. */
  public static final class Builder extends Op.Builder<KvCopy> {
    private KvCache source;
    private KvCache destination;
    private Tensor fromSequence;
    private Tensor fromSlot;
    private Tensor toSequence;
    private Tensor toSlot;

    private Builder() {}

    /**
     * Where slots come from.
     *
     * @param cache in
     * @return this
     */
    public Builder source(KvCache cache) {
      source = cache;
      return this;
    }

    /**
     * Where slots go.
     *
     * @param cache in and out; dtype, heads and elements per head of the source; may be exactly the
     *     source
     * @return this
     */
    public Builder destination(KvCache cache) {
      destination = cache;
      return this;
    }

    /**
     * The slots to read.
     *
     * @param slot in, [N], I32, compact; -1 switches the entry off
     * @param sequence in, optional, [N], I32, compact; null: sequence 0
     * @return this
     */
    public Builder from(Tensor slot, Tensor sequence) {
      fromSlot = slot;
      fromSequence = sequence;
      return this;
    }

    /**
     * The slots to write.
     *
     * @param slot in, [N], I32, compact; -1 switches the entry off
     * @param sequence in, optional, [N], I32, compact; null: sequence 0
     * @return this
     */
    public Builder to(Tensor slot, Tensor sequence) {
      toSlot = slot;
      toSequence = sequence;
      return this;
    }

    @Override
    KvCopy create(Place place) {
      Params params =
          new Params(exn_kv_copy_params.class)
              .tensor("from_slot", fromSlot)
              .tensor("from_sequence", fromSequence)
              .tensor("to_slot", toSlot)
              .tensor("to_sequence", toSequence);
      KvCache.write(source, params, "source", false);
      KvCache.write(destination, params, "destination", true);
      return new KvCopy(params, place);
    }
  }
}
