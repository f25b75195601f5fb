// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.exn_column_norms_params;
import org.exeunt.jni.global.exeunt;

/**
 * Norms of columns, of rows that come in batches: what Wanda and Antidote weigh the inputs of a layer
 * by, and {@link PruneMask.Builder#tensor(Tensor, Tensor, Tensor)} takes as its norm.
 *
 * <pre>
 *   sums[j]  = (accumulate ? sums[j] : 0) + sum over r of x[r,j]^2
 *   norms[j] = sqrt(scale) sqrt(sums[j])
 * </pre>
 *
 * <p>With {@code scale(1f / n)} the norm is the root of the mean over n: Wanda and Antidote take the
 * number of sequences for n, which the order within a matrix of weights does not show.
 *
 * <p>What x holds in rows that are left out does not matter. A NaN elsewhere makes the sum of its
 * column NaN; an infinity, or a square beyond f32, makes it infinite. Other columns do not notice.
 *
 * <p>Arithmetic is f32: what a call of R rows adds is, relative, within {@code (136 + R / 4096)
 * 2^-24} and within {@code (R + 1) 2^-24}, but for squares below the normal numbers; each call rounds
 * the sums once more. The same bits for every number of threads.
 *
 * <p>Bytes that must move: x read, a byte of each row's {@code active}, 4 bytes of each sum written,
 * and read to accumulate, 4 of each norm.
 *
 * <p>Errors, threads, alignment, aliasing: {@link Op}.
 */
public final class ColumnNorms extends Op {
  private ColumnNorms(Params params, Place place) {
    super(params, place);
  }

  /**
   * Starts building: all rows, sums that begin at 0, no norms, scale 1.
   *
   * @return an empty builder
   */
  public static Builder builder() {
    return new Builder();
  }

  @Override
  int supported(long params) {
    return exeunt.exn_column_norms_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_column_norms_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_column_norms(params, workspace, workspaceBytes, stream);
  }

  /** Arguments of {@link ColumnNorms}. */
  public static final class Builder extends Op.Builder<ColumnNorms> {
    private Tensor x;
    private Tensor active;
    private Tensor sums;
    private Tensor norms;
    private float scale = 1;
    private boolean accumulate;

    private Builder() {}

    /**
     * The rows, such as the inputs of a layer for the tokens of a batch.
     *
     * @param tensor in, [R,D], F32, F16 or BF16, row stride free, at least D; R and D may be 0
     * @return this
     */
    public Builder x(Tensor tensor) {
      x = tensor;
      return this;
    }

    /**
     * Which rows, such as those that are no padding.
     *
     * @param tensor in, optional, [R], U8, compact; 0: the row is left out
     * @return this
     */
    public Builder active(Tensor tensor) {
      active = tensor;
      return this;
    }

    /**
     * Sums of squares.
     *
     * @param tensor in and out, [D], F32, compact
     * @return this
     */
    public Builder sums(Tensor tensor) {
      sums = tensor;
      return this;
    }

    /**
     * The roots of the sums.
     *
     * @param tensor out, optional, [D], F32, compact
     * @return this
     */
    public Builder norms(Tensor tensor) {
      norms = tensor;
      return this;
    }

    /**
     * What the sums are multiplied by under the root.
     *
     * @param value positive and finite; left out, 1
     * @return this
     */
    public Builder scale(float value) {
      scale = value;
      return this;
    }

    /**
     * Whether sums go on from what they hold.
     *
     * @param value true: they do; left out, or false: they begin at 0, whatever they hold
     * @return this
     */
    public Builder accumulate(boolean value) {
      accumulate = value;
      return this;
    }

    @Override
    ColumnNorms create(Place place) {
      return new ColumnNorms(
          new Params(exn_column_norms_params.class)
              .tensor("x", x)
              .tensor("active", active)
              .written("sums", sums)
              .written("norms", norms)
              .float32("scale", scale)
              .int32("accumulate", accumulate ? 1 : 0),
          place);
    }
  }
}
