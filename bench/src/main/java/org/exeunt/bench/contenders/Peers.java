// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.contenders;

import org.exeunt.bench.cases.BenchCase;
import org.exeunt.bench.reference.AttentionProblem;
import org.exeunt.bench.reference.AttentionScoresProblem;
import org.exeunt.bench.reference.CacheLayout;
import org.exeunt.bench.reference.ExitHeadProblem;
import org.exeunt.bench.reference.FfnProblem;
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
      case "norm":
        return c.text("norm").equals("rms") && !c.text("input").equals("f16");
      case "ffn":
        return c.flag("gate") && c.text("skip").equals("-")
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
        return c.text("in_place").equals("0");
      default:
        return true;
    }
  }

  /** Throws unless the problem is a SwiGLU block that all rows run; peers give no cosines. */
  public static FfnProblem plain(FfnProblem problem) {
    if (problem.gate == null || problem.skip != null) {
      throw new UnsupportedOperationException("the peers run whole SwiGLU blocks");
    }
    return problem;
  }

  /** Throws unless the problem is one row over all of a head-major cache. */
  public static AttentionProblem decode(AttentionProblem problem) {
    if (problem.query.rows() != 1 || problem.scores
        || problem.layout.kind != CacheLayout.Kind.HEAD) {
      throw new UnsupportedOperationException(
          "the peers attend with one row over a head-major cache");
    }
    return problem;
  }

  /** Throws unless one row's scores are averaged over the heads of a head-major cache. */
  public static AttentionScoresProblem lastRow(AttentionScoresProblem problem) {
    if (problem.window != 1 || problem.layout.sequences != 1
        || problem.layout.kind != CacheLayout.Kind.HEAD || problem.first != 0
        || problem.heads != AttentionScoresProblem.Heads.MEAN
        || problem.pool != AttentionScoresProblem.Pool.NONE
        || problem.limit != problem.layout.slots) {
      throw new UnsupportedOperationException(
          "the peers average one row's scores over a head-major cache");
    }
    return problem;
  }

  /** Throws if the result would take the place of what was there. */
  public static <P> P copy(P problem, boolean inPlace) {
    if (inPlace) {
      throw new UnsupportedOperationException("the peers gather into other memory");
    }
    return problem;
  }

  /** Throws if more than the four statistics of an exit decision are asked for. */
  public static RowStatsProblem four(RowStatsProblem problem) {
    if (problem.all) {
      throw new UnsupportedOperationException("the peers compute four statistics");
    }
    return problem;
  }

  /** Throws unless the problem is hidden states, LM head, four statistics. */
  public static ExitHeadProblem bare(ExitHeadProblem problem) {
    if (!problem.bare()) {
      throw new UnsupportedOperationException(
          "the peers compute four statistics of all logits, without a norm");
    }
    return problem;
  }
}
