// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.cases.BenchCase;
import org.exeunt.bench.reference.AttentionScoresProblem;
import org.exeunt.bench.reference.CacheLayout;
import org.exeunt.bench.reference.GatherProblem;
import org.exeunt.bench.reference.KvCompactProblem;
import org.exeunt.bench.reference.Matrix;
import org.exeunt.bench.reference.SelectProblem;
import org.exeunt.bench.reference.Storage;

/**
 * As {@link Problems}, for the ops that drop tokens. What is moved holds numbers here, not the
 * tables' bits that mean nothing, so that results can be compared as numbers.
 */
final class DropProblems {
  private DropProblems() {}

  static SelectProblem select(BenchCase c) {
    c.require("pad", "0").require("offset", "0").require("fill", "normal", "ties");
    c.require("special", "-").require("limit", "-").require("budget", "-");
    c.require("segments", "-").require("keep", "-").require("drop", "-");
    c.require("capacity", c.text("k"));
    int heads = Math.max(c.integer("heads"), 1);
    int rows = c.integer("rows") * heads;
    int cols = c.integer("cols");
    int seed = c.integer("seed");
    Matrix scores = c.text("fill").equals("ties")
        ? Matrix.ties(rows, cols, c.storage("dtype"), seed, 0)
        : Matrix.normal(rows, cols, c.storage("dtype"), c.real("scale"), seed, 0);
    return new SelectProblem(scores, heads, c.integer("k"));
  }

  static AttentionScoresProblem attentionScores(BenchCase c) {
    c.require("query_pad", "0").require("query_offset", "0").require("fill", "normal");
    c.require("query_scale", "1").require("special", "-").require("key_scale", "1");
    c.require("cache", c.text("query")).require("cache_offset", "0");
    c.require("cache_special", "-").require("sequence", "-").require("visible", "all", "causal");
    c.require("accumulate", "0").require("segments", "-").require("drop", "-");
    c.require("prompts", c.text("sequences"));
    CacheLayout layout = LayerProblems.layout(c);
    int columns = c.integer("columns");
    int window = c.integer("window");
    boolean causal = c.text("visible").equals("causal");
    int firstSeen = causal ? layout.slots - window + 1 : layout.slots;
    int limit = c.text("limit").equals("-") ? columns
        : c.text("limit").equals("before")
        ? firstSeen - 1 - c.integer("first")
        : c.integer("limit");
    AttentionScoresProblem.Choice choice = null;
    if (!c.text("capacity").equals("-")) {
      String kept = c.text("keep");
      int keepFrom = kept.equals("-") ? columns : Integer.parseInt(kept.split(":")[0]);
      c.require("keep", "-", keepFrom + ":" + columns);
      choice = new AttentionScoresProblem.Choice(
          c.integer(c.text("budget").equals("-") ? "k" : "budget"), c.integer("capacity"),
          keepFrom);
    }
    String pool = c.text("pool").equals("-") ? "none" : c.text("pool");
    return new AttentionScoresProblem(layout, window, c.integer("query_heads"), c.storage("query"),
        causal, limit, columns, c.integer("first"), c.real("scale"),
        c.text("kind").equals("softmax"),
        AttentionScoresProblem.Heads.valueOf(c.text("reduction").toUpperCase()),
        AttentionScoresProblem.Pool.valueOf(pool.toUpperCase()), c.integer("pool_width"),
        c.flag("scores"), choice, c.integer("seed"));
  }

  static GatherProblem gather(BenchCase c) {
    c.require("pad", "0").require("offset", "0").require("out_pad", "0");
    c.require("out_offset", "0").require("spare", "0").require("count", "-");
    String list = c.text("list");
    int heads = list.startsWith("selected:") ? Integer.parseInt(list.split(":")[1]) : 0;
    c.require("list", "sorted", "selected:" + heads).require("positions", "-");
    String[] tensors = c.text("tensors").split(",");
    String[] parts = tensors[0].split("[:x]");
    for (String tensor : tensors) {
      if (!tensor.equals(tensors[0]) || !parts[parts.length - 2].equals("N")) {
        c.require("tensors", "tensors that are alike, with tokens in the last axis but one");
      }
    }
    return new GatherProblem(Storage.of(parts[0]), tensors.length,
        parts.length == 4 ? Integer.parseInt(parts[1]) : 1, c.integer("rows"),
        Integer.parseInt(parts[parts.length - 1]), c.integer("listed"), c.flag("in_place"), heads,
        c.integer("seed"));
  }

  static KvCompactProblem kvCompact(BenchCase c) {
    c.require("sequences", "1").require("offset", "0").require("sequence", "-");
    c.require("list", "sorted").require("form", "packed").require("pages", "-");
    c.require("length", "-", "full");
    boolean inPlace = c.flag("in_place");
    CacheLayout layout = LayerProblems.layout(c);
    CacheLayout destination = layout;
    if (!inPlace) {
      c.require("to_layout", "head").require("layout", "head").require("to_offset", "0");
      c.require("to_heads", c.text("heads"));
      int slots = c.integer("to_slots");
      destination =
          new CacheLayout(CacheLayout.Kind.HEAD, 1, slots, slots, layout.heads, layout.dim, 0);
    }
    return new KvCompactProblem(layout, destination, c.integer("kept"), c.storage("dtype"), inPlace,
        c.flag("per_head"), c.integer("seed"));
  }
}
