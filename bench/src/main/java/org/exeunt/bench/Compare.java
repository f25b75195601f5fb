// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import java.io.PrintStream;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.regex.Pattern;
import java.util.stream.DoubleStream;
import org.exeunt.bench.measure.Interval;

/**
 * Two runs, case by case. How much a machine changes from one fork to the next is not assumed: what
 * is the same code in both runs, limits and peers, shows it.
 */
final class Compare {
  enum Outcome { SLOWER, FASTER, UNCLEAR, SAME }

  /** Of a case: the time of the second run over that of the first, and what its limits say. */
  record Line(String name, boolean ours, Interval ratio, List<Interval> limits, Outcome outcome) {}

  /** Smaller differences count as none. */
  private static final double MARGIN = 1.05;
  /** Of what is the same code in both runs, the share whose drift a difference has to exceed. */
  private static final double MOST = 0.95;
  /** That drift where too little shows it. */
  private static final double UNKNOWN_DRIFT = 1.25;
  private static final int FEWEST_REFERENCES = 10;

  private final Run before;
  private final Run after;
  private final Pattern filter;

  /** Compares the cases whose text matches. */
  Compare(Run before, Run after, Pattern filter) {
    this.before = before;
    this.after = after;
    this.filter = filter;
  }

  /** Prints a line for each case; whether something of ours is slower. */
  boolean print(PrintStream out) {
    List<Line> lines = lines();
    out.println("A: " + before.host().summary());
    out.println("B: " + after.host().summary());
    if (!before.host().get("cpu").equals(after.host().get("cpu"))) {
      out.println("These are two machines: the ratios are theirs, too.");
    }
    out.printf(
        Locale.ROOT, "Drift of what is the same code in both: %.0f %%%n%n", 100 * (drift() - 1));
    out.printf("%-8s %-76s %6s  %-13s  %s%n", "", "", "B / A", "interval", "limits");
    Map<Outcome, Integer> counts = new EnumMap<>(Outcome.class);
    for (Outcome outcome : Outcome.values()) {
      counts.put(outcome, 0);
      for (Line line : lines) {
        if (line.outcome == outcome) {
          counts.merge(outcome, 1, Integer::sum);
          out.printf(Locale.ROOT, "%-8s %-76s %6.3f  %s  %s%n", word(outcome), line.name,
              line.ratio.middle(), line.ratio,
              String.join(" ", line.limits.stream().map(Interval::toString).toList()));
        }
      }
    }
    List<String> sums = new ArrayList<>();
    counts.forEach((outcome, count) -> sums.add(count + " " + word(outcome)));
    int alone = before.figures().size() + after.figures().size() - 2 * pairs().size();
    out.println("\n" + String.join(", ", sums)
        + (alone == 0 ? "" : "; left out, as only one run has them: " + alone));
    return lines.stream().anyMatch(line -> line.ours && line.outcome == Outcome.SLOWER);
  }

  private static String word(Outcome outcome) {
    return outcome.name().toLowerCase(Locale.ROOT);
  }

  /** The cases of both runs, in the order of the second. */
  List<Line> lines() {
    double drift = drift();
    List<Line> lines = new ArrayList<>();
    pairs().forEach((old, now) -> {
      if (filter.matcher(now.toString()).find()) {
        Interval ratio = now.time.over(old.time);
        List<Interval> limits = limits(old, now);
        boolean ours = now.ours();
        lines.add(new Line(now.toString(), ours, ratio, limits, judge(ratio, limits, drift)));
      }
    });
    return lines;
  }

  /**
   * Slower needs an interval that drift does not explain, nor the move of a limit together with
   * drift; so does faster. The same needs an interval within the margin, and limits that stood.
   */
  static Outcome judge(Interval ratio, List<Interval> limits, double drift) {
    double up = limits.stream().mapToDouble(Interval::high).max().orElse(1);
    double down = limits.stream().mapToDouble(Interval::low).min().orElse(1);
    if (ratio.low() > drift * Math.max(MARGIN, up)) {
      return Outcome.SLOWER;
    }
    if (ratio.high() * drift < Math.min(1 / MARGIN, down)) {
      return Outcome.FASTER;
    }
    boolean moved = limits.stream().anyMatch(l -> l.low() > MARGIN || l.high() < 1 / MARGIN);
    return ratio.low() < 1 / MARGIN || ratio.high() > MARGIN || moved
        ? Outcome.UNCLEAR
        : Outcome.SAME;
  }

  /** By what factor most of what did not change has changed. */
  double drift() {
    DoubleStream.Builder ratios = DoubleStream.builder();
    pairs().forEach((old, now) -> {
      ownLimits(old, now).forEach(limit -> ratios.add(limit.middle()));
      if (!now.ours()) {
        ratios.add(now.time.over(old.time).middle());
      }
    });
    double[] drifts = ratios.build().map(r -> Math.max(r, 1 / r)).sorted().toArray();
    double most = drifts.length == 0 ? 1 : drifts[(int) Math.ceil(MOST * drifts.length) - 1];
    return drifts.length < FEWEST_REFERENCES ? Math.max(most, UNKNOWN_DRIFT) : most;
  }

  /** Peers run beside exeunt, whose limit counts for them. */
  private List<Interval> limits(Figure old, Figure now) {
    List<Interval> own = ownLimits(old, now);
    if (!own.isEmpty()) {
      return own;
    }
    Optional<Figure> oldLimit = limited(before, old);
    Optional<Figure> nowLimit = limited(after, now);
    return oldLimit.isPresent() && nowLimit.isPresent()
        ? ownLimits(oldLimit.get(), nowLimit.get())
        : List.of();
  }

  private static Optional<Figure> limited(Run run, Figure figure) {
    return run.figures().stream().filter(f -> f.hasLimit() && f.sameCase(figure)).findFirst();
  }

  private static List<Interval> ownLimits(Figure old, Figure now) {
    List<Interval> ratios = new ArrayList<>();
    if (old.hasLimit() && now.hasLimit()) {
      ratios.add(now.limitTime.over(old.limitTime));
    }
    if (old.multiplyAdds > 0 && now.multiplyAdds > 0) {
      ratios.add(now.arithmeticTime.over(old.arithmeticTime));
    }
    return ratios;
  }

  private Map<Figure, Figure> pairs() {
    Map<Figure, Figure> pairs = new LinkedHashMap<>();
    for (Figure now : after.figures()) {
      before.figures()
          .stream()
          .filter(old -> old.sameCase(now) && old.contender.equals(now.contender))
          .findFirst()
          .ifPresent(old -> pairs.put(old, now));
    }
    return pairs;
  }
}
