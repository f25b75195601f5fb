// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.demo.drop;

import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.drop.PromptDrop;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.text.Texts;
import org.exeunt.engine.model.text.Tokenizer;
import org.exeunt.engine.report.Chart;
import org.exeunt.engine.report.Report;
import org.exeunt.engine.report.Table;

/** Lets a real model read a long prompt while most of its tokens are dropped, in every way. */
public final class DropDemo {
  private static final int PROMPT = 512;
  private static final int STEPS = 64;
  private static final int QUICK_PROMPT = 256;
  private static final int QUICK_STEPS = 32;
  private static final int WINDOW = 16;
  private static final double[] SHARES = {.5, .25, .1};

  private final Report report;
  private final LlamaWeights weights;
  private final int[] text;
  private final int prompt;

  /**
   * Runs the whole part.
   *
   * @param quick reads less of the text
   */
  public static void run(Report report, GgufFile file, LlamaWeights weights, boolean quick)
      throws IOException {
    report.heading("What if it forgets most of a long prompt?");
    int[] ids = new Tokenizer(file).encode(Texts.story());
    int steps = quick ? QUICK_STEPS : STEPS;
    int prompt = Math.min(quick ? QUICK_PROMPT : PROMPT, ids.length - steps);
    new DropDemo(report, weights, Arrays.copyOf(ids, prompt + steps), prompt).run();
  }

  private DropDemo(Report report, LlamaWeights weights, int[] text, int prompt) {
    this.report = report;
    this.weights = weights;
    this.text = text;
    this.prompt = prompt;
  }

  private void run() throws IOException {
    Map<String, String> methods = methods();
    report.progress("reading a prompt of %d tokens in %d ways", prompt, methods.size());
    int[] few = Arrays.copyOf(text, 2 * WINDOW);
    DropRun.of(weights, DecoderOptions.FULL, few, WINDOW); // the first is slow, whatever it reads
    DropRun full = DropRun.of(weights, DecoderOptions.FULL, text, prompt);
    report.paragraph("A prompt of %d tokens and %d that follow it, each given. "
            + "\"Kept\": tokens that the topmost layer remembers. \"Agrees\": of the first %d "
            + "tokens after the prompt, those that would be the same without dropping.",
        prompt, text.length - prompt, DropRun.COMPARED);
    Table table =
        new Table("method", "kept", "to the first token, ms", "cache, MB", "perplexity", "agrees");
    Map<String, List<DropRun>> kinds = new LinkedHashMap<>(); // of a kind, from much to little
    kinds.put("all tokens", List.of(full));
    row(table, "all tokens", full, full);
    DropRun best = null;
    String bestName = "";
    for (Map.Entry<String, String> method : methods.entrySet()) {
      DropRun run = DropRun.of(weights,
          DecoderOptions.FULL.withDrop(
              PromptDrop.parse(method.getValue(), weights.config().layers())),
          text, prompt);
      row(table, method.getKey(), run, full);
      String kind = method.getKey().replaceFirst("^([^,]+(, layer [0-9]+)?), [0-9]+ %$", "$1");
      kinds.computeIfAbsent(kind, k -> new ArrayList<>()).add(run);
      if (run.cacheBytes() < full.cacheBytes() / 2
          && (best == null || run.perplexity() < best.perplexity())) {
        best = run;
        bestName = method.getKey();
      }
    }
    report.table("drops", table);
    Chart chart = Chart.of("Perplexity against what is remembered: down and left is better",
        "cache, MB", "perplexity");
    kinds.forEach((kind, runs) -> {
      chart.series(kind, true);
      runs.forEach(run
          -> chart.point(run.cacheBytes() / 1e6, run.perplexity(),
              String.format("%.1f MB, perplexity %.2f", run.cacheBytes() / 1e6, run.perplexity())));
    });
    report.chart(chart);
    if (best == null) {
      report.paragraph("Saved: nothing; no method halved the cache.");
    } else {
      report.paragraph("Saved: of the methods that at least halve the cache, \"%s\" predicts best: "
              + "%.1f of %.1f MB are left, and the first token comes after %.0f ms instead of "
              + "%.0f. What it cost: the perplexity goes from %.2f to %.2f.",
          bestName, best.cacheBytes() / 1e6, full.cacheBytes() / 1e6, best.prefillNanos() / 1e6,
          full.prefillNanos() / 1e6, full.perplexity(), best.perplexity());
    }
  }

  private Map<String, String> methods() {
    int layers = weights.config().layers();
    Map<String, String> methods = new LinkedHashMap<>();
    for (double share : SHARES) {
      int keep = (int) (share * prompt);
      String kept = String.format(", %.0f %%", 100 * share);
      methods.put("PromptDistill after layer " + layers / 3 + kept,
          "promptdistill:" + layers / 3 + "," + keep);
      methods.put("GemFilter, layer " + layers / 3 + kept, "gemfilter:" + layers / 3 + "," + keep);
      methods.put("SnapKV" + kept, "snapkv:" + Math.min(WINDOW, keep - 1) + "," + keep);
      methods.put("H2O" + kept, "h2o:" + share / 2 + "," + share / 2);
      methods.put("FastV from layer 2" + kept, "fastv:2," + (1 - share));
    }
    methods.put("PyramidDrop, 50, 25, 12 %",
        "pyramiddrop:" + layers / 4 + ",.5," + layers / 2 + ",.25," + layers * 3 / 4 + ",.125");
    return methods;
  }

  private void row(Table table, String name, DropRun run, DropRun full) {
    table.row(name, Integer.toString(run.kept()), String.format("%.0f", run.prefillNanos() / 1e6),
        String.format("%.1f", run.cacheBytes() / 1e6), String.format("%.2f", run.perplexity()),
        String.format("%.0f %%", 100 * run.agreement(full)));
  }
}
