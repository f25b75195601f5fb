// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.spark;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Encoders;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;
import org.exeunt.Backend;
import org.exeunt.cli.HelpPage;
import org.exeunt.cli.HelpPage.Given;
import org.exeunt.engine.encode.EncoderFiles;
import org.exeunt.engine.encode.ExitPlan;
import org.exeunt.engine.encode.FittedExits;
import org.exeunt.engine.encode.Reviews;
import org.exeunt.engine.model.Models;
import org.exeunt.engine.report.Table;

/**
 * Sentences per second of Spark tasks that share an executor, after all layers of the encoder and
 * leaving early.
 */
public final class SparkDemo {
  private static final int FITTED = 3000;
  private static final int MOST_TASKS = 64;
  private static final int ROUNDS = 5;

  private Path encoder = Models.encoder();
  private ExitPlan plan = ExitPlan.parse("patience:2");
  private List<Integer> tasks = List.of(1, 2, 4);
  private int count = 2000;

  private SparkDemo() {}

  /** Runs it and ends the process: status 1 if it failed, 2 if the arguments make no sense. */
  public static void main(String[] arguments) throws IOException {
    Locale.setDefault(Locale.ROOT);
    SparkDemo demo = new SparkDemo();
    EncoderFiles files;
    try {
      List<Given> given = HelpPage.parse("spark", arguments);
      if (HelpPage.has(given, "--help")) {
        System.out.print(HelpPage.text("spark"));
        return;
      }
      given.forEach(option -> demo.set(option.name(), option.value()));
      files = Sessions.files(demo.encoder);
    } catch (IllegalArgumentException e) {
      System.err.println("spark: " + e.getMessage());
      System.exit(2);
      return;
    }
    try {
      demo.run(files);
    } catch (IOException | UnsatisfiedLinkError e) {
      System.err.println("spark: " + e.getMessage());
      System.exit(1);
    }
  }

  private void set(String option, String value) {
    switch (option) {
      case "--encoder" -> encoder = Path.of(value);
      case "--exit" -> plan = ExitPlan.parse(value);
      case "--sentences" -> count = number(option, value, 1 << 20);
      case "--tasks" ->
        tasks = Arrays.stream(value.split(",", -1))
                    .map(number -> number(option, number, MOST_TASKS))
                    .toList();
      default -> throw new IllegalArgumentException(option + " is not spark's");
    }
  }

  private static int number(String option, String text, int most) {
    if (!text.matches("[1-9][0-9]{0,6}") || Integer.parseInt(text) > most) {
      throw new IllegalArgumentException(
          option + ": '" + text + "' is not a number from 1 to " + most);
    }
    return Integer.parseInt(text);
  }

  private void run(EncoderFiles files) throws IOException {
    Reviews reviews = Sessions.reviews(files);
    int fitted = Math.min(FITTED, reviews.size() / 2);
    Reviews labelled = reviews.part(fitted, Math.min(reviews.size(), fitted + count));
    System.out.printf("Fitting exits to %d film reviews.%n", fitted);
    FittedExits exits = Sessions.fit(files, reviews.part(0, fitted));
    ExitPlan full = ExitPlan.full(exits.layers());
    String folder = Sessions.folder(files);
    List<LabelSentences> plans =
        List.of(new LabelSentences(folder, exits, full), new LabelSentences(folder, exits, plan));
    Table table = new Table(
        "tasks", "all layers", plan.toString(), "", "layers run", "accuracy", "of all layers");
    for (int running : tasks) {
      System.out.printf("Timing %d task%s.%n", running, running == 1 ? "" : "s");
      try (SparkSession spark = Sessions.of("local[" + running + "]").getOrCreate()) {
        Dataset<Row> sentences = Sessions.sentences(spark, labelled.texts(), running);
        List<Timed> timed = plans.stream().map(how -> new Timed(sentences, how)).toList();
        for (int round = 0; round < ROUNDS; round++) {
          timed.forEach(Timed::run);
        }
        Timed all = timed.get(0);
        Timed early = timed.get(1);
        table.row(Integer.toString(running), String.format("%.0f", all.rate(labelled.size())),
            String.format("%.0f", early.rate(labelled.size())),
            String.format("%.2f x", early.rate(1) / all.rate(1)),
            String.format("%.2f", early.meanLayers()),
            String.format("%.1f %%", 100 * early.accuracy(labelled)),
            String.format("%.1f %%", 100 * all.accuracy(labelled)));
      }
    }
    System.out.printf("exeunt %s on %s: sentences per second of %d reviews, median of %d rounds.%n",
        Backend.version(), Backend.CPU.description(), labelled.size(), ROUNDS);
    System.out.print(table.toMarkdown());
  }

  /** A plan, and how long it took; a first run, in which models are loaded, does not count. */
  private static final class Timed {
    private final Dataset<Row> labels;
    private final List<Double> seconds = new ArrayList<>();
    private List<Row> rows;

    private Timed(Dataset<Row> sentences, LabelSentences how) {
      labels = sentences.mapPartitions(how, Encoders.row(LabelSentences.SCHEMA));
      run();
      seconds.clear();
    }

    private void run() {
      long start = System.nanoTime();
      rows = labels.collectAsList();
      seconds.add((System.nanoTime() - start) / 1e9);
    }

    private double rate(int sentences) {
      return sentences / seconds.stream().sorted().skip(ROUNDS / 2).findFirst().orElseThrow();
    }

    private double meanLayers() {
      return rows.stream().mapToInt(row -> row.getInt(3)).average().orElse(0);
    }

    private double accuracy(Reviews reviews) {
      Map<String, Integer> truth = new HashMap<>();
      for (int i = 0; i < reviews.size(); i++) {
        truth.put(reviews.texts().get(i), reviews.labels()[i]);
      }
      return rows.stream()
          .mapToInt(row -> truth.get(row.getString(0)) == row.getInt(1) ? 1 : 0)
          .average()
          .orElse(0);
    }
  }
}
