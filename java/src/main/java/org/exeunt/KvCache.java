// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.util.Arrays;
import org.exeunt.jni.exn_kv_cache;
import org.exeunt.jni.global.exeunt;
import org.jspecify.annotations.Nullable;

/**
 * The K and V cache of one layer, described: S sequences with up to T slots each. Immutable; only
 * the elements of its tensors change. Holds no memory of its own.
 *
 * <p>A slot is where a token lies; its position is what {@link Rope} turned it by. The two stay
 * apart: no op changes a position, and layers may hold different tokens and lengths. How many slots
 * of a sequence are in use is the caller's to keep; {@link KvLength} keeps it on the device.
 *
 * <p>{@link KvAppend} and {@link KvPropagate} write slots, {@link KvCopy} moves them, {@link
 * Attention} reads them. A slot of -1 switches a row off in every one of them. {@link
 * AttentionScores} says which slots matter, {@link KvCompact} keeps only those.
 *
 * <p>Thread-safe as a description. Errors of the factories: {@link IllegalArgumentException} that
 * names the argument; what else disagrees is found when an op is built.
 */
public final class KvCache {
  /** How K and V lie in memory. */
  public enum Layout {
    /** [S,Hkv,T,dh], or [Hkv,T,dh] for one sequence. */
    HEAD_MAJOR(exeunt.EXN_KV_HEAD_MAJOR),
    /** [S,T,Hkv,dh], or [T,Hkv,dh] for one sequence. */
    TOKEN_MAJOR(exeunt.EXN_KV_TOKEN_MAJOR),
    /**
     * [P,page,Hkv,dh] with a block table [S,B]: slot t of sequence s lies in page {@code table[s, t
     * / page]} at {@code t % page}, and {@code T = B page}. Blocks and sequences may share a page
     * (a common prefix): what is written there is written for all of them, and two rows of one run
     * that write to one place of it, each for its sequence, write one slot ({@link KvAppend}).
     */
    PAGED(exeunt.EXN_KV_PAGED);

    final int code;

    Layout(int code) {
      this.code = code;
    }
  }

  private final Tensor k;
  private final Tensor v;
  private final Tensor blockTable;
  private final Layout layout;

  private KvCache(Layout layout, Tensor k, Tensor v, Tensor blockTable) {
    this.layout = layout;
    this.k = k;
    this.v = v;
    this.blockTable = blockTable;
  }

  /**
   * A cache with {@link Layout#HEAD_MAJOR}.
   *
   * @param k [S,Hkv,T,dh] or [Hkv,T,dh], F32, F16 or BF16, compact
   * @param v dtype and shape of {@code k}; null where only keys are read ({@link AttentionScores})
   * @return the description
   */
  public static KvCache ofHeadMajor(Tensor k, @Nullable Tensor v) {
    requireRank("k", k, 3, 4);
    return new KvCache(Layout.HEAD_MAJOR, k, v, null);
  }

  /**
   * A cache with {@link Layout#TOKEN_MAJOR}.
   *
   * @param k [S,T,Hkv,dh] or [T,Hkv,dh], F32, F16 or BF16, compact
   * @param v dtype and shape of {@code k}; null where only keys are read ({@link AttentionScores})
   * @return the description
   */
  public static KvCache ofTokenMajor(Tensor k, @Nullable Tensor v) {
    requireRank("k", k, 3, 4);
    return new KvCache(Layout.TOKEN_MAJOR, k, v, null);
  }

  /**
   * A cache with {@link Layout#PAGED}.
   *
   * @param k [P,page,Hkv,dh], F32, F16 or BF16, compact
   * @param v dtype and shape of {@code k}; null where only keys are read ({@link AttentionScores})
   * @param blockTable in, [S,B], I32, compact, entries from 0 to P - 1
   * @return the description
   */
  public static KvCache ofPages(Tensor k, @Nullable Tensor v, Tensor blockTable) {
    requireRank("k", k, 4, 4);
    requireRank("blockTable", blockTable, 2, 2);
    if (Math.multiplyHigh(blockTable.size(1), k.size(1)) != 0
        || blockTable.size(1) * k.size(1) < 0) {
      throw new IllegalArgumentException("blockTable: " + blockTable.size(1) + " pages of "
          + k.size(1) + " slots are more than a long can count");
    }
    return new KvCache(Layout.PAGED, k, v, blockTable);
  }

  /**
   * Allocates a cache that is not paged; its contents are undefined.
   *
   * @param scope owns the memory
   * @param device where
   * @param dtype F32, F16 or BF16
   * @param layout {@link Layout#HEAD_MAJOR} (attention reads it fastest) or {@link
   *     Layout#TOKEN_MAJOR}
   * @param sequences S
   * @param heads Hkv
   * @param capacity T
   * @param headDim dh
   * @return the description
   */
  public static KvCache contiguous(Scope scope, Device device, DType dtype, Layout layout,
      long sequences, long heads, long capacity, long headDim) {
    long[] shape;
    switch (Named.present("layout", layout)) {
      case HEAD_MAJOR:
        shape = new long[] {sequences, heads, capacity, headDim};
        break;
      case TOKEN_MAJOR:
        shape = new long[] {sequences, capacity, heads, headDim};
        break;
      default:
        throw new IllegalArgumentException("layout: " + layout + " is not contiguous");
    }
    return allocate(scope, device, dtype, layout, null, shape);
  }

  /**
   * Allocates the pages of a cache; their contents are undefined.
   *
   * @param scope owns the memory
   * @param dtype F32, F16 or BF16
   * @param pages P
   * @param slotsPerPage slots of a page
   * @param heads Hkv
   * @param headDim dh
   * @param blockTable in, [S,B], I32, compact, entries from 0 to P - 1; says the device
   * @return the description
   */
  public static KvCache paged(Scope scope, DType dtype, long pages, long slotsPerPage, long heads,
      long headDim, Tensor blockTable) {
    requireRank("blockTable", blockTable, 2, 2);
    Device device = blockTable.device();
    return allocate(
        scope, device, dtype, Layout.PAGED, blockTable, pages, slotsPerPage, heads, headDim);
  }

  private static KvCache allocate(
      Scope scope, Device device, DType dtype, Layout layout, Tensor blockTable, long... shape) {
    Tensor k = Named.present("scope", scope).allocate(device, dtype, shape);
    Tensor v = null;
    try {
      v = scope.allocate(device, dtype, shape);
      return layout == Layout.PAGED ? ofPages(k, v, blockTable) : new KvCache(layout, k, v, null);
    } catch (RuntimeException | Error e) {
      scope.discard(e, k);
      if (v != null) {
        scope.discard(e, v);
      }
      throw e;
    }
  }

  /**
   * The keys.
   *
   * @return the tensor, shaped as {@link #layout} says
   */
  public Tensor k() {
    return k;
  }

  /**
   * The values.
   *
   * @return the tensor, shaped as {@link #layout} says, or null if there are none
   */
  public @Nullable Tensor v() {
    return v;
  }

  /**
   * The pages of each sequence.
   *
   * @return [S,B], or null unless the cache is paged
   */
  public @Nullable Tensor blockTable() {
    return blockTable;
  }

  /**
   * How K and V lie in memory.
   *
   * @return the layout
   */
  public Layout layout() {
    return layout;
  }

  /**
   * Element type of K and V.
   *
   * @return the dtype
   */
  public DType dtype() {
    return k.dtype();
  }

  /**
   * Number of sequences.
   *
   * @return S
   */
  public long sequences() {
    if (layout == Layout.PAGED) {
      return blockTable.size(0);
    }
    return k.rank() == 4 ? k.size(0) : 1;
  }

  /**
   * Slots of each sequence.
   *
   * @return T
   */
  public long capacity() {
    switch (layout) {
      case HEAD_MAJOR:
        return k.size(k.rank() - 2);
      case TOKEN_MAJOR:
        return k.size(k.rank() - 3);
      default:
        return blockTable.size(1) * k.size(1);
    }
  }

  /**
   * Heads of K and of V in a slot.
   *
   * @return Hkv
   */
  public long heads() {
    return k.size(k.rank() - (layout == Layout.HEAD_MAJOR ? 3 : 2));
  }

  /**
   * Elements of a head.
   *
   * @return dh
   */
  public long headDim() {
    return k.size(k.rank() - 1);
  }

  /**
   * Starts building an op that writes rows to slots of this cache.
   *
   * @return a builder of {@link KvAppend}
   */
  public KvAppend.Builder append() {
    return KvAppend.builder().cache(this);
  }

  /**
   * Starts building an op that copies slots of this cache.
   *
   * @param destination another cache with the same dtype, heads and elements per head, or this one
   * @return a builder of {@link KvCopy}
   */
  public KvCopy.Builder copyTo(KvCache destination) {
    return KvCopy.builder().source(this).destination(destination);
  }

  /**
   * Starts building an op that shrinks this cache to the slots that are kept.
   *
   * @return a builder of {@link KvCompact}
   */
  public KvCompact.Builder compact() {
    return compactTo(this);
  }

  /**
   * Starts building an op that collects the kept slots of this cache in another one.
   *
   * @param destination dtype, sequences and elements per head of this cache, its heads or a
   *     multiple of them
   * @return a builder of {@link KvCompact}
   */
  public KvCompact.Builder compactTo(KvCache destination) {
    return KvCompact.builder().source(this).destination(destination);
  }

  /**
   * Starts building an op that hands out this cache's next free slots.
   *
   * @return a builder of {@link KvLength}
   */
  public KvLength.Builder advance() {
    return KvLength.advance(capacity());
  }

  /**
   * Fills the field {@code field}, an {@code exn_kv_cache}, of a params struct; null leaves it
   * empty, which the native library refuses. {@code written}: the op writes K and V.
   */
  static void write(KvCache cache, Params params, String field, boolean written) {
    if (cache == null) {
      return;
    }
    params.inside(field, exn_kv_cache.class)
        .tensor("k", cache.k, written)
        .tensor("v", cache.v, written)
        .tensor("block_table", cache.blockTable)
        .int32("layout", cache.layout.code);
  }

  private static void requireRank(String name, Tensor tensor, int least, int most) {
    if (tensor == null) {
      throw new IllegalArgumentException(name + ": null");
    }
    if (tensor.rank() < least || tensor.rank() > most) {
      throw new IllegalArgumentException(name + ": shape " + Arrays.toString(tensor.shape())
          + " has rank " + tensor.rank() + ", expected "
          + (least == most ? "" + least : least + " or " + most));
    }
  }

  /** Layout, extents, dtype and device, for messages. */
  @Override
  public String toString() {
    return layout + " cache of " + sequences() + " sequence(s), " + capacity() + " slots, "
        + heads() + " heads of " + headDim() + ", " + dtype() + " on " + k.device();
  }
}
