// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.exn_cosine_params;
import org.exeunt.jni.global.exeunt;

/**
 * Cosine similarity of the rows of two matrices, [R,D] and [R,D] to [R], {@code out_r = <a_r, b_r>
 * / (|a_r| |b_r|)}: CALM's state saturation (of an exit's state with that of the exit before; a
 * token's first exit has none, and CALM never leaves there), FFN-SkipLLM's block similarity; per
 * row, unlike CALM's code, which takes norms over the whole batch.
 *
 * <p>A row of zeros on either side gives 0, a NaN or infinity gives NaN; results are clamped to
 * [-1, 1]. Sums are f32. Bytes that must move: {@code 2 R D} elements read, {@code 4 R} written.
 *
 * <p>Errors, threads, alignment, aliasing: {@link Op}. {@code a} and {@code b} may be one tensor.
 */
public final class Cosine extends Op {
  private Cosine(Params params, Place place) {
    super(params, place);
  }

  /**
   * Starts building.
   *
   * @return an empty builder
   */
  public static Builder builder() {
    return new Builder();
  }

  /**
   * Computes once on {@link Stream#DEFAULT}; see {@link Op.Builder#runOnce()}.
   *
   * @param a [R,D], F32, F16 or BF16
   * @param b [R,D], dtype of {@code a}
   * @param out [R], F32
   */
  public static void compute(Tensor a, Tensor b, Tensor out) {
    builder().a(a).b(b).out(out).runOnce();
  }

  @Override
  int supported(long params) {
    return exeunt.exn_cosine_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_cosine_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_cosine(params, workspace, workspaceBytes, stream);
  }

  /** Arguments of {@link Cosine}. */
  public static final class Builder extends Op.Builder<Cosine> {
    private Tensor a;
    private Tensor b;
    private Tensor out;

    private Builder() {}

    /**
     * First matrix.
     *
     * @param tensor in, [R,D], F32, F16 or BF16, last stride 1; R may be 0, D at least 1
     * @return this
     */
    public Builder a(Tensor tensor) {
      a = tensor;
      return this;
    }

    /**
     * Second matrix.
     *
     * @param tensor in, [R,D], dtype of {@code a}, last stride 1; may be {@code a}
     * @return this
     */
    public Builder b(Tensor tensor) {
      b = tensor;
      return this;
    }

    /**
     * The similarities.
     *
     * @param tensor out, [R], F32, compact
     * @return this
     */
    public Builder out(Tensor tensor) {
      out = tensor;
      return this;
    }

    @Override
    Cosine create(Place place) {
      return new Cosine(
          new Params(exn_cosine_params.class).tensor("a", a).tensor("b", b).written("out", out),
          place);
    }
  }
}
