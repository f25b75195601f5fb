// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import org.exeunt.RowStats;
import org.exeunt.Scope;
import org.exeunt.Statistic;
import org.exeunt.Statistics;
import org.exeunt.Tensor;

/** How sure each row of logits is, without writing a probability. */
public final class RowStatsExample {
  private RowStatsExample() {}

  // Prints
  //   row 0: token 0, p 0.6439, margin 0.4070, entropy 0.9475 nats
  //   row 1: token 0, p 0.9996, margin 0.9995, entropy 0.0037 nats
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor logits = scope.copyOf(new float[] {2, 1, 0, -1, 9, 0, 0, 0}, 2, 4);
      Statistics out = Statistics.allocate(
          scope, 2, Statistic.ARGMAX, Statistic.P1, Statistic.MARGIN, Statistic.ENTROPY);
      RowStats.builder().logits(logits).out(out).runOnce();

      for (int row = 0; row < 2; row++) {
        System.out.printf("row %d: token %d, p %.4f, margin %.4f, entropy %.4f nats%n", row,
            out.argmax().toIntArray()[row], out.p1().toFloatArray()[row],
            out.margin().toFloatArray()[row], out.entropy().toFloatArray()[row]);
      }
    }
  }
}
