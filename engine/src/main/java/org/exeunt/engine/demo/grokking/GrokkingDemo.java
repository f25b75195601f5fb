// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.demo.grokking;

import java.io.IOException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.exeunt.Normalizer;
import org.exeunt.engine.report.Chart;
import org.exeunt.engine.report.Report;
import org.exeunt.engine.report.Table;

/** Trains small models on modular addition, with and without what keeps them from generalising. */
public final class GrokkingDemo {
  private static final int STEP = 25;

  private GrokkingDemo() {}

  private static final Training.Setup PERP_GRAD =
      new Training.Setup(Normalizer.SOFTMAX, true, .4, .01f);
  private static final Training.Setup CONTROL =
      new Training.Setup(Normalizer.SOFTMAX, false, .4, .01f);

  // Collapse comes after memorising, which takes longer the more there is to memorise: a twentieth
  // of the pairs and twice the rate show in seconds what the whole needs thousands of epochs for.
  private static final Training.Setup SMALL_SOFTMAX =
      new Training.Setup(Normalizer.SOFTMAX, false, .05, .02f);
  private static final Training.Setup SMALL_STABLEMAX =
      new Training.Setup(Normalizer.STABLEMAX, false, .05, .02f);

  /**
   * Runs both comparisons.
   *
   * @param threads trainings at a time, each of which multiplies with one thread
   * @param quick stops as soon as the claim has been seen
   */
  public static void run(Report report, int threads, boolean quick)
      throws IOException, InterruptedException {
    report.heading("Grokking in seconds");
    report.paragraph(
        "A network of 226-200-200-113 learns a + b mod 113 from 40 %% of the pairs, full "
        + "batch, AdamW. The loss and its gradient come from exeunt's cross-entropy kernel; "
        + "perpGrad takes out of each gradient what only makes the weights longer.");
    Map<String, Training.Setup> generalise = new LinkedHashMap<>();
    generalise.put("softmax + perpGrad", PERP_GRAD);
    generalise.put("softmax", CONTROL);
    compare(report, "grokking", "40 % of the pairs", generalise, threads, quick ? 125 : 150);

    report.paragraph(
        "Softmax collapse: the largest logit's term swallows the f32 sum, p is exactly 1, "
        + "and the pair teaches nothing more. The same network on 5 %% of the pairs, "
        + "without perpGrad:");
    Map<String, Training.Setup> collapse = new LinkedHashMap<>();
    collapse.put("softmax", SMALL_SOFTMAX);
    collapse.put("StableMax", SMALL_STABLEMAX);
    compare(report, "collapse", "5 % of the pairs", collapse, threads, quick ? 100 : 150);
  }

  private static void compare(Report report, String name, String pairs,
      Map<String, Training.Setup> setups, int threads, int epochs)
      throws IOException, InterruptedException {
    ExecutorService executor = Executors.newFixedThreadPool(Math.min(threads, setups.size()));
    try {
      Map<String, Future<List<Training.Snapshot>>> runs = new LinkedHashMap<>();
      setups.forEach(
          (label, setup)
              -> runs.put(label, executor.submit(() -> train(report, label, setup, epochs))));
      Map<String, List<Training.Snapshot>> curves = new LinkedHashMap<>();
      for (Map.Entry<String, Future<List<Training.Snapshot>>> run : runs.entrySet()) {
        curves.put(run.getKey(), result(run.getValue()));
      }
      report(report, name, pairs, curves);
    } finally {
      executor.shutdownNow();
    }
  }

  /** Shows how each run ended; the whole curves go to the file only. */
  private static void report(Report report, String name, String pairs,
      Map<String, List<Training.Snapshot>> curves) throws IOException {
    Table ends =
        new Table("training", "epochs", "loss", "train", "test", "in collapse", "test > 95 % at");
    Table all = new Table("training", "epoch", "loss", "train", "test", "collapsed");
    curves.forEach((label, curve) -> {
      Training.Snapshot end = curve.get(curve.size() - 1);
      ends.row(label, Integer.toString(end.epoch()), String.format("%.2g", end.loss()),
          percent(end.trainAccuracy()), percent(end.testAccuracy()), percent(end.collapsed()),
          curve.stream()
              .filter(now -> now.testAccuracy() > .95)
              .findFirst()
              .map(now -> "epoch " + now.epoch())
              .orElse("never"));
      for (Training.Snapshot now : curve) {
        all.row(label, Integer.toString(now.epoch()), Float.toString(now.loss()),
            Double.toString(now.trainAccuracy()), Double.toString(now.testAccuracy()),
            Double.toString(now.collapsed()));
      }
    });
    report.table(name, ends);
    report.data(name + "-curves", all);
    Chart loss = Chart.ofPowers("Loss by epoch, learning from " + pairs, "epoch", "loss");
    boolean collapse =
        curves.values().stream().flatMap(List::stream).anyMatch(now -> now.collapsed() > 0);
    Chart share = collapse
        ? Chart.of("Pairs in collapse, by epoch", "epoch", "in collapse, %")
        : Chart.of("Unseen pairs answered, by epoch", "epoch", "answered, %");
    curves.forEach((label, curve) -> {
      loss.series(label, true);
      share.series(label, true);
      for (Training.Snapshot now : curve) {
        loss.point(
            now.epoch(), now.loss(), String.format("%.2g at epoch %d", now.loss(), now.epoch()));
        double shown = collapse ? now.collapsed() : now.testAccuracy();
        share.point(now.epoch(), 100 * shown, percent(shown) + " at epoch " + now.epoch());
      }
    });
    report.chart(loss);
    report.chart(share);
  }

  private static List<Training.Snapshot> train(
      Report report, String label, Training.Setup setup, int epochs) {
    try (Training training = new Training(setup)) {
      List<Training.Snapshot> snapshots = new ArrayList<>(List.of(training.evaluate()));
      for (int epoch = STEP; epoch <= epochs; epoch += STEP) {
        training.run(STEP);
        Training.Snapshot now = training.evaluate();
        report.progress("%s: epoch %d of %d, loss %.2g, %s of the unseen pairs answered", label,
            now.epoch(), epochs, now.loss(), percent(now.testAccuracy()));
        snapshots.add(now);
      }
      return snapshots;
    }
  }

  private static <T> T result(Future<T> future) throws InterruptedException {
    try {
      return future.get();
    } catch (ExecutionException e) {
      throw new IllegalStateException(
          "a training run failed: " + e.getCause().getMessage(), e.getCause());
    }
  }

  private static String percent(double share) {
    return String.format("%.1f %%", 100 * share);
  }
}
