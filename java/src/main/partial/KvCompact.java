// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.jspecify.annotations.Nullable;

public final class KvCompact extends Op {
  public static final class Builder extends Op.Builder<KvCompact> {
    /**
     * The lists one after the other, in the place of {@link #padded}.
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
     * The pages that are needed no more; for a paged cache that is compacted in place.
     *
     * @param pages out, optional, [F], I32, compact: pages, then -1; {@code F = B blocks} holds all
     * @param pageCount {freed_count}
     * @return this
     */
    public Builder freed(@Nullable Tensor pages, @Nullable Tensor pageCount) {
      freed = pages;
      freedCount = pageCount;
      return this;
    }
  }
}
