// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.exn_kv_compact_params;
import org.exeunt.jni.global.exeunt;

/**
 * Shrinks the {@link KvCache} of one layer to the slots that are kept, per KV head if need be.
 *
 * <p>B sequences are compacted. List g (g = b, or {@code b Hd + h} with {@link Builder#perHead})
 * names the slots of the source that head h, or every head, of the destination keeps. Entry i goes
 * to slot i:
 *
 * <pre>
 *   destination[sequence b, h, i] = source[sequence b, h / (Hd / Hs), list_g[i]]   K and V alike
 *   newLength[g] = entries of list g
 * </pre>
 *
 * <p>Hd and Hs are the heads of the two caches: a destination with a head for each query head holds
 * the lists of SnapKV and H2O, which keep other tokens for each of them. The positions that K was
 * turned by do not change and are the caller's to remember ({@link Gather} moves them by the same
 * list).
 *
 * <p>In place (the destination is exactly the source) lists must ascend strictly, as those of a
 * {@link Selection} do. Of a paged cache the pages that no head needs any more are then returned:
 * of sequence b the blocks from {@code ceil(longest new length / page)} to {@code ceil(length[b] /
 * page) - 1}, b and block ascending. The block table is left as it is; shorten it before the pages
 * serve another sequence.
 *
 * <p>A slot outside 0 to {@code length[b] - 1} (0 to T - 1 without lengths), a length outside 0 to
 * T, offsets that fall or leave 0 to M, a count outside 0 to K or above the destination's T, an
 * in-place list that does not ascend, a sequence out of range or named twice, a page out of range
 * or used twice: an {@link IllegalArgumentException} on the CPU, with nothing moved; on CUDA, where
 * a run cannot read them, nothing is moved either, every new length is -1 and nothing is freed. The
 * pages in question are those that entries read and those that are written; in place, with lengths,
 * all of the slots in use. A page may be read for several blocks (a shared prefix), but one that is
 * written, and any in place, is used once.
 *
 * <p>Bytes that must move: {@code 4 dh} elements for each entry and head (K and V, read and
 * written), 4 for each entry of the lists.
 *
 * <p>Errors, threads, alignment: {@link Op}. The destination may be exactly the source.
 */
public final class KvCompact extends Op {
  private KvCompact(Params params, Place place) {
    super(params, place);
  }

  /**
   * Starts building; {@link KvCache#compact} and {@link KvCache#compactTo} do so with both caches.
   * A list for each sequence, nothing freed.
   *
   * @return an empty builder
   */
  public static Builder builder() {
    return new Builder();
  }

  @Override
  int supported(long params) {
    return exeunt.exn_kv_compact_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_kv_compact_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_kv_compact(params, workspace, workspaceBytes, stream);
  }

  /** Arguments of {@link KvCompact}. */
  public static final class Builder extends Op.Builder<KvCompact> {
    private KvCache source;
    private KvCache destination;
    private Tensor list;
    private Tensor offsets;
    private Tensor count;
    private Tensor sequence;
    private Tensor length;
    private Tensor newLength;
    private Tensor freed;
    private Tensor freedCount;
    private boolean perHead;

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
     * Where they go.
     *
     * @param cache in and out; dtype, sequences and elements per head of the source, its heads or a
     *     multiple of them; may be exactly the source
     * @return this
     */
    public Builder destination(KvCache cache) {
      destination = cache;
      return this;
    }

    /**
     * The lists one behind the other, in the place of {@link #padded}.
     *
     * @param slots in, [M], I32, compact
     * @param starts in, [lists+1], I32, compact, ascending: list g begins at entry {@code
     *     starts[g]} and ends before {@code starts[g+1]}
     * @return this
     */
    public Builder packed(Tensor slots, Tensor starts) {
      list = slots;
      offsets = starts;
      count = null;
      return this;
    }

    /**
     * The lists in rows, in the place of {@link #packed}.
     *
     * @param slots in, [lists,K], I32, compact
     * @param counts in, [lists], I32, compact, entries from 0 to K: how many of each row
     * @return this
     */
    public Builder padded(Tensor slots, Tensor counts) {
      list = slots;
      offsets = null;
      count = counts;
      return this;
    }

    /**
     * The lists as {@link Select} and {@link AttentionScores} write them: {@link #padded} with its
     * indices and its count.
     *
     * @param selection in; it must have a count, and room for all that it keeps
     * @return this
     */
    public Builder select(Selection selection) {
      Named.present("selection", selection);
      return padded(selection.indices(), selection.count());
    }

    /**
     * A list for each head of the destination.
     *
     * @param value false: one for each sequence
     * @return this
     */
    public Builder perHead(boolean value) {
      perHead = value;
      return this;
    }

    /**
     * The sequences to compact.
     *
     * @param tensor in, optional, [B], I32, compact, distinct; left out, all, list b being of
     *     sequence b
     * @return this
     */
    public Builder sequence(Tensor tensor) {
      sequence = tensor;
      return this;
    }

    /**
     * How many slots of each compacted sequence are in use before.
     *
     * @param tensor in, [B], I32, compact; optional where nothing is freed
     * @return this
     */
    public Builder length(Tensor tensor) {
      length = tensor;
      return this;
    }

    /**
     * How many slots of each list are in use after.
     *
     * @param tensor out, optional, [lists], I32, compact
     * @return this
     */
    public Builder newLength(Tensor tensor) {
      newLength = tensor;
      return this;
    }

    /**
     * The pages that are needed no more; for a paged cache that is compacted in place.
     *
     * @param pages out, optional, [F], I32, compact: pages, then -1; {@code F = B blocks} holds all
     * @param pageCount out, optional, [1], I32; may exceed F: the list ends after F
     * @return this
     */
    public Builder freed(Tensor pages, Tensor pageCount) {
      freed = pages;
      freedCount = pageCount;
      return this;
    }

    @Override
    KvCompact create(Place place) {
      Params params =
          new Params(exn_kv_compact_params.class)
              .tensor("list", list)
              .tensor("offsets", offsets)
              .tensor("count", count)
              .tensor("sequence", sequence)
              .tensor("length", length)
              .written("new_length", newLength)
              .written("freed", freed)
              .written("freed_count", freedCount)
              .int32("per_head", perHead ? 1 : 0);
      KvCache.write(source, params, "source", false);
      KvCache.write(destination, params, "destination", true);
      return new KvCompact(params, place);
    }
  }
}
