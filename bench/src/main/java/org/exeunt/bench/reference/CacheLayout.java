// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

import java.util.Arrays;

/**
 * Where a cache keeps a slot: by head, by token, or in pages of {@code page} slots in random
 * order.
 */
public final class CacheLayout {
  /** The three layouts. */
  public enum Kind { HEAD, TOKEN, PAGED }

  private static final int SPARE_PAGES = 3;

  public final Kind kind;
  public final int sequences;
  public final int slots;
  public final int heads;
  public final int dim;

  /** Slots of a page; T if not paged. */
  public final int page;

  /** The page of each block of each sequence; empty if not paged. */
  public final int[] blockTable;

  public CacheLayout(Kind kind, int sequences, int slots, int page, int heads, int dim, int seed) {
    this.kind = kind;
    this.sequences = sequences;
    this.slots = slots;
    this.page = page;
    this.heads = heads;
    this.dim = dim;
    int blocks = kind == Kind.PAGED ? sequences * (slots / page) : 0;
    int[] order = new Words(seed, 7).shuffled(blocks == 0 ? 0 : blocks + SPARE_PAGES);
    blockTable = Arrays.copyOf(order, blocks);
  }

  /** Number of pages, those of nobody included. */
  public int pages() {
    return blockTable.length + SPARE_PAGES;
  }

  /** Elements of K, and of V. */
  public int elements() {
    int held = kind == Kind.PAGED ? pages() * page : sequences * slots;
    return held * heads * dim;
  }

  /** Where a head of a slot begins. */
  public int at(int sequence, int slot, int head) {
    switch (kind) {
      case HEAD:
        return ((sequence * heads + head) * slots + slot) * dim;
      case TOKEN:
        return ((sequence * slots + slot) * heads + head) * dim;
      default:
        int block = blockTable[sequence * (slots / page) + slot / page];
        return ((block * page + slot % page) * heads + head) * dim;
    }
  }

  /** A matrix of all slots, sequence after sequence, as this layout keeps it. */
  public Matrix arrange(Matrix values) {
    Matrix kept = Matrix.of(1, elements(), values.storage(), i -> 0);
    for (int row = 0; row < values.rows(); row++) {
      for (int h = 0; h < heads; h++) {
        System.arraycopy(values.values(), row * heads * dim + h * dim, kept.values(),
            at(row / slots, row % slots, h), dim);
      }
    }
    return kept;
  }
}
