// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.demo.exit;

import static org.exeunt.ExitRule.Comparator.GE;
import static org.exeunt.ExitRule.Comparator.GT;
import static org.exeunt.ExitRule.Comparator.LE;

import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.IntPredicate;
import java.util.function.IntUnaryOperator;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.ExitRule;
import org.exeunt.Scope;
import org.exeunt.Statistics;
import org.exeunt.Tensor;
import org.exeunt.engine.decode.Trace;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.text.Texts;
import org.exeunt.engine.model.text.Tokenizer;
import org.exeunt.engine.report.Chart;
import org.exeunt.engine.report.Report;
import org.exeunt.engine.report.Table;

/**
 * Runs a real model over a text and asks, after every layer, whether it could have stopped there.
 */
public final class ExitDemo {
  private static final int QUICK_TOKENS = 96;

  private final Report report;
  private final LlamaWeights weights;
  private final int layers;
  private final int[] ids;
  private final int[][] argmax;

  /**
   * Runs the whole part.
   *
   * @param quick looks at the first tokens of the text only
   */
  public static void run(Report report, GgufFile file, LlamaWeights weights, boolean quick)
      throws IOException {
    report.heading("Where could this model have stopped?");
    int[] ids = new Tokenizer(file).encode(Texts.essay());
    if (quick) {
      ids = Arrays.copyOf(ids, Math.min(ids.length, QUICK_TOKENS));
    }
    new ExitDemo(report, weights, ids).run();
  }

  private ExitDemo(Report report, LlamaWeights weights, int[] ids) {
    this.report = report;
    this.weights = weights;
    this.ids = ids;
    layers = weights.config().layers();
    argmax = new int[layers + 1][];
  }

  private void run() throws IOException {
    report.progress("running %d tokens through %d layers", ids.length, layers);
    Trace trace = Trace.of(weights, ids);
    try (DepthStatistics depths = new DepthStatistics(weights, ids.length)) {
      List<RuleRun> rules = rules(depths);
      List<double[]> means = new ArrayList<>();
      for (int depth = 0; depth <= layers; depth++) {
        depths.run(trace.hidden(depth));
        means.add(means(depths));
        argmax[depth] = depths.statistics().argmax().toIntArray();
        for (RuleRun rule : rules) {
          rule.ask(depth);
        }
      }
      reportDepths(means);
      reportRules(rules);
    }
    HeadTiming.measure(report, weights, trace, argmax[layers]);
  }

  /** Mean of p1, margin, entropy and cosine over all tokens. */
  private static double[] means(DepthStatistics depths) {
    Statistics statistics = depths.statistics();
    return new double[] {mean(statistics.p1()), mean(statistics.margin()),
        mean(statistics.entropy()), mean(depths.cosine())};
  }

  private static double mean(Tensor tensor) {
    float[] values = tensor.toFloatArray();
    return IntStream.range(0, values.length).mapToDouble(i -> values[i]).average().orElse(0);
  }

  /** The rules of the literature, on a model that was not trained for any of them. */
  private List<RuleRun> rules(DepthStatistics depths) {
    List<RuleRun> rules = new ArrayList<>();
    addRules(rules, depths, new ExitPoints(1, 1, layers));
    addRules(rules, depths, new ExitPoints(layers * 2 / 3, 2, layers));
    return rules;
  }

  private void addRules(List<RuleRun> rules, DepthStatistics depths, ExitPoints points) {
    Statistics s = depths.statistics();
    Scope scope = depths.scope();
    int rows = ids.length;
    Tensor position =
        scope.allocate(Device.CPU, DType.I32, rows).copyFrom(IntStream.range(0, rows).toArray());
    Map<String, ExitRule.Builder> byHead = new LinkedHashMap<>();
    byHead.put("max-prob >= 0.7", believed(s).score(s.p1()).threshold(GE, .7f));
    byHead.put("max-prob >= 0.9", believed(s).score(s.p1()).threshold(GE, .9f));
    byHead.put("the same, decaying (CALM)",
        believed(s).score(s.p1()).threshold(GE, .9f).step(position).decay(
            ExitRule.Decay.CALM_CODE, 4, Math.max(1, rows)));
    byHead.put("margin > 0.9 (FREE)", believed(s).score(s.margin()).threshold(GT, .9f));
    byHead.put("entropy <= 0.3 nats", believed(s).score(s.entropy()).threshold(LE, .3f));
    byHead.put("patience 3 (PABEE)", believed(s).label(s.argmax()).patience(3));
    byHead.put("quantile 0.95 of max-prob", believed(s).score(s.p1()).quantile(.95f));
    byHead.forEach((name, rule) -> rules.add(new RuleRun(name, points, true, rule, scope, rows)));
    rules.add(new RuleRun("state cosine >= 0.98 (CALM)", points, false,
        believed(s).score(depths.cosine()).threshold(GE, .98f), scope, rows));
  }

  private static ExitRule.Builder believed(Statistics statistics) {
    return ExitRule.builder().valid(statistics.valid());
  }

  private void reportDepths(List<double[]> means) throws IOException {
    report.paragraph(
        "%d tokens; the hidden state after each layer goes through the model's own final "
            + "norm and language-model head. \"Agrees\": same token as after the last layer. "
            + "\"Cosine\": of the layer's output with its input.",
        ids.length);
    Table table = new Table("after layer", "max-prob", "margin", "entropy", "cosine", "agrees");
    for (int depth = 0; depth <= layers; depth++) {
      double[] mean = means.get(depth);
      int[] here = argmax[depth];
      table.row(Integer.toString(depth), decimals(mean[0]), decimals(mean[1]), decimals(mean[2]),
          depth == 0 ? "" : decimals(mean[3]), percent(agreement(t -> here[t], t -> true)));
    }
    report.table("depths", table);
    Chart chart = Chart.of("What the model would say after each layer", "after layer", "share, %");
    chart.series("agrees with the last layer", true);
    for (int depth = 0; depth <= layers; depth++) {
      int[] here = argmax[depth];
      share(chart, depth, agreement(t -> here[t], t -> true));
    }
    String[] names = {"max-prob", "margin"};
    for (int which = 0; which < names.length; which++) {
      chart.series(names[which], true);
      for (int depth = 0; depth <= layers; depth++) {
        share(chart, depth, means.get(depth)[which]);
      }
    }
    chart.series("cosine of the layer's output with its input", true);
    for (int depth = 1; depth <= layers; depth++) {
      share(chart, depth, means.get(depth)[3]);
    }
    report.chart(chart);
  }

  private static void share(Chart chart, int depth, double share) {
    chart.point(depth, 100 * share, percent(share) + " after layer " + depth);
  }

  private void reportRules(List<RuleRun> rules) throws IOException {
    report.paragraph("Each rule lets a token leave when it is confident enough. \"Weights read\" "
        + "counts the layers gone through and every reading of the head, against all layers "
        + "and one head.");
    Table table = new Table("rule", "exit points", "mean exit", "leave early", "agree",
        "early ones agree", "layers read", "weights read");
    for (RuleRun rule : rules) {
      int[] exits = rule.exitLayers();
      double mean = Arrays.stream(exits).average().orElse(layers);
      long early = Arrays.stream(exits).filter(exit -> exit < layers).count();
      table.row(rule.name(), rule.points().toString(), String.format("%.1f", mean),
          percent((double) early / exits.length), percent(agreement(exits)),
          early == 0 ? "none left"
                     : percent(agreement(t -> argmax[exits[t]][t], t -> exits[t] < layers)),
          percent(mean / layers), percent(weightsRead(rule, exits)));
    }
    report.table("rules", table);
    Chart chart = Chart.of("Answers kept against weights read, by rule and exit points",
        "weights read, % of the whole model", "agree, %");
    for (RuleRun rule : rules) {
      int[] exits = rule.exitLayers();
      double read = weightsRead(rule, exits);
      chart.series(rule.name() + ", " + rule.points(), false)
          .point(100 * read, 100 * agreement(exits),
              percent(read) + " read, " + percent(agreement(exits)) + " agree");
    }
    report.chart(chart);
    report.paragraph(
        "A layer of this model has %.1f million weights and the head %.1f million: asking "
            + "it after every layer costs more than the layers it saves. A larger model's head "
            + "is worth one to three of its layers.",
        layerWeights() / 1e6, headWeights() / 1e6);
    reportBargain(rules);
  }

  /**
   * Names the rule that changes the fewest answers among those that read less than the whole model.
   */
  private void reportBargain(List<RuleRun> rules) throws IOException {
    RuleRun best =
        rules.stream()
            .filter(rule -> weightsRead(rule, rule.exitLayers()) < 1)
            .max(Comparator.comparingDouble(rule -> agreement(rule.exitLayers())))
            .orElse(null);
    if (best == null) {
      report.paragraph("Saved: nothing; no rule read less than the whole model.");
      return;
    }
    double read = weightsRead(best, best.exitLayers());
    double kept = agreement(best.exitLayers());
    report.paragraph(
        "Saved: of the rules that read less than the whole model, \"%s\" at exit points "
            + "%s keeps the most answers: it leaves out %s of the weights, and %s of the tokens "
            + "stay what they were. Every token is judged with the keys and values of a full-depth "
            + "run after it. This model was not trained to exit; read these as honest curves, not "
            + "as a recommendation.",
        best.name(), best.points(), percent(1 - read), percent(kept));
  }

  private double agreement(int[] exits) {
    return agreement(t -> argmax[exits[t]][t], t -> true);
  }

  private double agreement(IntUnaryOperator answer, IntPredicate which) {
    return IntStream.range(0, ids.length)
        .filter(which)
        .mapToDouble(t -> answer.applyAsInt(t) == argmax[layers][t] ? 1 : 0)
        .average()
        .orElse(0);
  }

  private double weightsRead(RuleRun rule, int[] exits) {
    double read =
        Arrays.stream(exits)
            .mapToDouble(exit -> exit * layerWeights() + rule.headReads(exit) * headWeights())
            .average()
            .orElse(0);
    return read / (layers * layerWeights() + headWeights());
  }

  private double layerWeights() {
    LlamaConfig c = weights.config();
    return c.width() * (2.0 * c.queryWidth() + 2.0 * c.kvWidth() + 3.0 * c.feedForward());
  }

  private double headWeights() {
    return (double) weights.config().vocabulary() * weights.config().width();
  }

  private static String decimals(double value) {
    return String.format("%.3f", value);
  }

  private static String percent(double share) {
    return String.format("%.1f %%", 100 * share);
  }
}
