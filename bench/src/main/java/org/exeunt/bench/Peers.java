// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.ExitHeadProblem;
import org.exeunt.bench.reference.RowStatsProblem;

/** What the peers have compositions for; the rest of the cases times exeunt alone. */
public final class Peers {
  private Peers() {}

  /** Whether the peers have a composition for a case. */
  public static boolean offer(BenchCase c) {
    switch (c.op()) {
      case "row_stats":
        return !c.text("outputs").equals("all");
      case "exit_head":
        return !c.text("outputs").equals("all") && c.text("norm").equals("none")
            && c.text("shortlist").equals("-");
      default:
        return true;
    }
  }

  /** Throws if more than the four statistics of an exit decision are asked for. */
  public static void requireFour(RowStatsProblem problem) {
    if (problem.all) {
      throw new UnsupportedOperationException("the peers compute four statistics");
    }
  }

  /** Throws unless the problem is hidden states, LM head, four statistics. */
  public static void requireBare(ExitHeadProblem problem) {
    if (!problem.bare()) {
      throw new UnsupportedOperationException(
          "the peers compute four statistics of all logits, without a norm");
    }
  }
}
