// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.HiddenStack;
import org.exeunt.KvCache;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/**
 * Two of three rows leave and wait, tagged with their slots and positions, for a deep pass
 * together. Its ops take each tag as it comes off the stack: the row that is not there is off.
 */
public final class HiddenStackExample {
  private HiddenStackExample() {}

  // Prints
  //   rows [1.0, 2.0, 5.0, 6.0]
  //   positions [7, 9, -1]
  //   keys [1.0, 2.0, 0.0, 0.0, 5.0, 6.0]
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor stack = scope.allocate(DType.F32, 8, 2);
      Tensor stackTags = scope.allocate(DType.I32, 2, 8);
      Tensor count = scope.copyOf(new int[] {0}, 1);
      Tensor rows = scope.copyOf(new float[] {1, 2, 3, 4, 5, 6}, 3, 2);
      Tensor tags = scope.copyOf(new int[] {0, 1, 2, 7, 8, 9}, 2, 3);
      Tensor leaves = scope.allocate(DType.U8, 3).copyFrom(new int[] {1, 0, 1});
      HiddenStack.push()
          .stack(stack)
          .count(count)
          .rows(rows)
          .tags(stackTags, tags)
          .mask(leaves)
          .runOnce();

      HiddenStack.gather().stack(stack).count(count).rows(rows).tags(stackTags, tags).runOnce();
      System.out.println("rows " + Arrays.toString(rows.rows(0, 2).toFloatArray()));
      System.out.println("positions " + Arrays.toString(tags.row(1).toIntArray()));

      KvCache cache = KvCache.contiguous(
          scope, Device.defaultDevice(), DType.F32, KvCache.Layout.TOKEN_MAJOR, 1, 1, 3, 2);
      cache.k().copyFrom(new float[6]);
      cache.v().copyFrom(new float[6]);
      Tensor heads = rows.reshape(3, 1, 2);
      cache.append().k(heads).v(heads).slot(tags.row(0)).runOnce();
      System.out.println("keys " + Arrays.toString(cache.k().toFloatArray()));
    }
  }
}
