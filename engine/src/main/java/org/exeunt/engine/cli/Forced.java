// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.cli;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Collectors;
import org.exeunt.Backend;
import org.exeunt.cli.HelpPage.Given;
import org.exeunt.engine.report.Report;
import org.exeunt.engine.report.Table;
import org.exeunt.engine.speculate.ForcedSpeculation;
import org.exeunt.engine.speculate.ForcedSpeculation.Cost;
import org.exeunt.engine.speculate.ForcedSpeculation.Shape;

/**
 * What self-speculative decoding would gain at a model's sizes, if drafts were right as often as
 * their authors say; and where the time goes. {@code evaluate --shape} runs it.
 */
final class Forced {
  /**
   * A line of LayerSkip's README (commit 02075d0): Llama 2 7B trained to exit.
   *
   * @param depth the share of the layers that draft
   * @param accepted the share of the drafted tokens that was right
   * @param speedup tokens a second over those of the same model one by one
   */
  private record Published(String task, double depth, int length, double accepted, double speedup) {
  }

  private static final List<Published> PUBLISHED = List.of(
      new Published("CNN/DM summarisation", 8 / 32.0, 6, 0.7945, 80.12 / 39.05),
      new Published("CNN/DM continuation", 8 / 32.0, 6, 0.6268, 70.08 / 38.70),
      new Published("HumanEval", 10 / 32.0, 6, 0.5554, 54.49 / 39.27));

  private Shape shape;
  private Path out = Path.of("build", "evaluate");
  private int tokens = 64;
  private int threads;
  private double accepted; // 0: as published
  private int shortlist; // 0: not said

  private Forced() {}

  /** Runs. */
  static void run(List<Given> given) throws IOException {
    Forced forced = new Forced();
    given.forEach(option -> forced.set(option.name(), option.values()));
    forced.check();
    forced.run();
  }

  private void set(String option, List<String> values) {
    String value = values.isEmpty() ? "" : values.get(values.size() - 1);
    switch (option) {
      case "--shape" -> shape = shape(value);
      case "--accepted" -> accepted = share(option, value);
      case "--draft-shortlist" ->
        shortlist = GenerateOptions.integer(option, value, 1, Integer.MAX_VALUE);
      case "--max-tokens" -> tokens = GenerateOptions.integer(option, value, 1, 1024);
      case "--threads" -> threads = GenerateOptions.integer(option, value, 1, 256);
      case "--out" -> out = Path.of(value);
      default ->
        throw new IllegalArgumentException("'" + option + "' does not go with --shape, which "
            + "takes --accepted, --draft-shortlist, --max-tokens, --threads and --out");
    }
  }

  private void check() {
    if (shortlist == 0) {
      shortlist = shape.vocabulary() / 4; // as FR-Spec (Zhao et al. 2025) keeps of Llama 3's
    }
    if (shortlist > shape.vocabulary()) {
      throw new IllegalArgumentException("--draft-shortlist is '" + shortlist + "', but "
          + shape.option() + " has " + shape.vocabulary() + " tokens");
    }
  }

  private static Shape shape(String name) {
    for (Shape shape : Shape.values()) {
      if (shape.option().equals(name)) {
        return shape;
      }
    }
    throw new IllegalArgumentException("--shape is '" + name + "', not "
        + Arrays.stream(Shape.values()).map(Shape::option).collect(Collectors.joining(" or ")));
  }

  private static double share(String option, String value) {
    try {
      double share = Double.parseDouble(value);
      if (share > 0 && share <= 1) {
        return share;
      }
    } catch (NumberFormatException e) {
      // said below
    }
    throw new IllegalArgumentException(
        option + " is '" + value + "', not a share above 0, up to 1");
  }

  private void run() throws IOException {
    if (threads > 0) {
      Backend.setThreads(threads);
    }
    List<Published> lines = accepted == 0
        ? PUBLISHED
        : List.of(new Published("given", shape.draftLayers() / (double) shape.layers(),
              PUBLISHED.get(0).length(), accepted, Double.NaN));
    try (ForcedSpeculation model = new ForcedSpeculation(shape); Report report = new Report(out)) {
      report.heading(shape.option() + ": random weights, " + shape.weights());
      report.paragraph("%s with %d threads. Each drafted token is right with the probability at "
              + "which the published share of a draft is; everything else is computed. Times are "
              + "milliseconds for each token that comes out. Drafts among some tokens alone are taken "
              + "to be right as often as those among all.",
          Backend.isa(), Backend.threads());
      Table table = new Table("drafts by", "among", "published", "right", "speed-up",
          "tokens a second", "tokens a pass", "draft: layers", "draft: head", "verify: layers",
          "verify: head", "rest", "pass of all rows / one", "if only bytes took time");
      List<Cost> plain = new ArrayList<>();
      plain.add(model.plain(tokens));
      List<String[]> rows = new ArrayList<>();
      for (Published line : lines) {
        int layers = Math.max(1, (int) Math.round(line.depth() * shape.layers()));
        for (int size : new int[] {0, shortlist}) {
          Cost cost =
              model.speculative(layers, line.length(), size, line.accepted(), tokens, plain.get(0));
          plain.add(model.plain(tokens)); // in turns: a machine drifts
          double one =
              (plain.get(plain.size() - 2).total() + plain.get(plain.size() - 1).total()) / 2;
          rows.add(row(model, line, layers, size, cost, one));
        }
      }
      Cost middle = plain.get(plain.size() / 2);
      table.row("nothing", "", "", "", "1", number(1e3 / middle.total()), "1", "", "",
          number(middle.verifyLayers()), number(middle.verifyHead()), "", "", "");
      rows.forEach(table::row);
      report.table("forced", table);
    }
  }

  private String[] row(
      ForcedSpeculation model, Published line, int layers, int size, Cost cost, double one) {
    String published =
        Double.isNaN(line.speedup()) ? "" : String.format("%.2f (%s)", line.speedup(), line.task());
    return new String[] {layers + " layers, " + line.length() + " tokens",
        size == 0 ? "all" : String.valueOf(size), published, String.format("%.2f", cost.accepted()),
        String.format("%.2f", one / cost.total()), number(1e3 / cost.total()),
        number(cost.tokensPerPass()), number(cost.draftLayers()), number(cost.draftHead()),
        number(cost.verifyLayers()), number(cost.verifyHead()), number(cost.rest()),
        number(cost.passRatio()),
        String.format("%.2f", model.byBytes(layers, line.length(), size, cost.tokensPerPass()))};
  }

  private static String number(double value) {
    return String.format("%.2f", value);
  }
}
