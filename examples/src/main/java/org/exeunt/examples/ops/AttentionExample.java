// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.Attention;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.KvAppend;
import org.exeunt.KvCache;
import org.exeunt.KvLength;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** Two decode steps: take the next slot, write K and V there, attend over what is visible. */
public final class AttentionExample {
  private AttentionExample() {}

  // Prints
  //   slot 0 sees 1: [1.0, 0.0]
  //   slot 1 sees 2: [0.25, 0.75]
  public static void main(String[] arguments) {
    float[][] keys = {{0, 0}, {(float) Math.log(3), 0}};
    float[][] values = {{1, 0}, {0, 1}};
    try (Scope scope = Scope.open()) {
      Device device = Device.defaultDevice();
      KvCache cache =
          KvCache.contiguous(scope, device, DType.F32, KvCache.Layout.HEAD_MAJOR, 1, 1, 8, 2);
      Tensor length = scope.copyOf(new int[] {0}, 1);
      Tensor slot = scope.allocate(DType.I32, 1);
      Tensor visible = scope.allocate(DType.I32, 1);
      Tensor query = scope.copyOf(new float[] {1, 0}, 1, 1, 2);
      Tensor k = scope.allocate(DType.F32, 1, 1, 2);
      Tensor v = scope.allocate(DType.F32, 1, 1, 2);
      Tensor out = scope.allocate(DType.F32, 1, 1, 2);
      KvLength advance = cache.advance().length(length).slot(slot).visible(visible).build(scope);
      KvAppend append = cache.append().k(k).v(v).slot(slot).build(scope);
      Attention attention =
          Attention.builder().query(query).cache(cache).visible(visible).scale(1).out(out).build(
              scope);

      for (int token = 0; token < 2; token++) {
        k.copyFrom(keys[token]);
        v.copyFrom(values[token]);
        advance.run();
        append.run();
        attention.run();
        System.out.println("slot " + slot.toIntArray()[0] + " sees " + visible.toIntArray()[0]
            + ": " + Arrays.toString(out.toFloatArray()));
      }
    }
  }
}
