// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.exn_row_compaction_params;
import org.exeunt.jni.global.exeunt;

/**
 * A batch goes on with the rows that stay, and comes back.
 *
 * <pre>
 *   gather   out[i] = input[list[i]]
 *   scatter  out[list[i]] = input[i]
 * </pre>
 *
 * <p>for every entry of the list that is not negative; other rows of the output are untouched. The
 * list of {@link ExitRule.Builder#activeList} fits: its padding of -1 is skipped, so the rows need
 * not be counted on the host. Rows are moved as they are, whatever they hold.
 *
 * <p>An entry beyond the rows is an {@link IllegalArgumentException} on the CPU, with nothing
 * written; on CUDA, where a run cannot read the list, it is skipped. Of two entries of a scatter
 * that name one row, on the CPU the last one stays, on CUDA one of them.
 *
 * <p>Bytes that must move: {@code 2 D} elements for each listed row.
 *
 * <p>Errors, threads, alignment, aliasing: {@link Op}.
 */
public final class RowCompaction extends Op {
  private RowCompaction(Params params, Place place) {
    super(params, place);
  }

  /**
   * Starts building an op that collects the listed rows.
   *
   * @return an empty builder
   */
  public static Builder gather() {
    return new Builder(exeunt.EXN_ROWS_GATHER);
  }

  /**
   * Starts building an op that puts rows back where the list says.
   *
   * @return an empty builder
   */
  public static Builder scatter() {
    return new Builder(exeunt.EXN_ROWS_SCATTER);
  }

  @Override
  int supported(long params) {
    return exeunt.exn_row_compaction_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_row_compaction_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_row_compaction(params, workspace, workspaceBytes, stream);
  }

  /** Arguments of {@link RowCompaction}. */
  public static final class Builder extends Op.Builder<RowCompaction> {
    private final int direction;
    private Tensor input;
    private Tensor list;
    private Tensor out;

    private Builder(int direction) {
      this.direction = direction;
    }

    /**
     * The rows to move.
     *
     * @param tensor in, any dtype, last stride 1; gather: [R,D]; scatter: at least K rows of D
     * @return this
     */
    public Builder input(Tensor tensor) {
      input = tensor;
      return this;
    }

    /**
     * Which rows.
     *
     * @param tensor in, [K], I32, compact; negative entries are skipped
     * @return this
     */
    public Builder list(Tensor tensor) {
      list = tensor;
      return this;
    }

    /**
     * Where they go.
     *
     * @param tensor out, [K,D] or with more rows (gather) or [R,D] (scatter), dtype of the input,
     *     last stride 1
     * @return this
     */
    public Builder out(Tensor tensor) {
      out = tensor;
      return this;
    }

    @Override
    RowCompaction create(Place place) {
      return new RowCompaction(
          new Params(exn_row_compaction_params.class)
              .tensor("input", input)
              .tensor("list", list)
              .written("out", out)
              .int32("direction", direction),
          place);
    }
  }
}
