// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.demo;

import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.exeunt.Backend;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.decode.FfnCalibration;
import org.exeunt.engine.decode.TextRun;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.text.ChatTemplate;
import org.exeunt.engine.model.text.TextStream;
import org.exeunt.engine.model.text.Texts;
import org.exeunt.engine.model.text.Tokenizer;
import org.exeunt.engine.policy.ExitPolicy;
import org.exeunt.engine.policy.FfnSkip;
import org.exeunt.engine.policy.KvPolicy;
import org.exeunt.engine.policy.Schedule;
import org.exeunt.engine.report.Chart;
import org.exeunt.engine.report.Report;
import org.exeunt.engine.report.Table;

/** Lets a real model answer while layers or feed-forward blocks are left out, in every way. */
public final class SkipDemo {
  private static final String QUESTION = "Explain in two sentences what a hash table is.";
  private static final String FULL = "full depth";
  private static final int PROMPT = 64;
  private static final int STEPS = 48;
  private static final int QUICK_STEPS = 24;
  private static final int ANSWER = 32;
  private static final int SHOWN = 110;
  private static final int PROBES = 15;

  private final Report report;
  private final LlamaWeights weights;
  private final Tokenizer tokenizer;
  private final int layers;
  private final int[] question;
  private final int[] text;

  /**
   * Runs the whole part.
   *
   * @param quick reads less of the text
   */
  public static void run(Report report, GgufFile file, LlamaWeights weights, boolean quick)
      throws IOException {
    report.heading("What if it leaves out layers and blocks while it answers?");
    Tokenizer tokenizer = new Tokenizer(file);
    int[] ids = tokenizer.encode(Texts.story());
    int length = PROMPT + (quick ? QUICK_STEPS : STEPS);
    String chat =
        new ChatTemplate(file).render(List.of(new ChatTemplate.Message("user", QUESTION)));
    new SkipDemo(report, weights, tokenizer, tokenizer.encodeChat(chat),
        Arrays.copyOf(ids, Math.min(ids.length, length)))
        .run();
  }

  private SkipDemo(
      Report report, LlamaWeights weights, Tokenizer tokenizer, int[] question, int[] text) {
    this.report = report;
    this.weights = weights;
    this.tokenizer = tokenizer;
    this.question = question;
    this.text = text;
    layers = weights.config().layers();
  }

  private void run() throws IOException {
    Map<String, DecoderOptions> methods = methods();
    report.progress("reading %d tokens and answering, in %d ways", text.length, methods.size());
    Map<String, TextRun> runs = new LinkedHashMap<>();
    Map<String, String> answers = new LinkedHashMap<>();
    methods.forEach((name, options) -> {
      runs.put(name, TextRun.of(weights, options, text, PROMPT));
      answers.put(name, answer(options));
    });
    reportRuns(runs);
    reportSpeed();
    reportAnswers(answers);
    reportBargain(runs);
  }

  // ---- the methods

  private Map<String, DecoderOptions> methods() throws IOException {
    Map<String, DecoderOptions> methods = new LinkedHashMap<>();
    methods.put(FULL, DecoderOptions.FULL);
    for (int depth : new int[] {layers - 2, layers * 4 / 5, layers * 3 / 5}) {
      exit(methods, "fixed:" + depth, KvPolicy.PROPAGATE);
    }
    for (KvPolicy kv : KvPolicy.values()) {
      exit(methods, "threshold:0.9", kv);
    }
    exit(methods, "margin:0.8", KvPolicy.PROPAGATE);
    exit(methods, "entropy:0.5", KvPolicy.PROPAGATE);
    exit(methods, "patience:1", KvPolicy.PROPAGATE);
    schedule(methods, "skipdecode:" + layers + "," + layers * 4 / 5 + ",64,2");
    schedule(methods, "unified:" + layers * 9 / 10);
    schedule(methods, "unified:" + layers * 4 / 5);
    FfnCalibration calibration =
        FfnCalibration.of(weights, Arrays.copyOf(text, Math.min(text.length, PROMPT)));
    reportCalibration(calibration);
    for (double share : new double[] {.1, .25}) {
      FfnSkip skip = calibration.propose(share, PROMPT);
      methods.put(String.format("FFN skip %d-%d, %.3f", skip.coldStart(), skip.coldEnd() - 1,
                      skip.threshold()),
          DecoderOptions.FULL.withFfnSkip(skip));
    }
    return methods;
  }

  private void exit(Map<String, DecoderOptions> methods, String rule, KvPolicy kv) {
    methods.put("exit " + rule + ", KV " + kv.name().toLowerCase(),
        DecoderOptions.FULL.withExit(ExitPolicy.parse(rule, null, layers), kv));
  }

  private void schedule(Map<String, DecoderOptions> methods, String which) {
    methods.put(which, DecoderOptions.FULL.withSchedule(Schedule.parse(which, layers)));
  }

  // ---- what they do

  /** A greedy answer, as much as is shown; where the model would end, the text ends. */
  private String answer(DecoderOptions options) {
    StringBuilder answer = new StringBuilder();
    TextStream stream = new TextStream(tokenizer);
    try (Decoder decoder = new Decoder(weights, options, 1, question.length + ANSWER)) {
      decoder.prefill(0, question);
      for (int i = 0; i < ANSWER && answer.length() <= SHOWN; i++) {
        int token = decoder.argmax(0);
        if (token == tokenizer.endOfSequence()) {
          break;
        }
        answer.append(stream.add(token));
        decoder.step(token);
      }
    }
    return answer.append(stream.finish()).toString().replaceAll("\\s+", " ");
  }

  private void reportCalibration(FfnCalibration calibration) throws IOException {
    Table table = new Table("layer", "mean cosine");
    List<Double> means = new ArrayList<>();
    for (int l = 0; l < layers; l++) {
      means.add(calibration.meanCosine(l));
      table.row(Integer.toString(l), String.format("%.4f", means.get(l)));
    }
    report.data("ffn-cosines", table);
    report.paragraph("FFN skip is calibrated on the prompt: the mean cosine of a feed-forward "
            + "block's input and output lies between %.3f and %.3f.",
        means.stream().mapToDouble(m -> m).min().orElse(0),
        means.stream().mapToDouble(m -> m).max().orElse(0));
  }

  private void reportRuns(Map<String, TextRun> runs) throws IOException {
    TextRun full = runs.get(FULL);
    report.paragraph(
        "%d tokens of a text after a prompt of %d, with bf16 weights. Each token is given, so "
            + "that all methods are asked the same; keys and values are each method's own. "
            + "\"Agrees\": the next token as at full depth. \"Not read\" counts all weights, "
            + "propagation and every reading of the head included; below zero, more was read.",
        text.length - PROMPT, PROMPT);
    Table table = new Table(
        "method", "tokens/s", "layers skipped", "FFNs skipped", "not read", "agrees", "perplexity");
    runs.forEach(
        (name, run)
            -> table.row(name, String.format("%.1f", run.tokensPerSecond()),
                percent(run.layersSkipped()), percent(run.feedForwardsSkipped()),
                percent(run.notRead()), percent(run.agreement(full)),
                String.format("%.1f", run.perplexity())));
    report.table("skips", table);
    Chart chart = Chart.of("Answers kept against speed", "tokens a second", "agrees, %");
    String kind = "";
    for (Map.Entry<String, TextRun> entry : runs.entrySet()) {
      String own = entry.getKey().replaceFirst("(exit [a-z]+|skipdecode|unified|FFN skip).*", "$1");
      if (!own.equals(kind)) {
        chart.series(own, false);
        kind = own;
      }
      TextRun run = entry.getValue();
      chart.point(run.tokensPerSecond(), 100 * run.agreement(full),
          String.format("%s, %.1f tokens/s, %s", entry.getKey(), run.tokensPerSecond(),
              percent(run.agreement(full))));
    }
    report.chart(chart);
  }

  /** Steps and probes take turns, so that both meet the same neighbours on the machine. */
  private void reportSpeed() throws IOException {
    double[] step = new double[PROBES];
    double[] probe = new double[PROBES];
    try (Decoder decoder = new Decoder(weights, DecoderOptions.FULL, 1, 2 * PROBES)) {
      decoder.prefill(0, Arrays.copyOf(text, PROBES));
      for (int i = 0; i < PROBES; i++) {
        probe[i] = milliseconds(() -> Backend.readBandwidthProbe(weights.memory()));
        step[i] = milliseconds(() -> decoder.step(text[0]));
      }
    }
    Arrays.sort(step);
    Arrays.sort(probe);
    double reads = weights.bytesPerToken() / step[PROBES / 2] / 1e6;
    double best = weights.memory().byteSize() / probe[PROBES / 2] / 1e6;
    report.paragraph("A step at full depth reads %.1f GB of weights per second, all else it does "
            + "included; merely reading the same memory in the same minute, %.1f GB per second: "
            + "%.0f %% (medians of %d).",
        reads, best, 100 * reads / best, PROBES);
  }

  private static double milliseconds(Runnable action) {
    long start = System.nanoTime();
    action.run();
    return (System.nanoTime() - start) / 1e6;
  }

  private void reportAnswers(Map<String, String> answers) throws IOException {
    report.paragraph("\"%s\", answered greedily (%d tokens at most):", QUESTION, ANSWER);
    List<String> list = new ArrayList<>();
    answers.forEach(
        (name, answer)
            -> list.add(name + ": "
                + (answer.length() > SHOWN ? answer.substring(0, SHOWN) + "…" : answer)));
    report.list(list);
  }

  private void reportBargain(Map<String, TextRun> runs) throws IOException {
    TextRun full = runs.get(FULL);
    Map.Entry<String, TextRun> best =
        runs.entrySet()
            .stream()
            .filter(run -> run.getValue().notRead() > .01)
            .max(Comparator.comparingDouble(run -> run.getValue().agreement(full)))
            .orElse(null);
    if (best == null) {
      report.paragraph("Saved: nothing; no method read less than full depth.");
      return;
    }
    TextRun run = best.getValue();
    report.paragraph(
        "Saved: of the methods that read less, \"%s\" keeps the most answers: it leaves out "
            + "%s of the weights. What it cost: %s of the tokens are no longer those of full "
            + "depth, and the perplexity goes from %.1f to %.1f. This model was trained neither "
            + "to exit nor to do without layers; read the table as honest curves, not as a "
            + "recommendation.",
        best.getKey(), percent(run.notRead()), percent(1 - run.agreement(full)), full.perplexity(),
        run.perplexity());
  }

  private static String percent(double share) {
    return String.format("%.1f %%", 100 * share);
  }
}
