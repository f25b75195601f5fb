// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.exn_select_params;
import org.exeunt.jni.global.exeunt;

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
  private Select(Params params, Place place) {
    super(params, place);
  }

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

  /**
   * Starts building.
   *
   * @return an empty builder
   */
  public static Builder builder() {
    return new Builder();
  }

  @Override
  int supported(long params) {
    return exeunt.exn_select_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_select_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_select(params, workspace, workspaceBytes, stream);
  }

  /** Arguments of {@link Select}. */
  public static final class Builder extends Op.Builder<Select> {
    private Tensor scores;
    private Tensor limit;
    private Selection selection;
    private long heads = 1;

    private Builder() {}

    /**
     * The scores.
     *
     * @param tensor in, [R,N], or [R*H,N] with heads, F32, F16 or BF16, last stride 1; R and N may
     *     be 0
     * @return this
     */
    public Builder scores(Tensor tensor) {
      scores = tensor;
      return this;
    }

    /**
     * How many neighbouring rows of the scores, the heads of an attention for instance, are added
     * up for one list: row r of the selection is of rows {@code r H} to {@code r H + H - 1}. Sums
     * are F32, one row added to another in their order. A sum with a NaN, or of opposite
     * infinities, is NaN. A mean over heads ranks columns as the sum does.
     *
     * @param count H, 1 or more, divides the rows of the scores; left out, 1
     * @return this
     */
    public Builder heads(long count) {
      heads = count;
      return this;
    }

    /**
     * How many leading columns of each row there are to choose from.
     *
     * @param tensor in, optional, [R], I32, compact, entries from 0 to N; left out, N
     * @return this
     */
    public Builder limit(Tensor tensor) {
      limit = tensor;
      return this;
    }

    /**
     * How many to keep, and where their list goes.
     *
     * @param value the selection
     * @return this
     */
    public Builder select(Selection value) {
      selection = value;
      return this;
    }

    @Override
    Select create(Place place) {
      Params params =
          new Params(exn_select_params.class).tensor("scores", scores).tensor("limit", limit);
      Selection.write(selection, params);
      params.int64("heads", heads);
      return new Select(params, place);
    }
  }
}
