// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.exn_perp_grad_params;
import org.exeunt.jni.global.exeunt;

/**
 * Removes from a gradient its part along the weights, per tensor (perpGrad, OrthoGrad; Prieto et
 * al. 2025 and its code): {@code g_perp = g - (w.g) / (w.w + 1e-30) w}, in {@link Form#CODE} scaled
 * back to the norm of {@code g}.
 *
 * <p>A guard that the code lacks: a gradient that cannot be told from a multiple of the weights
 * ({@code |g_perp| <= u |g|}, u the unit roundoff of the dtype, for F64 eight of them) gives 0
 * rather than rounding noise scaled to full norm. {@code w = 0} gives {@code g}. A NaN or infinity,
 * or F64 whose squares add up to one, gives NaN everywhere. Dot products are f64 for F64, else f32
 * in fixed order. Bytes that must move: weight and gradient read twice, the result written once.
 *
 * <p>Errors, threads, alignment: {@link Op}. {@code out} may be exactly {@code grad} (in place).
 */
public final class PerpGrad extends Op {
  /** What is returned. */
  public enum Form {
    /** The projection with the norm of the gradient restored, as the official code does. */
    CODE(exeunt.EXN_PERP_CODE),
    /** The projection alone. */
    PAPER(exeunt.EXN_PERP_PAPER);

    final int code;

    Form(int code) {
      this.code = code;
    }
  }

  private PerpGrad(Params params, Place place) {
    super(params, place);
  }

  /**
   * Starts building, with {@link Form#CODE}.
   *
   * @return an empty builder
   */
  public static Builder builder() {
    return new Builder();
  }

  /**
   * Computes {@link Form#CODE} once on {@link Stream#DEFAULT}; see {@link Op.Builder#runOnce()}.
   *
   * @param weight any shape, F64, F32, F16 or BF16, compact
   * @param grad shape and dtype of {@code weight}
   * @param out shape and dtype of {@code weight}; may be {@code grad}
   */
  public static void compute(Tensor weight, Tensor grad, Tensor out) {
    builder().weight(weight).grad(grad).out(out).runOnce();
  }

  @Override
  int supported(long params) {
    return exeunt.exn_perp_grad_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_perp_grad_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_perp_grad(params, workspace, workspaceBytes, stream);
  }

  /** Arguments of {@link PerpGrad}. */
  public static final class Builder extends Op.Builder<PerpGrad> {
    private Tensor weight;
    private Tensor grad;
    private Tensor out;
    private Form form = Form.CODE;

    private Builder() {}

    /**
     * The weights.
     *
     * @param tensor in, any rank, F64, F32, F16 or BF16, compact; may be empty
     * @return this
     */
    public Builder weight(Tensor tensor) {
      weight = tensor;
      return this;
    }

    /**
     * The gradient.
     *
     * @param tensor in, shape and dtype of the weights, compact
     * @return this
     */
    public Builder grad(Tensor tensor) {
      grad = tensor;
      return this;
    }

    /**
     * The result.
     *
     * @param tensor out, shape and dtype of the weights, compact; may be the gradient
     * @return this
     */
    public Builder out(Tensor tensor) {
      out = tensor;
      return this;
    }

    /**
     * Which of the two forms.
     *
     * @param value the form
     * @return this
     */
    public Builder form(Form value) {
      form = Named.present("form", value);
      return this;
    }

    @Override
    PerpGrad create(Place place) {
      return new PerpGrad(
          new Params(exn_perp_grad_params.class)
              .tensor("weight", weight)
              .tensor("grad", grad)
              .written("out", out)
              .int32("form", form.code),
          place);
    }
  }
}
