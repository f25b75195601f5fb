// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.cases.BenchCase;
import org.exeunt.bench.reference.AttentionProblem;
import org.exeunt.bench.reference.CacheLayout;
import org.exeunt.bench.reference.FfnProblem;
import org.exeunt.bench.reference.KvCopyProblem;
import org.exeunt.bench.reference.KvPropagateProblem;
import org.exeunt.bench.reference.LinearProblem;
import org.exeunt.bench.reference.Matrix;
import org.exeunt.bench.reference.NormProblem;
import org.exeunt.bench.reference.RopeProblem;
import org.exeunt.bench.reference.RowCompactionProblem;
import org.exeunt.bench.reference.Storage;

/** As {@link Problems}, for the ops of a transformer layer. */
final class LayerProblems {
  private LayerProblems() {}

  static NormProblem norm(BenchCase c) {
    plain(c, "input").require("out", c.text("input")).require("in_place", "0");
    c.require("out_pad", "0").require("out_offset", "0").require("norm", "rms", "layer");
    Matrix input = matrix(c, "input", c.integer("dim"));
    boolean layer = c.text("norm").equals("layer");
    c.require("bias", layer ? "1" : "0");
    int seed = c.integer("seed");
    return new NormProblem(input, NormProblem.weight(input.cols(), seed, 1),
        layer ? Matrix.normal(1, input.cols(), Storage.F32, 0.25f, seed, 3) : null, c.real("eps"));
  }

  static RopeProblem rope(BenchCase c) {
    plain(c, "input").require("in_place", "0").require("table", "normal");
    c.require("out_pad", "0").require("out_offset", "0");
    c.require("position", "random", "ascending").require("style", "half", "interleaved");
    int rows = c.integer("rows");
    int seed = c.integer("seed");
    c.require("pairs", Integer.toString(c.integer("dim") / 2));
    return new RopeProblem(matrix(c, "input", c.integer("heads") * c.integer("dim")),
        c.integer("heads"), RopeProblem.table(c.integer("positions"), c.integer("pairs"), seed),
        RopeProblem.positions(
            rows, c.integer("positions"), c.text("position").equals("ascending"), seed, 1),
        c.text("style").equals("interleaved"));
  }

  static LinearProblem linear(BenchCase c) {
    plain(c, "input").require("bias", "-").require("residual", "-", "normal");
    c.require("residual_pad", "0").require("in_place", "0");
    c.require("weight_pad", "0").require("weight_offset", "0").require("weight_fill", "normal");
    c.require("out_pad", "0").require("out_offset", "0");
    int rows = c.integer("rows");
    int cols = c.integer("cols");
    int seed = c.integer("seed");
    Matrix weight =
        Matrix.normal(cols, c.integer("dim"), c.storage("weight"), c.real("weight_scale"), seed, 1);
    Matrix residual = c.text("residual").equals("-")
        ? null
        : Matrix.normal(rows, cols, c.storage("out"), 1, seed, 3);
    return new LinearProblem(
        matrix(c, "input", c.integer("dim")), weight, residual, c.storage("out"));
  }

  static FfnProblem ffn(BenchCase c) {
    plain(c, "hidden").require("weight_pad", "0").require("weight_offset", "0");
    c.require("out_pad", "0").require("out_offset", "0").require("in_place", "0");
    boolean gated = c.flag("gate");
    c.require("norm", gated ? "rms" : "layer").require("norm_bias", gated ? "0" : "1");
    c.require("activation", gated ? "silu" : "gelu").require("biases", gated ? "0" : "1");
    c.require("skip", "-", "all", "alternate").require("outputs", "-", "all", "decision");
    boolean[] skip = null;
    if (!c.text("skip").equals("-")) {
      skip = new boolean[c.integer("rows")];
      for (int r = 0; r < skip.length; r++) {
        skip[r] = c.text("skip").equals("all") || r % 2 == 0;
      }
    }
    FfnProblem.Extra extra = c.text("outputs").equals("-") ? FfnProblem.Extra.NONE
        : c.text("outputs").equals("all")
        ? FfnProblem.Extra.COSINES
        : FfnProblem.Extra.DECISION;
    return new FfnProblem(matrix(c, "hidden", c.integer("dim")), c.integer("width"),
        c.storage("weight"), c.real("weight_scale"), gated, c.flag("biases"), c.real("norm_eps"),
        skip, extra, c.integer("seed"));
  }

  static KvPropagateProblem kvPropagate(BenchCase c) {
    plain(c, "hidden").require("bias", "0").require("cache", c.text("weight"));
    c.require("weight_pad", "0").require("weight_offset", "0").require("weight_fill", "normal");
    c.require("sequences", "1").require("layout", "head_major", "paged");
    c.require("layer_step", "1").require("norm", "rms").require("norm_bias", "0");
    c.require("table", "normal").require("rope_style", "half", "interleaved");
    c.require("exits", "zero", "mixed").require("slot", "shared").require("slots_off", "0");
    c.require("pairs", Integer.toString(c.integer("head_dim") / 2));
    return new KvPropagateProblem(matrix(c, "hidden", c.integer("dim")), c.integer("first_layer"),
        c.integer("layers"), c.integer("model_layers"), c.integer("heads"), c.integer("head_dim"),
        c.storage("weight"), c.real("weight_scale"), c.real("norm_eps"), c.integer("positions"),
        c.integer("pairs"), c.text("rope_style").equals("interleaved"),
        c.text("exits").equals("mixed"), c.integer("slots"),
        c.text("layout").equals("paged") ? c.integer("page") : 0, c.integer("seed"));
  }

  static AttentionProblem attention(BenchCase c) {
    c.require("query_pad", "0").require("query_offset", "0").require("fill", "normal");
    c.require("query_scale", "1").require("special", "-").require("key_scale", "1");
    c.require("cache", c.text("query")).require("out", c.text("query"));
    c.require("cache_offset", "0").require("cache_special", "-").require("softcap", "0");
    c.require("out_pad", "0").require("out_offset", "0").require("visible", "all", "causal");
    c.require("scores", "-", c.text("slots"));
    CacheLayout layout = layout(c);
    c.require("sequence", layout.sequences == 1 ? "-" : "mod");
    return new AttentionProblem(layout, c.integer("rows"), c.integer("query_heads"),
        c.storage("query"), c.text("visible").equals("causal"), c.real("scale"),
        !c.text("scores").equals("-"), c.integer("seed"));
  }

  static KvCopyProblem kvCopy(BenchCase c) {
    c.require("offset", "0").require("to_offset", "0").require("sequence", "-");
    c.require("sequences", "-").require("entries", "same", "compact");
    boolean inPlace = c.flag("in_place");
    c.require("to_layout", inPlace ? "-" : c.text("layout"));
    c.require("to_slots", inPlace ? "-" : c.text("slots"));
    return new KvCopyProblem(layout(c), c.integer("count"), c.storage("dtype"), inPlace,
        c.text("entries").equals("compact"), c.integer("seed"));
  }

  static RowCompactionProblem rowCompaction(BenchCase c) {
    c.require("pad", "0").require("offset", "0").require("out_pad", "0");
    c.require("out_offset", "0").require("listed", c.text("rows")).require("spare", "0");
    c.require("list", "active", "identity").require("direction", "gather", "scatter");
    Matrix input = Matrix.normal(
        c.integer("rows"), c.integer("cols"), c.storage("dtype"), 1, c.integer("seed"), 0);
    return new RowCompactionProblem(input, c.text("direction").equals("gather"),
        c.text("list").equals("identity"), c.integer("seed"));
  }

  static CacheLayout layout(BenchCase c) {
    CacheLayout.Kind kind = CacheLayout.Kind.valueOf(c.text("layout").toUpperCase());
    int slots = c.integer("slots");
    return new CacheLayout(kind, c.text("sequences").equals("-") ? 1 : c.integer("sequences"),
        slots, kind == CacheLayout.Kind.PAGED ? c.integer("page") : slots, c.integer("heads"),
        c.integer("dim"), c.integer("seed"));
  }

  private static BenchCase plain(BenchCase c, String prefix) {
    c.require(prefix + "_pad", "0").require(prefix + "_offset", "0");
    return c.require(prefix + "_fill", "normal").require("special", "-");
  }

  private static Matrix matrix(BenchCase c, String prefix, int cols) {
    return Matrix.normal(c.integer("rows"), cols, c.storage(prefix), c.real(prefix + "_scale"),
        c.integer("seed"), 0);
  }
}
