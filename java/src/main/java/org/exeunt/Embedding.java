// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.exn_embedding_params;
import org.exeunt.jni.global.exeunt;

/**
 * Rows of an embedding table by their ids, unpacked where the table is quantised: {@code out_r =
 * scale table[ids_r]} in f32, rounded to the dtype of the output.
 *
 * <p>An element of a block is its exact value, rounded to f32; the product with the scale rounds to
 * f32 and the result to the dtype of the output, each to nearest even. So every instruction set and
 * device gives the same numbers. Where table and output have one dtype and the scale is 1, elements
 * are moved as they are, NaNs with their payloads. Elements that are NaN or infinite stay so; a
 * block whose d or m is gives what f32 arithmetic does.
 *
 * <p>An id that the table does not have is an {@link IllegalArgumentException} on the CPU, with
 * nothing written; on CUDA, where a run cannot read ids, its row of the output is NaN.
 *
 * <p>Bytes that must move: a row of the table and one of the output for each id, and 4 for the id.
 *
 * <p>Errors, threads, alignment, aliasing: {@link Op}.
 */
public final class Embedding extends Op {
  private Embedding(Params params, Place place) {
    super(params, place);
  }

  /**
   * Starts building: no blocks, scale 1.
   *
   * @return an empty builder
   */
  public static Builder builder() {
    return new Builder();
  }

  /**
   * Looks up once on {@link Stream#DEFAULT}; see {@link Op.Builder#runOnce()}.
   *
   * @param table [V,D], F32, F16 or BF16
   * @param ids [R], I32
   * @param out [R,D], F32, F16 or BF16
   */
  public static void compute(Tensor table, Tensor ids, Tensor out) {
    builder().table(table).ids(ids).out(out).runOnce();
  }

  @Override
  int supported(long params) {
    return exeunt.exn_embedding_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_embedding_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_embedding(params, workspace, workspaceBytes, stream);
  }

  /** Arguments of {@link Embedding}. */
  public static final class Builder extends Op.Builder<Embedding> {
    private Tensor table;
    private Tensor ids;
    private Tensor out;
    private float scale = 1;
    private BlockFormat tableBlocks;

    private Builder() {}

    /**
     * The table.
     *
     * @param tensor in, [V,D], F32, F16 or BF16, or blocks in a U8 tensor ({@link
     *     #tableBlocks}), last stride 1; V and D at least 1
     * @return this
     */
    public Builder table(Tensor tensor) {
      table = tensor;
      return this;
    }

    /**
     * What blocks the rows of the table are made of.
     *
     * @param format the format; null, the default: elements of the table's type
     * @return this
     */
    public Builder tableBlocks(BlockFormat format) {
      tableBlocks = format;
      return this;
    }

    /**
     * Which rows.
     *
     * @param tensor in, [R], I32, compact, entries from 0 to V - 1; R may be 0
     * @return this
     */
    public Builder ids(Tensor tensor) {
      ids = tensor;
      return this;
    }

    /**
     * The rows.
     *
     * @param tensor out, [R,D], F32, F16 or BF16, last stride 1
     * @return this
     */
    public Builder out(Tensor tensor) {
      out = tensor;
      return this;
    }

    /**
     * What they are multiplied by.
     *
     * @param value finite and not 0: the square root of D for Gemma; left out, 1
     * @return this
     */
    public Builder scale(float value) {
      scale = value;
      return this;
    }

    @Override
    Embedding create(Place place) {
      return new Embedding(
          new Params(exn_embedding_params.class)
              .tensor("table", table)
              .tensor("ids", ids)
              .written("out", out)
              .float32("scale", scale)
              .int32("table_blocks", BlockFormat.tagOf(tableBlocks)),
          place);
    }
  }
}
