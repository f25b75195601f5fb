// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.jspecify.annotations.Nullable;

/**
 * Keeps the hidden states of rows that left, so that the deep layers can run for all of them
 * together later, with exact K and V (FREE's synchronised parallel decoding, EE-LLM's
 * recomputation, LayerSkip's exit query cache).
 *
 * <ul>
 *   <li>{@link #push} appends the rows whose mask is not 0, in ascending order, with their tags;
 *   <li>{@link #gather} copies out the entries: tags beyond the count are -1, rows beyond
 *       untouched;
 *   <li>{@link #clear} empties the stack.
 * </ul>
 *
 * <p>Tags are M integers that travel with an entry, for instance sequence, slot, position and what
 * attention may see. Row m of the tags is tag m of all entries: {@code tags.row(m)} is what the ops
 * that follow take. The -1 of an entry that is not there switches it off as slot ({@link KvAppend},
 * {@link KvCopy}, {@link KvPropagate}), exit layer ({@link KvPropagate}), position ({@link Rope})
 * and visible ({@link Attention}); its other ids, its sequence among them, are not looked at then.
 * {@link KvLength} has no such switch.
 *
 * <p>A push that does not fit pushes nothing, and a gather into too few rows copies nothing: an
 * {@link IllegalArgumentException} on the CPU; on CUDA, where a run cannot read the count, {@code
 * overflow} receives the rows that found no room. So it is with a count outside 0 to C, which no
 * push leaves: on CUDA {@code overflow} is not 0 then.
 *
 * <p>Bytes that must move: {@code 2 D} elements for each row pushed or gathered, and its tags.
 *
 * <p>Errors, threads, alignment, aliasing: {@link Op}.
 */
public final class HiddenStack extends Op {
  /**
   * Starts building an op that appends rows.
   *
   * @return a builder that needs stack, count and rows
   */
  public static Builder push() {
    return new Builder(exeunt.EXN_STACK_PUSH);
  }

  /**
   * Starts building an op that copies the entries out.
   *
   * @return a builder that needs stack, count and rows
   */
  public static Builder gather() {
    return new Builder(exeunt.EXN_STACK_GATHER);
  }

  /**
   * Starts building an op that sets the count to 0.
   *
   * @return a builder that needs stack and count
   */
  public static Builder clear() {
    return new Builder(exeunt.EXN_STACK_CLEAR);
  }

  public static final class Builder extends Op.Builder<HiddenStack> {
    private final int action;

    private Builder(int action) {
      this.action = action;
    }

    /**
     * Integers that travel with the entries.
     *
     * @param ofStack {stack_tags}
     * @param ofRows {tags}
     * @return this
     */
    public Builder tags(@Nullable Tensor ofStack, Tensor ofRows) {
      stackTags = ofStack;
      tags = ofRows;
      return this;
    }

    private void writeRest(Params params) {
      boolean gathers = action == exeunt.EXN_STACK_GATHER;
      params.tensor("rows", rows, gathers).tensor("tags", tags, gathers);
    }
  }
}
