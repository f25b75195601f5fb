// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/** A target held against what was measured. */
final class Verdict {
  final Target target;
  final int threads;
  /** In the unit of the target's measure. */
  final double measured;
  /** Median read limit in microseconds; 0 where it plays no part. */
  final double limit;

  private Verdict(Target target, int threads, double measured, double limit) {
    this.target = target;
    this.threads = threads;
    this.measured = measured;
    this.limit = limit;
  }

  boolean met() {
    return measured <= target.bound;
  }

  /** Verdicts on all targets whose case was run, in the order of the targets. */
  static List<Verdict> of(List<Target> targets, List<Figure> figures) {
    List<Verdict> verdicts = new ArrayList<>();
    for (Target target : targets) {
      if (target.measure == Target.Measure.CALL) {
        callCost(figures).ifPresent(
            cost -> verdicts.add(new Verdict(target, 1, cost, 0)));
        continue;
      }
      for (Figure figure : figures) {
        if (figure.contender.equals("exeunt")
            && target.covers(figure.op, figure.id, figure.threads)) {
          measured(target, figure, figures).ifPresent(value ->
              verdicts.add(new Verdict(target, figure.threads, value, figure.limitP50)));
        }
      }
    }
    return verdicts;
  }

  /** Empty if the other case that the target speaks of was not run. */
  private static Optional<Double> measured(Target target, Figure figure, List<Figure> figures) {
    switch (target.measure) {
      case US:
        return Optional.of(figure.p50);
      case LIMIT:
        return Optional.of(figure.overLimit());
      default:
        return figures.stream()
            .filter(f -> f.contender.equals(figure.contender) && f.op.equals(figure.op)
                && f.threads == figure.threads && f.id.equals(target.base))
            .findFirst()
            .map(f -> figure.p50 / f.p50);
    }
  }

  /**
   * Nanoseconds that the Java API adds to the kernel: what it adds to the raw binding, plus what
   * the smallest native call costs. Differences of a few nanoseconds drown in any interruption, so
   * the least disturbed iterations count.
   */
  static Optional<Double> callCost(List<Figure> figures) {
    Optional<Figure> api = call(figures, "exeunt");
    Optional<Figure> binding = call(figures, "binding");
    Optional<Figure> empty = call(figures, "empty");
    if (api.isEmpty() || binding.isEmpty() || empty.isEmpty()) {
      return Optional.empty();
    }
    return Optional.of((api.get().min - binding.get().min + empty.get().min) * 1e3);
  }

  static Optional<Figure> call(List<Figure> figures, String contender) {
    return figures.stream()
        .filter(f -> f.op.equals(Plan.CALL_COST) && f.contender.equals(contender))
        .findFirst();
  }
}
