// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import java.util.stream.IntStream;
import org.exeunt.KvCache.Layout;

/**
 * Where a cache keeps things, worked out from the contract's text. {@code page} is T and {@code
 * pageOf} empty if it is not paged; else {@code pageOf} holds the page of block b of sequence s at
 * {@code s * blocks + b}.
 */
record CacheShape(
    Layout layout,
    boolean sequenceAxis,
    int sequences,
    int slots,
    int page,
    int heads,
    int dim,
    int pages,
    int[] pageOf) {
  private static final int SPARE_PAGES = 3;

  /** A cache of the tables of the cache ops; {@code prefix} is empty or {@code to_}. */
  static CacheShape of(CaseRow c, String prefix, long seed) {
    return of(c, prefix, prefix + "sequences", "heads", seed);
  }

  /** Where kv_compact moves to: heads of its own, but as many sequences. */
  static CacheShape compacted(CaseRow c, long seed) {
    return of(c, "to_", "sequences", "to_heads", seed);
  }

  private static CacheShape of(
      CaseRow c, String prefix, String sequenceColumn, String heads, long seed) {
    Layout[] layouts = {Layout.HEAD_MAJOR, Layout.TOKEN_MAJOR, Layout.PAGED};
    Layout layout = layouts[c.choice(prefix + "layout", "head", "token", "paged")];
    boolean axis = c.given(sequenceColumn);
    int sequences = axis ? c.int32(sequenceColumn) : 1;
    int slots = c.int32(prefix + "slots");
    int page = c.given(prefix + "page") ? c.int32(prefix + "page") : slots;
    int blocks = page == 0 ? 0 : sequences * (slots / page);
    int pages = layout == Layout.PAGED ? blocks + SPARE_PAGES : 0;
    int[] order = Words.shuffled(pages, seed, 7);
    int[] pageOf = layout == Layout.PAGED ? IntStream.of(order).limit(blocks).toArray() : order;
    return new CacheShape(
        layout, axis, sequences, slots, page, c.int32(heads), c.int32("dim"), pages, pageOf);
  }

  /** A cache of kv_propagate: one page to spare, the last ones come first. */
  static CacheShape ofLayer(CaseRow c) {
    Layout layout = c.choice("layout", Layout.class);
    int sequences = c.int32("sequences");
    int slots = c.int32("slots");
    boolean paged = layout == Layout.PAGED;
    int page = paged ? c.int32("page") : Math.max(slots, c.int32("page"));
    int pages = paged ? sequences * (slots / page) + 1 : 0;
    int[] pageOf = IntStream.range(0, Math.max(0, pages - 1)).map(i -> pages - 1 - i).toArray();
    int heads = c.int32("heads");
    int dim = c.int32("head_dim");
    return new CacheShape(layout, sequences > 1, sequences, slots, page, heads, dim, pages, pageOf);
  }

  int blocks() {
    return slots / page;
  }

  int columns() {
    return heads * dim;
  }

  long[] extents() {
    switch (layout) {
      case HEAD_MAJOR:
        return sequenceAxis
            ? new long[] {sequences, heads, slots, dim}
            : new long[] {heads, slots, dim};
      case TOKEN_MAJOR:
        return sequenceAxis
            ? new long[] {sequences, slots, heads, dim}
            : new long[] {slots, heads, dim};
      default:
        return new long[] {pages, page, heads, dim};
    }
  }

  /** The element at which a head of a slot begins. */
  int at(int sequence, int slot, int head) {
    switch (layout) {
      case HEAD_MAJOR:
        return ((sequence * heads + head) * slots + slot) * dim;
      case TOKEN_MAJOR:
        return ((sequence * slots + slot) * heads + head) * dim;
      default:
        int physical = pageOf[sequence * blocks() + slot / page];
        return ((physical * page + slot % page) * heads + head) * dim;
    }
  }
}
