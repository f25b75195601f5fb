// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

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

  public static final class Builder extends Op.Builder<PerpGrad> {
    private Form form = Form.CODE;
  }
}
