// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.encoder;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import org.exeunt.DType;
import org.exeunt.Normalizer;
import org.exeunt.examples.linalg.Blas;
import org.exeunt.examples.report.Report;
import org.exeunt.examples.report.Table;

/**
 * A sentence encoder that people have, with a small classifier behind each layer: sentences leave
 * when their answer is sure enough, and the others go on.
 */
public final class EncoderDemo {
  private static final int BATCH = 32;
  private static final int LONGEST = 128;
  private static final int SENTENCES = 6000;
  private static final int QUICK_SENTENCES = 1500;
  private static final int ALONE = 512; // sentences that are timed one by one
  private static final int ROUND = 128; // sentences between one plan and the next
  private static final double TRAINED = .65;
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
   * @param threads heads that are fitted at a time; each multiplies with one thread
   * @param quick takes the first sentences alone
   */
  public static void run(Report report, Path folder, int threads, boolean quick)
      throws IOException {
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
    Reviews reviews = Reviews.read(files.reviews(), tokenizer, LONGEST).shuffled();
    reviews = reviews.part(0, Math.min(quick ? QUICK_SENTENCES : SENTENCES, reviews.size()));
    try (EncoderWeights weights = EncoderWeights.load(files.model(), DType.BF16)) {
      Blas.setThreads(1);
      new EncoderDemo(report, weights, reviews).run(reviews);
    } finally {
      Blas.setThreads(threads);
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
            + "rated (Hutto & Gilbert 2014). Behind each layer a linear head says from the mean of "
            + "the states whether the rating is above 0. Heads and gates are fitted to %d "
            + "sentences, settings chosen on %d, and all figures below are of the other %d.",
        layers, reviews.size(), trained, tuned - trained, heldOut.size());
    try (Encoder encoder = new Encoder(weights, BATCH, LONGEST)) {
      LayerStates all = LayerStates.of(encoder, layers, reviews, done -> {
        if (done % (64 * BATCH) == 0 || done == reviews.size()) {
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
    report.paragraph("Accuracy behind each layer, by the loss that the heads were fitted with:");
    List<String> header = new ArrayList<>(List.of("loss"));
    for (int l = 1; l <= layers; l++) {
      header.add("layer " + l);
    }
    Table table = new Table(header.toArray(String[] ::new));
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
        for (double accuracy : fitted.accuracies(test)) {
          row.add(percent(accuracy));
        }
        table.row(row.toArray(String[] ::new));
      }
    }
    report.table("encoder-heads", table);
    return best;
  }

  /**
   * All layers, the depth that is the most accurate, and of each rule the fastest setting that
   * loses nothing against all layers; by the part where settings are chosen.
   */
  private List<ExitPlan> plans(FittedExits fitted) {
    List<ExitPlan> plans = new ArrayList<>(List.of(ExitPlan.full(layers)));
    double[] depths = fitted.accuracies(tune);
    double full = depths[layers - 1];
    int best = layers;
    for (int depth = layers - 1; depth > 0; depth--) {
      best = depths[depth - 1] > depths[best - 1] ? depth : best;
    }
    if (best < layers) {
      plans.add(new ExitPlan(ExitPlan.Kind.DEPTH, best));
    }
    for (ExitPlan.Kind kind : ExitPlan.Kind.values()) {
      ExitPlan fastest = null;
      double least = Double.POSITIVE_INFINITY;
      for (ExitPlan plan : kind.plans(layers)) {
        ExitRun run = ExitRun.of(fitted, plan, tune);
        if (tune.accuracy(run.answers()) >= full && run.meanLayers() < least) {
          least = run.meanLayers();
          fastest = plan;
        }
      }
      if (fastest != null && !plans.contains(fastest)) {
        plans.add(fastest);
      }
    }
    return plans;
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

  /** A plan, and how it fared. */
  private static final class Trial {
    private final ExitPlan plan;
    private final int[] answers;
    private final int[] exitLayers;
    private int done;
    private double seconds;
    private double secondsAlone;

    private Trial(ExitPlan plan, int sentences) {
      this.plan = plan;
      answers = new int[sentences];
      exitLayers = new int[sentences];
    }

    private void add(ExitRun run) {
      System.arraycopy(run.answers(), 0, answers, done, run.answers().length);
      System.arraycopy(run.exitLayers(), 0, exitLayers, done, run.exitLayers().length);
      done += run.answers().length;
    }
  }

  private void reportPlans(FittedExits fitted, List<ExitPlan> plans) throws IOException {
    List<Trial> trials = plans.stream().map(plan -> new Trial(plan, heldOut.size())).toList();
    report.progress("timing %d rules, in batches of %d and one by one", trials.size(), BATCH);
    int alone = Math.min(ALONE, heldOut.size());
    try (Encoder batches = new Encoder(weights, BATCH, LONGEST);
        Encoder single = new Encoder(weights, 1, LONGEST)) {
      warmUp(fitted, trials, batches, single);
      for (int from = 0; from < heldOut.size(); from += ROUND) {
        // Round by round, so that all plans meet the same neighbours.
        List<int[]> sentences =
            heldOut.sentences().subList(from, Math.min(from + ROUND, heldOut.size()));
        List<int[]> first =
            sentences.subList(0, Math.max(0, Math.min(sentences.size(), alone - from)));
        for (Trial trial : trials) {
          try (SentenceExits exits = new SentenceExits(fitted, trial.plan, batches.pooled());
              SentenceExits exitsAlone = new SentenceExits(fitted, trial.plan, single.pooled())) {
            long start = System.nanoTime();
            trial.add(ExitRun.of(batches, exits, sentences));
            long middle = System.nanoTime();
            ExitRun.of(single, exitsAlone, first);
            trial.seconds += (middle - start) / 1e9;
            trial.secondsAlone += (System.nanoTime() - middle) / 1e9;
          }
        }
      }
    }
    reportTrials(fitted, trials, alone);
  }

  private void warmUp(FittedExits fitted, List<Trial> trials, Encoder batches, Encoder single) {
    List<int[]> few = heldOut.sentences().subList(0, Math.min(BATCH, heldOut.size()));
    for (Trial trial : trials) {
      for (Encoder encoder : List.of(batches, single)) {
        try (SentenceExits exits = new SentenceExits(fitted, trial.plan, encoder.pooled())) {
          ExitRun.of(encoder, exits, few);
        }
      }
    }
  }

  private void reportTrials(FittedExits fitted, List<Trial> trials, int alone) throws IOException {
    report.paragraph(
        "Heads by %s. Where settings are chosen, the depth that is the most accurate, and of each "
            + "rule the fastest setting that loses nothing against all layers "
            + "(encoder-curve.csv has the others). A sentence that leaves takes its tokens out of "
            + "the batch. Sentences a second:",
        fitted.setup());
    Table table = new Table("rule", "accuracy", "mean layers", "batch " + BATCH, "of all layers",
        "one by one", "of all layers");
    Trial full = trials.get(0);
    for (Trial trial : trials) {
      table.row(trial == full ? "all layers" : trial.plan.toString(),
          percent(test.accuracy(trial.answers)), String.format("%.2f", meanLayers(trial)),
          String.format("%.0f", heldOut.size() / trial.seconds),
          String.format("%.2f x", full.seconds / trial.seconds),
          String.format("%.0f", alone / trial.secondsAlone),
          String.format("%.2f x", full.secondsAlone / trial.secondsAlone));
    }
    report.table("encoder-rules", table);
    double wanted = test.accuracy(full.answers) - .005;
    Trial best =
        trials.stream()
            .filter(trial -> trial.plan.kind() != ExitPlan.Kind.DEPTH)
            .filter(trial -> test.accuracy(trial.answers) >= wanted)
            .max(Comparator.comparingDouble(trial -> full.seconds / trial.seconds))
            .orElse(null);
    if (best == null) {
      report.paragraph("Saved: nothing; every rule loses more than half a point of accuracy.");
      return;
    }
    double points = 100 * (test.accuracy(best.answers) - test.accuracy(full.answers));
    report.paragraph(
        "Saved: \"%s\" runs %.1f of %d layers, %.2f times as many sentences a second in batches of "
            + "%d, %.2f times one by one, for %+.1f points of accuracy.%s",
        best.plan, meanLayers(best), layers, full.seconds / best.seconds, BATCH,
        full.secondsAlone / best.secondsAlone, points,
        points > 0 ? " This encoder was trained for likeness of meaning, not for this question, "
                + "and its last layers know less about it than those in the middle."
                   : "");
  }

  private static double meanLayers(Trial trial) {
    return Arrays.stream(trial.exitLayers).average().orElse(0);
  }

  private static String percent(double share) {
    return String.format("%.1f %%", 100 * share);
  }
}
