// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

public final class Cosine extends Op {
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
}
