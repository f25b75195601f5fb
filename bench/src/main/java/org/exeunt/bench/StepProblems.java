// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.cases.BenchCase;
import org.exeunt.bench.reference.FfnSkipRuleProblem;
import org.exeunt.bench.reference.HiddenStackProblem;
import org.exeunt.bench.reference.HiredBudgetProblem;
import org.exeunt.bench.reference.KvAppendProblem;
import org.exeunt.bench.reference.KvLengthProblem;
import org.exeunt.bench.reference.LayerScheduleProblem;
import org.exeunt.bench.reference.Matrix;
import org.exeunt.bench.reference.RopeTableProblem;

/** As {@link Problems}, for what is written, counted, decided or tabulated around layers. */
final class StepProblems {
  private StepProblems() {}

  static KvAppendProblem kvAppend(BenchCase c) {
    c.require("pad", "0").require("offset", "0").require("fill", "normal").require("scale", "1");
    c.require("special", "-").require("cache_offset", "0");
    boolean one = c.text("sequences").equals("-");
    c.require("sequence", one ? "-" : "mod").require("slot", "last", one ? "first" : "each");
    return new KvAppendProblem(LayerProblems.layout(c), c.integer("rows"), c.storage("dtype"),
        c.storage("cache"), c.text("slot").equals("last"), c.integer("seed"));
  }

  static KvLengthProblem kvLength(BenchCase c) {
    boolean crop = c.text("action").equals("crop");
    c.require("action", "advance", "crop").require("calls", "1").require("active", "-");
    c.require("start", "random", "zero");
    int lengths = 1;
    for (String extent : c.text("lengths").split("x")) {
      lengths *= Integer.parseInt(extent);
    }
    boolean random = c.text("start").equals("random");
    if (crop) {
      c.require("rows", "0").require("sequence", "-").require("limit", "each");
      return KvLengthProblem.crop(lengths, c.integer("capacity"), random, c.integer("seed"));
    }
    c.require("visible", "1").require("limit", "-").require("sequence", lengths == 1 ? "-" : "mod");
    return KvLengthProblem.advance(
        lengths, c.integer("rows"), c.integer("capacity"), random, c.integer("seed"));
  }

  static HiddenStackProblem hiddenStack(BenchCase c) {
    c.require("stack_pad", "0").require("stack_offset", "0").require("pad", "0");
    c.require("offset", "0").require("gathered", c.text("capacity")).require("overflow", "1");
    String[] script = c.text("script").split(",");
    boolean gather = script[script.length - 1].equals("gather");
    int pushes = gather ? script.length - 1 : 1;
    c.require("script", gather ? "push,".repeat(pushes) + "gather" : "push");
    c.require("mask", "-", gather ? "-" : "some");
    return new HiddenStackProblem(c.integer("capacity"), pushes, c.integer("rows"),
        c.integer("dim"), c.storage("dtype"), c.integer("tags_per_row"),
        c.text("mask").equals("some"), gather, c.integer("seed"));
  }

  static FfnSkipRuleProblem ffnSkipRule(BenchCase c) {
    c.require("tokens", "1").require("cold_start", "0").require("cold_end", c.text("layers"));
    c.require("warm_up", "0").require("budget", "-1").require("token", "index");
    c.require("cosines", "high").require("special", "-");
    return new FfnSkipRuleProblem(
        c.integer("rows"), c.integer("layers"), c.real("threshold"), c.integer("seed"));
  }

  static HiredBudgetProblem hiredBudget(BenchCase c) {
    c.require("pad", "0").require("offset", "0").require("fill", "unit").require("scale", "1");
    c.require("special", "-").require("remainder", "truncate");
    boolean count = c.text("score").equals("top_count");
    c.require("score", "sum", "top_count").require("region", count ? "strip" : "grid");
    c.require("outputs", count ? "marks,valid" : "valid");
    int rows = c.integer("patch_rows");
    int cols = c.integer("patch_cols");
    return new HiredBudgetProblem(
        Matrix.unit(c.integer("images"), rows * cols, c.integer("seed"), 0), rows, cols,
        c.integer("grid_rows"), c.integer("grid_cols"), Double.parseDouble(c.text("rate")),
        Double.parseDouble(c.text("alpha")), count);
  }

  static RopeTableProblem ropeTable(BenchCase c) {
    c.require("offset", "0").require("factor", "1").require("scaling", "none");
    return new RopeTableProblem(c.integer("positions"), c.integer("pairs"), c.real("base"));
  }

  static LayerScheduleProblem layerSchedule(BenchCase c) {
    boolean calm = c.text("kind").equals("calm");
    c.require("kind", "skipdecode", "calm").require("prompt", "0").require("first_exit", "0");
    c.require("min_exit", "0").require("interval", "1").require("order", "-");
    c.require("decay", calm ? "calm_code" : "none").require("outputs", calm ? "all" : "exit_test");
    int positions = c.integer("positions");
    int layers = c.integer("layers");
    int horizon = c.integer("horizon");
    return calm
        ? LayerScheduleProblem.calm(
              positions, layers, horizon, c.real("start_threshold"), c.real("tau"))
        : LayerScheduleProblem.skipDecode(positions, layers, horizon, c.integer("most"),
              c.integer("least"), c.integer("warm_up"));
  }
}
