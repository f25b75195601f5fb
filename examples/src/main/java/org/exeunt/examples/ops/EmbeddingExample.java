// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.BlockFormat;
import org.exeunt.DType;
import org.exeunt.Embedding;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** Rows of an embedding table, and of one that is quantised, times the square root of D. */
public final class EmbeddingExample {
  private EmbeddingExample() {}

  // Prints
  //   [5.0, 6.0, 1.0, 2.0]
  //   [0.0, 1.0, 2.0, 3.0]
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor table = scope.copyOf(new float[] {1, 2, 3, 4, 5, 6}, 3, 2);
      Tensor ids = scope.copyOf(new int[] {2, 0}, 2);
      Tensor rows = scope.allocate(DType.F32, 2, 2);
      Embedding.compute(table, ids, rows);
      System.out.println(Arrays.toString(rows.toFloatArray()));

      int[] block = new int[(int) BlockFormat.Q8_0.rowBytes(32)];
      block[1] = 0x30; // the upper byte of d: 1/8
      for (int i = 0; i < 32; i++) {
        block[2 + i] = i;
      }
      Tensor blocks = scope.allocate(DType.U8, 1, block.length).copyFrom(block);
      Tensor row = scope.allocate(DType.F32, 1, 32);
      Embedding.builder()
          .table(blocks)
          .tableBlocks(BlockFormat.Q8_0)
          .ids(scope.copyOf(new int[] {0}, 1))
          .out(row)
          .scale(8)
          .runOnce();
      System.out.println(Arrays.toString(Arrays.copyOf(row.toFloatArray(), 4)));
    }
  }
}
