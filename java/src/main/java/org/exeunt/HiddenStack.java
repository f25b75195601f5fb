// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.exn_hidden_stack_params;
import org.exeunt.jni.global.exeunt;

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
 * push leaves behind: on CUDA {@code overflow} is not 0 then.
 *
 * <p>Bytes that must move: {@code 2 D} elements for each row pushed or gathered, and its tags.
 *
 * <p>Errors, threads, alignment, aliasing: {@link Op}.
 */
public final class HiddenStack extends Op {
  private HiddenStack(Params params, Place place) {
    super(params, place);
  }

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

  @Override
  int supported(long params) {
    return exeunt.exn_hidden_stack_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_hidden_stack_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_hidden_stack(params, workspace, workspaceBytes, stream);
  }

  /** Arguments of {@link HiddenStack}. */
  public static final class Builder extends Op.Builder<HiddenStack> {
    private final int action;
    private Tensor stack;
    private Tensor stackTags;
    private Tensor count;
    private Tensor rows;
    private Tensor tags;
    private Tensor mask;
    private Tensor overflow;

    private Builder(int action) {
      this.action = action;
    }

    /**
     * The stack's memory.
     *
     * @param tensor in and out, [C,D], F32, F16 or BF16, last stride 1, C up to 2^31 - 1
     * @return this
     */
    public Builder stack(Tensor tensor) {
      stack = tensor;
      return this;
    }

    /**
     * How many entries are on the stack; set it to 0 before the first push.
     *
     * @param tensor in and out, [1], I32, from 0 to C
     * @return this
     */
    public Builder count(Tensor tensor) {
      count = tensor;
      return this;
    }

    /**
     * The rows to push or to fill; not for a clear.
     *
     * @param tensor push: in, gather: out, [R,D], dtype of the stack, last stride 1, R up to
     *     2^31 - 1
     * @return this
     */
    public Builder rows(Tensor tensor) {
      rows = tensor;
      return this;
    }

    /**
     * Integers that travel with the entries.
     *
     * @param ofStack in and out, optional, [M,C], I32, compact, M at least 1
     * @param ofRows push: in, gather: out, [M,R], I32, compact; null for a clear
     * @return this
     */
    public Builder tags(Tensor ofStack, Tensor ofRows) {
      stackTags = ofStack;
      tags = ofRows;
      return this;
    }

    /**
     * Which rows to push; for a push only. {@link ExitRule.Builder#exitMask} fits.
     *
     * @param tensor in, optional, [R], U8, compact; left out, all
     * @return this
     */
    public Builder mask(Tensor tensor) {
      mask = tensor;
      return this;
    }

    /**
     * How many rows did not fit.
     *
     * @param tensor out, optional, [1], I32; 0 if all did; on CUDA also not 0 if the count was
     *     outside 0 to C
     * @return this
     */
    public Builder overflow(Tensor tensor) {
      overflow = tensor;
      return this;
    }

    @Override
    HiddenStack create(Place place) {
      boolean gathers = action == exeunt.EXN_STACK_GATHER;
      return new HiddenStack(
          new Params(exn_hidden_stack_params.class)
              .written("stack", stack)
              .written("stack_tags", stackTags)
              .written("count", count)
              .tensor("rows", rows, gathers)
              .tensor("tags", tags, gathers)
              .tensor("mask", mask)
              .written("overflow", overflow)
              .int32("action", action),
          place);
    }
  }
}
