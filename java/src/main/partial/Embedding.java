// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

public final class Embedding extends Op {
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

  public static final class Builder extends Op.Builder<Embedding> {
    private float scale = 1;
  }
}
