// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.Verify;

/**
 * Two sequences were drafted four tokens each; the target has scored them, and keeps what it would
 * have said itself. Token 2 ends a text.
 */
public final class VerifyExample {
  private VerifyExample() {}

  // Prints
  //   out [11, 12, 19, -1, -1, 21, 2, -1, -1, -1]
  //   accepted [2, 2], next is fed [19, 2] at [33, 42]
  //   slots [33, 42]
  //   sequence 0 GOES_ON
  //   sequence 1 STOPPED
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor drafted = scope.copyOf(new int[] {11, 12, 13, 14, 21, 2, 22, 23}, 2, 4);
      Tensor argmax = scope.copyOf(new int[] {11, 12, 19, 14, 15, 21, 2, 22, 23, 24}, 10);
      Tensor token = scope.copyOf(new int[] {10, 20}, 2);
      Tensor length = scope.copyOf(new int[] {30, 40}, 2);
      Tensor position = scope.copyOf(new int[] {30, 40}, 2);
      Tensor accepted = scope.allocate(DType.I32, 2);
      Tensor out = scope.allocate(DType.I32, 2, 5);
      Tensor outcome = scope.allocate(DType.I32, 2);
      Verify verify =
          Verify.builder()
              .drafted(drafted)
              .argmax(argmax)
              .stop(scope.copyOf(new int[] {2}, 1))
              .accepted(accepted)
              .token(token)
              .out(out)
              .outcome(outcome)
              .length(length)
              .position(position)
              .build(scope);

      verify.run();
      System.out.println("out " + Arrays.toString(out.toIntArray()));
      System.out.println("accepted " + Arrays.toString(accepted.toIntArray()) + ", next is fed "
          + Arrays.toString(token.toIntArray()) + " at " + Arrays.toString(position.toIntArray()));
      System.out.println("slots " + Arrays.toString(length.toIntArray()));
      for (int s = 0; s < 2; s++) {
        System.out.println("sequence " + s + " " + Verify.Outcome.of(outcome.toIntArray()[s]));
      }
    }
  }
}
