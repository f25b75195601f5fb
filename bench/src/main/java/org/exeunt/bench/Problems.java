// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import java.util.function.Function;
import org.exeunt.bench.cases.BenchCase;
import org.exeunt.bench.reference.CosineProblem;
import org.exeunt.bench.reference.CrossEntropyProblem;
import org.exeunt.bench.reference.ExitHeadProblem;
import org.exeunt.bench.reference.ExitRuleProblem;
import org.exeunt.bench.reference.GateProblem;
import org.exeunt.bench.reference.Matrix;
import org.exeunt.bench.reference.Normalizer;
import org.exeunt.bench.reference.PerpGradProblem;
import org.exeunt.bench.reference.Problem;
import org.exeunt.bench.reference.RowStatsProblem;
import org.exeunt.bench.reference.SoftmaxProblem;

/**
 * Makes the inputs of a case. Benchmark cases are plain: normal fills, aligned compact tensors,
 * nothing special; whatever else a table may ask for is refused rather than ignored.
 */
final class Problems {
  private static final String FOUR = "argmax,p1,margin,entropy";

  private static final Map<String, Function<BenchCase, Problem<?>>> BUILDERS = builders();

  /** In the order of the report. */
  static final Set<String> OPS = BUILDERS.keySet();

  private Problems() {}

  private static Map<String, Function<BenchCase, Problem<?>>> builders() {
    Map<String, Function<BenchCase, Problem<?>>> map = new LinkedHashMap<>();
    map.put("stablemax", Problems::softmax);
    map.put("cross_entropy", Problems::crossEntropy);
    map.put("perp_grad", Problems::perpGrad);
    map.put("row_stats", Problems::rowStats);
    map.put("exit_head", Problems::exitHead);
    map.put("gate", Problems::gate);
    map.put("cosine", Problems::cosine);
    map.put("exit_rule", Problems::exitRule);
    map.put("linear", LayerProblems::linear);
    map.put("ffn", LayerProblems::ffn);
    map.put("kv_propagate", LayerProblems::kvPropagate);
    map.put("attention", LayerProblems::attention);
    map.put("norm", LayerProblems::norm);
    map.put("rope", LayerProblems::rope);
    map.put("kv_copy", LayerProblems::kvCopy);
    map.put("row_compaction", LayerProblems::rowCompaction);
    map.put("select", DropProblems::select);
    map.put("attention_scores", DropProblems::attentionScores);
    map.put("gather", DropProblems::gather);
    map.put("kv_compact", DropProblems::kvCompact);
    map.put("kv_append", StepProblems::kvAppend);
    map.put("kv_length", StepProblems::kvLength);
    map.put("hidden_stack", StepProblems::hiddenStack);
    map.put("ffn_skip_rule", StepProblems::ffnSkipRule);
    map.put("hired_budget", StepProblems::hiredBudget);
    map.put("rope_table", StepProblems::ropeTable);
    map.put("layer_schedule", StepProblems::layerSchedule);
    return map;
  }

  static Problem<?> of(BenchCase benchCase) {
    return BUILDERS.get(benchCase.op()).apply(benchCase);
  }

  static SoftmaxProblem softmax(BenchCase c) {
    c.require("log", "0").require("in_place", "0");
    c.require("out_pad", "0").require("out_offset", "0");
    return new SoftmaxProblem(Normalizer.of(c.text("normalizer")), logits(c));
  }

  static CrossEntropyProblem crossEntropy(BenchCase c) {
    c.require("grad_pad", "0").require("grad_offset", "0").require("in_place", "0");
    c.require("labels", "random").require("ignore_index", "-100").require("label_dtype", "i64");
    c.require("reduction", "mean").require("outputs", "all");
    return new CrossEntropyProblem(
        Normalizer.of(c.text("normalizer")), logits(c), c.integer("seed"));
  }

  static RowStatsProblem rowStats(BenchCase c) {
    c.require("temperature", "1").require("softcap", "0").require("outputs", "all", FOUR);
    return new RowStatsProblem(
        Normalizer.of(c.text("normalizer")), logits(c), c.text("outputs").equals("all"));
  }

  static ExitHeadProblem exitHead(BenchCase c) {
    c.require("hidden_pad", "0").require("hidden_offset", "0").require("hidden_fill", "normal");
    c.require("weight_pad", "0").require("weight_offset", "0").require("weight_fill", "normal");
    c.require("special", "-").require("bias", "-").require("norm", "none", "rms");
    c.require("norm_bias", "0").require("translator", "-").require("normalizer", "softmax");
    c.require("temperature", "1").require("softcap", "0").require("outputs", "all", FOUR);
    int seed = c.integer("seed");
    int width = c.integer("dim");
    int vocabulary = c.integer("vocab");
    Matrix hidden = Matrix.normal(
        c.integer("rows"), width, c.storage("hidden"), c.real("hidden_scale"), seed, 0);
    Matrix weight =
        Matrix.normal(vocabulary, width, c.storage("weight"), c.real("weight_scale"), seed, 1);
    return new ExitHeadProblem(hidden, weight,
        c.text("norm").equals("rms") ? ExitHeadProblem.normWeight(width, seed) : null,
        c.real("norm_eps"),
        c.text("shortlist").equals("-")
            ? null
            : ExitHeadProblem.shortlist(c.integer("shortlist"), vocabulary),
        c.text("outputs").equals("all"));
  }

  static CosineProblem cosine(BenchCase c) {
    c.require("pad_a", "0").require("offset_a", "0").require("pad_b", "0");
    c.require("offset_b", "0").require("fill", "normal").require("special", "-");
    c.require("relation", "near");
    Matrix a = Matrix.normal(c.integer("rows"), c.integer("cols"), c.storage("dtype"),
        c.real("scale_a"), c.integer("seed"), 0);
    return new CosineProblem(a, Matrix.near(a, c.integer("seed"), 1));
  }

  static PerpGradProblem perpGrad(BenchCase c) {
    c.require("offset", "0").require("weight_fill", "normal").require("grad_fill", "normal");
    c.require("special", "-").require("form", "code").require("in_place", "0");
    String[] shape = c.text("shape").split("x");
    int rows = Integer.parseInt(shape[0]);
    int cols = Integer.parseInt(shape[1]);
    int seed = c.integer("seed");
    return new PerpGradProblem(
        Matrix.normal(rows, cols, c.storage("dtype"), c.real("weight_scale"), seed, 0),
        Matrix.normal(rows, cols, c.storage("dtype"), c.real("grad_scale"), seed, 1));
  }

  static GateProblem gate(BenchCase c) {
    c.require("pad", "0").require("offset", "0").require("fill", "normal");
    c.require("special", "-").require("weight_dtype", c.text("dtype"));
    c.require("kind", "linear", "residual").require("out_bias", "1");
    Matrix features = Matrix.normal(c.integer("rows"), c.integer("dim"), c.storage("dtype"),
        c.real("scale"), c.integer("seed"), 0);
    return new GateProblem(features, c.integer("repeats"), c.integer("classes"),
        c.real("weight_scale"), c.flag("hidden_bias"), c.integer("seed"));
  }

  static ExitRuleProblem exitRule(BenchCase c) {
    c.require("rule", "threshold", "quantile").require("comparator", "ge");
    c.require("decay", "none").require("step", "index").require("scope", "each");
    c.require("scores", "unit", "low").require("labels", "-").require("valid", "-");
    c.require("special", "-").require("force", "0").require("outputs", "all");
    return new ExitRuleProblem(c.text("rule").equals("threshold")
            ? ExitRuleProblem.Rule.THRESHOLD
            : ExitRuleProblem.Rule.QUANTILE,
        c.integer("rows"), c.integer("layers"), c.real("threshold"), c.text("scores").equals("low"),
        c.integer("seed"));
  }

  private static Matrix logits(BenchCase c) {
    c.require("pad", "0").require("offset", "0").require("fill", "normal");
    c.require("special", "-");
    return Matrix.normal(c.integer("rows"), c.integer("cols"), c.storage("dtype"), c.real("scale"),
        c.integer("seed"), 0);
  }
}
