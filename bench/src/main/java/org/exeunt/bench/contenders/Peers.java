// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.contenders;

import org.exeunt.cases.Cases;

/** What the peers have compositions for; the rest of the cases times exeunt alone. */
final class Peers {
  private Peers() {}

  /** Whether the peers have a composition for a case. */
  static boolean offer(Cases.Listed c) {
    return !quantised(c) && composes(c);
  }

  private static boolean quantised(Cases.Listed c) {
    switch (c.op()) {
      case "exit_head":
      case "ffn":
      case "gate":
      case "kv_propagate":
      case "linear":
        return Blocks.are(c.text("weight"));
      case "embedding":
        return Blocks.are(c.text("table"));
      default:
        return false;
    }
  }

  private static boolean composes(Cases.Listed c) {
    switch (c.op()) {
      case "row_stats":
        return !c.text("outputs").equals("all");
      case "exit_head":
        return !c.text("outputs").equals("all") && c.text("norm").equals("none")
            && c.text("shortlist").equals("-");
      case "norm":
        return c.text("norm").equals("rms") && !c.text("input").equals("f16");
      case "ffn":
        return c.text("gate").equals("1") && c.text("skip").equals("-")
            && !c.text("outputs").equals("decision");
      case "kv_propagate":
        return c.text("exits").equals("zero");
      case "attention":
        return c.text("rows").equals("1") && c.text("layout").equals("head")
            && c.text("scores").equals("-");
      case "attention_scores":
        return c.text("prompts").equals("1") && c.text("window").equals("1")
            && c.text("layout").equals("head") && c.text("reduction").equals("mean")
            && c.text("pool").equals("-") && c.text("keep").equals("-");
      case "gather":
        return c.text("in_place").equals("0");
      case "kv_compact":
        return c.text("in_place").equals("0") && c.text("layout").equals("head")
            && c.text("per_head").equals("0") && c.text("to_slots").equals(c.text("kept"));
      default:
        return true;
    }
  }
}
