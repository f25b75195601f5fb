// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.BlockFormat;
import org.exeunt.DType;
import org.exeunt.Linear;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/**
 * A projection with a bias, added to a residual stream in place; one with a LoRA adapter; and one with
 * quantised weights.
 */
public final class LinearExample {
  private LinearExample() {}

  // Prints
  //   [11.5, 22.0, 33.0]
  //   [2.5, 2.0, 1.5]
  //   [48.0]
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor input = scope.copyOf(new float[] {1, 2}, 1, 2);
      Tensor weight = scope.copyOf(DType.BF16, new float[] {1, 0, 0, 1, 1, 1}, 3, 2);
      Tensor bias = scope.copyOf(new float[] {.5f, 0, 0}, 3);
      Tensor stream = scope.copyOf(new float[] {10, 20, 30}, 1, 3);
      Linear.builder()
          .input(input)
          .weight(weight)
          .bias(bias)
          .residual(stream)
          .out(stream)
          .runOnce();
      System.out.println(Arrays.toString(stream.toFloatArray()));

      Tensor adapted = scope.allocate(DType.F32, 1, 3);
      Linear.builder()
          .input(input)
          .weight(weight)
          .adapter(
              scope.copyOf(new float[] {1, 1}, 1, 2), scope.copyOf(new float[] {1, 0, -1}, 1, 3))
          .adapterScale(scope.copyOf(new float[] {.5f}, 1, 1))
          .out(adapted)
          .runOnce();
      System.out.println(Arrays.toString(adapted.toFloatArray()));

      int[] block = new int[(int) BlockFormat.Q8_0.rowBytes(32)];
      block[1] = 0x38; // the upper byte of d: 1/2
      Arrays.fill(block, 2, block.length, 3);
      float[] ones = new float[32];
      Arrays.fill(ones, 1);
      Tensor out = scope.allocate(DType.F32, 1, 1);
      Linear.builder()
          .input(scope.copyOf(ones, 1, 32))
          .weight(scope.allocate(DType.U8, 1, block.length).copyFrom(block))
          .weightBlocks(BlockFormat.Q8_0)
          .out(out)
          .runOnce();
      System.out.println(Arrays.toString(out.toFloatArray()));
    }
  }
}
