// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.demo;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.Normalizer;
import org.exeunt.engine.encode.Encoder;
import org.exeunt.engine.encode.EncoderFiles;
import org.exeunt.engine.encode.EncoderWeights;
import org.exeunt.engine.encode.ExitPlan;
import org.exeunt.engine.encode.ExitRun;
import org.exeunt.engine.encode.FittedExits;
import org.exeunt.engine.encode.LayerStates;
import org.exeunt.engine.encode.LinearFit;
import org.exeunt.engine.encode.Reviews;
import org.exeunt.engine.encode.SentenceExits;
import org.exeunt.engine.model.text.WordPiece;
import org.exeunt.engine.report.Chart;
import org.exeunt.engine.report.Report;
import org.exeunt.engine.report.Table;

/**
 * A sentence encoder that people have, with a small classifier after each layer: sentences leave
 * when their answer is sure enough, and the others go on.
 */
public final class EncoderDemo {
  private static final int BATCH = 32;
  private static final int LARGE_BATCH = 64; // where nothing is timed
  private static final int LONGEST = 128;
  private static final int SENTENCES = 3000;
  private static final int QUICK_SENTENCES = 1500;
  private static final int ROUNDS = 5;
  private static final int ROUND = BATCH; // sentences of a round, together
  private static final int ALONE = 12; // of them those that also run one by one
  private static final int WARM_UP = 8; // of those
  private static final double TRAINED = .5;
  private static final double TUNED = .8; // up to here; the rest is held out

  private final Report report;
  private final EncoderWeights weights;
  private final int layers;
  private final Reviews heldOut;
  private LayerStates train;
  private LayerStates tune;
  private LayerStates test;

  /**
   * Runs the whole part, or says why not.
   *
   * @param folder where the launcher puts the encoder and the reviews
   * @param quick takes the first sentences alone
   */
  public static void run(Report report, Path folder, boolean quick) throws IOException {
    report.heading("A sentence encoder that stops when it knows");
    EncoderFiles files = new EncoderFiles(folder);
    if (files.missing() != null) {
      report.paragraph("This part is left out, because %s does not exist; `./exeunt demo` fetches "
              + "the encoder and the reviews, and --encoder names another folder.",
          files.missing());
      return;
    }
    report.progress("loading %s", files.model());
    WordPiece tokenizer = WordPiece.open(files.tokenizer());
    Reviews reviews = Reviews.readShuffled(
        files.reviews(), tokenizer, LONGEST, quick ? QUICK_SENTENCES : SENTENCES);
    try (EncoderWeights weights = EncoderWeights.load(files.model(), DType.BF16)) {
      new EncoderDemo(report, weights, reviews).run(reviews);
    }
  }

  private EncoderDemo(Report report, EncoderWeights weights, Reviews reviews) {
    this.report = report;
    this.weights = weights;
    layers = weights.layerCount();
    heldOut = reviews.part((int) (TUNED * reviews.size()), reviews.size());
  }

  private void run(Reviews reviews) throws IOException {
    int trained = (int) (TRAINED * reviews.size());
    int tuned = (int) (TUNED * reviews.size());
    report.paragraph(
        "all-MiniLM-L6-v2 (%d layers, bf16) reads %d sentences of film reviews, which people have "
            + "rated (Hutto & Gilbert 2014). After each layer a linear head says from the mean of "
            + "the states whether the rating is above 0. Heads and gates are fitted to %d "
            + "sentences, settings chosen on %d, and all figures below are of the other %d.",
        layers, reviews.size(), trained, tuned - trained, heldOut.size());
    try (Encoder encoder = new Encoder(weights, LARGE_BATCH, LONGEST)) {
      LayerStates all = LayerStates.of(encoder, layers, reviews, done -> {
        if (done % (16 * LARGE_BATCH) == 0 || done == reviews.size()) {
          report.progress("%d of %d sentences through all layers", done, reviews.size());
        }
      });
      train = all.part(0, trained);
      tune = all.part(trained, tuned);
      test = all.part(tuned, reviews.size());
    }
    FittedExits fitted = fit();
    fitted.addGates(train, tune);
    List<ExitPlan> plans = plans(fitted);
    reportCurve(fitted);
    reportPlans(fitted, plans);
  }

  /** Heads by every loss; the best of the tuning part are returned. */
  private FittedExits fit() throws IOException {
    report.paragraph("Accuracy after each layer, by the loss that the heads were fitted with:");
    List<String> header = new ArrayList<>(List.of("loss"));
    for (int l = 1; l <= layers; l++) {
      header.add("layer " + l);
    }
    Table table = new Table(header.toArray(String[] ::new));
    Chart chart = Chart.of("Accuracy after each layer, by loss", "layer", "accuracy, %");
    FittedExits best = null;
    double most = -1;
    for (Normalizer normalizer : List.of(Normalizer.SOFTMAX, Normalizer.STABLEMAX)) {
      for (boolean perpGrad : new boolean[] {false, true}) {
        LinearFit.Setup setup = new LinearFit.Setup(normalizer, perpGrad);
        report.progress("fitting %d heads with %s", layers, setup);
        FittedExits fitted = FittedExits.heads(train, setup);
        double mean = Arrays.stream(fitted.accuracies(tune)).average().orElse(0);
        if (mean > most) {
          most = mean;
          best = fitted;
        }
        List<String> row = new ArrayList<>(List.of(setup.toString()));
        chart.series(setup.toString(), true);
        for (double accuracy : fitted.accuracies(test)) {
          chart.point(row.size(), 100 * accuracy, percent(accuracy) + " after layer " + row.size());
          row.add(percent(accuracy));
        }
        table.row(row.toArray(String[] ::new));
      }
    }
    report.table("encoder-heads", table);
    report.chart(chart);
    return best;
  }

  /**
   * All layers, the depth that is the most accurate, and of each rule one setting, by the part where
   * settings are chosen: the fastest of those that are better than all layers by a standard error
   * or more, so that chance alone does not choose; if there is none, the most accurate.
   */
  private List<ExitPlan> plans(FittedExits fitted) {
    List<ExitPlan> plans = new ArrayList<>(List.of(ExitPlan.full(layers)));
    ExitRun full = ExitRun.of(fitted, plans.get(0), tune);
    for (ExitPlan.Kind kind : ExitPlan.Kind.values()) {
      ExitPlan fastest = null;
      ExitPlan best = null;
      double least = layers;
      double most = -1;
      for (ExitPlan plan : kind.plans(layers)) {
        ExitRun run = ExitRun.of(fitted, plan, tune);
        double accuracy = tune.accuracy(run.answers());
        if (accuracy > most) {
          most = accuracy;
          best = plan;
        }
        double gained = accuracy - tune.accuracy(full.answers());
        if (gained >= standardError(full.answers(), run.answers()) && run.meanLayers() < least) {
          least = run.meanLayers();
          fastest = plan;
        }
      }
      for (ExitPlan plan : Arrays.asList(
               kind == ExitPlan.Kind.DEPTH ? best : null, fastest == null ? best : fastest)) {
        if (plan != null && !plans.contains(plan)) {
          plans.add(plan);
        }
      }
    }
    return plans;
  }

  /** Of the difference of two accuracies on the same sentences: where answers are alike, none. */
  private static double standardError(int[] answers, int[] others) {
    int different = 0;
    for (int s = 0; s < answers.length; s++) {
      different += answers[s] == others[s] ? 0 : 1;
    }
    return Math.sqrt(different) / answers.length;
  }

  /** Every setting, from the states that were kept. */
  private void reportCurve(FittedExits fitted) throws IOException {
    Table curve = new Table("rule", "accuracy", "mean layers");
    for (ExitPlan.Kind kind : ExitPlan.Kind.values()) {
      for (ExitPlan plan : kind.plans(layers)) {
        ExitRun run = ExitRun.of(fitted, plan, test);
        curve.row(plan.toString(), Double.toString(test.accuracy(run.answers())),
            Double.toString(run.meanLayers()));
      }
    }
    report.data("encoder-curve", curve);
  }

  /** A plan, what it answers by the states that were kept, and how fast it is. */
  private static final class Trial {
    private final ExitPlan plan;
    private final ExitRun run;
    private final List<Double> rates = new ArrayList<>(); // sentences a second, of each round
    private final List<Double> ratesAlone = new ArrayList<>();

    private Trial(ExitPlan plan, ExitRun run) {
      this.plan = plan;
      this.run = run;
    }
  }

  private void reportPlans(FittedExits fitted, List<ExitPlan> plans) throws IOException {
    List<Trial> trials =
        plans.stream().map(plan -> new Trial(plan, ExitRun.of(fitted, plan, test))).toList();
    report.progress("timing %d rules, in batches of %d and one by one", trials.size(), BATCH);
    try (Encoder batches = new Encoder(weights, BATCH, LONGEST);
        Encoder single = new Encoder(weights, 1, LONGEST)) {
      for (Trial trial : trials) {
        seconds(fitted, trial, batches, timed(0, BATCH));
        seconds(fitted, trial, single, timed(0, WARM_UP));
      }
      for (int from = 0; from < ROUNDS * ROUND; from += ROUND) {
        // Round by round, so that all plans meet the same neighbours.
        List<int[]> together = timed(from, ROUND);
        List<int[]> alone = timed(from, ALONE);
        for (Trial trial : trials) {
          if (!together.isEmpty()) {
            trial.rates.add(together.size() / seconds(fitted, trial, batches, together));
            trial.ratesAlone.add(alone.size() / seconds(fitted, trial, single, alone));
          }
        }
      }
    }
    reportTrials(fitted, trials);
  }

  /** Held-out sentences, as many as there are of {@code count}. */
  private List<int[]> timed(int from, int count) {
    int end = heldOut.size();
    return heldOut.sentences().subList(Math.min(from, end), Math.min(from + count, end));
  }

  private static double seconds(
      FittedExits fitted, Trial trial, Encoder encoder, List<int[]> sentences) {
    try (SentenceExits exits = new SentenceExits(fitted, trial.plan, encoder.pooled())) {
      long start = System.nanoTime();
      ExitRun.of(encoder, exits, sentences);
      return (System.nanoTime() - start) / 1e9;
    }
  }

  private void reportTrials(FittedExits fitted, List<Trial> trials) throws IOException {
    report.paragraph(
        "Heads by %s. Of each rule, and of fixed depths, the fastest setting that is better than "
            + "all layers by a standard error where settings are chosen, or else the most accurate "
            + "(encoder-curve.csv has all). A sentence that leaves takes its tokens out of the "
            + "batch. Sentences a second are medians of %d rounds, of %d sentences together and %d one "
            + "by one, in which all rules take turns; \"of all layers\" is the quotient of two of "
            + "them:",
        fitted.setup(), ROUNDS, ROUND, ALONE);
    Table table = new Table("rule", "accuracy", "mean layers", "batch " + BATCH, "of all layers",
        "one by one", "of all layers");
    Trial full = trials.get(0);
    for (Trial trial : trials) {
      table.row(trial == full ? "all layers" : trial.plan.toString(),
          percent(test.accuracy(trial.run.answers())),
          String.format("%.2f", trial.run.meanLayers()), String.format("%.0f", median(trial.rates)),
          String.format("%.2f x", ratio(trial.rates, full.rates)),
          String.format("%.0f", median(trial.ratesAlone)),
          String.format("%.2f x", ratio(trial.ratesAlone, full.ratesAlone)));
    }
    report.table("encoder-rules", table);
    report.chart(speeds(trials));
    double wanted = test.accuracy(full.run.answers()) - .005;
    Trial best =
        trials.stream()
            .filter(trial -> trial.plan.kind() != ExitPlan.Kind.DEPTH)
            .filter(trial -> test.accuracy(trial.run.answers()) >= wanted)
            .max(Comparator.comparingDouble(trial -> ratio(trial.rates, full.rates)))
            .orElse(null);
    if (best == null) {
      report.paragraph("Saved: nothing; every rule loses more than half a point of accuracy.");
      return;
    }
    double[] depths = fitted.accuracies(test);
    int middle =
        IntStream.range(0, layers)
            .boxed()
            .max(Comparator.comparingDouble(layer -> depths[layer]))
            .orElse(layers - 1);
    report.paragraph(
        "Saved: of the rules that lose at most half a point, \"%s\" is the fastest: it runs %.1f of "
            + "%d layers, %.2f times as many sentences a second in batches of %d and %.2f times one "
            + "by one, for %+.1f points of accuracy.%s",
        best.plan, best.run.meanLayers(), layers, ratio(best.rates, full.rates), BATCH,
        ratio(best.ratesAlone, full.ratesAlone),
        100 * (test.accuracy(best.run.answers()) - test.accuracy(full.run.answers())),
        depths[middle] > depths[layers - 1]
            ? String.format(" This encoder was trained for likeness of meaning, not for this "
                      + "question: after layer %d it knows more about it than after the last.",
                  middle + 1)
            : "");
  }

  private Chart speeds(List<Trial> trials) {
    Trial full = trials.get(0);
    Chart chart = Chart.of("Accuracy against speed in batches of " + BATCH,
        "sentences a second, times those of all layers", "accuracy, %");
    for (Trial trial : trials) {
      String name = trial == full ? "all layers" : trial.plan.toString();
      double accuracy = test.accuracy(trial.run.answers());
      double ratio = ratio(trial.rates, full.rates);
      chart.series(name, false)
          .point(ratio, 100 * accuracy, String.format("%.2f x, %s", ratio, percent(accuracy)));
    }
    return chart;
  }

  private static double median(List<Double> values) {
    return values.stream().sorted().skip((values.size() - 1) / 2).findFirst().orElse(Double.NaN);
  }

  /** The quotient of two medians as they are shown, so that it follows from what stands beside it. */
  static double ratio(List<Double> rates, List<Double> others) {
    return Math.rint(median(rates)) / Math.rint(median(others));
  }

  private static String percent(double share) {
    return String.format("%.1f %%", 100 * share);
  }
}
