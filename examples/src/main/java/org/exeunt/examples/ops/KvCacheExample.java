// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.KvCache;
import org.exeunt.KvLength;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** Forks a sequence, then takes the last token of the fork back. */
public final class KvCacheExample {
  private KvCacheExample() {}

  // Prints
  //   keys    [1.0, 2.0, 3.0, 0.0, 1.0, 2.0, 3.0, 0.0]
  //   lengths [3, 2]
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      KvCache cache = KvCache.contiguous(
          scope, Device.defaultDevice(), DType.F32, KvCache.Layout.TOKEN_MAJOR, 2, 1, 4, 1);
      cache.k().copyFrom(new float[8]);
      cache.v().copyFrom(new float[8]);
      Tensor keys = scope.copyOf(new float[] {1, 2, 3}, 3, 1, 1);
      Tensor values = scope.copyOf(new float[] {10, 20, 30}, 3, 1, 1);
      Tensor slots = scope.copyOf(new int[] {0, 1, 2}, 3);
      Tensor first = scope.copyOf(new int[] {0, 0, 0}, 3);
      Tensor second = scope.copyOf(new int[] {1, 1, 1}, 3);
      cache.append().k(keys).v(values).slot(slots).runOnce();
      cache.copyTo(cache).from(slots, first).to(slots, second).runOnce();

      Tensor lengths = scope.copyOf(new int[] {3, 3}, 2);
      Tensor limits = scope.copyOf(new int[] {3, 2}, 2);
      KvLength.crop().length(lengths).limit(limits).runOnce();
      System.out.println("keys    " + Arrays.toString(cache.k().toFloatArray()));
      System.out.println("lengths " + Arrays.toString(lengths.toIntArray()));
    }
  }
}
