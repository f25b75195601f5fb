// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

/**
 * The best columns of each row of scores, as an ascending list: what to keep of a prompt or of an
 * image. With {@link Builder#heads}, of the sums of several rows.
 *
 * <p>{@link Selection} says how many, what is kept or left out in any case, and where the lists go.
 * {@link Gather} moves tokens by such a list, {@link KvCompact} shrinks a cache to it. Scores that
 * come from attention are better selected in the run that makes them: {@link AttentionScores}.
 *
 * <p>Follows the selections of PromptDistill, GemFilter, SnapKV, H2O, FastV, PyramidDrop and HiRED,
 * which leave the order of equal scores open; here they go to the smaller column.
 *
 * <p>A limit outside 0 to N is an {@link IllegalArgumentException} on the CPU, with nothing
 * written; on CUDA, where a run cannot read it, it is clamped.
 *
 * <p>Bytes that must move: N elements of scores for each row, H times as many with heads, read
 * once, and {@code 4 K} written. On CUDA a block of threads takes a whole row: many rows fill a
 * device, one row of 100 000 columns does not; sums of rows of more than 8192 columns are made
 * before, by many blocks, and take {@code 4 N} bytes of workspace.
 *
 * <p>Errors, threads, alignment, aliasing: {@link Op}.
 */
public final class Select extends Op {
  /**
   * Selects the k best columns of each row on {@link Stream#DEFAULT}, without building an op first.
   *
   * @param scores in, [R,N], F32, F16 or BF16, last stride 1
   * @param k 0 or more
   * @param indices out, [R,K], I32, compact, K at least {@code min(k, N)}: ascending columns, then
   *     -1
   */
  public static void compute(Tensor scores, long k, Tensor indices) {
    builder().scores(scores).select(Selection.top(k, indices)).runOnce();
  }

  public static final class Builder extends Op.Builder<Select> {
    private long heads = 1;
    private Selection select; // selection
  }
}
