// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.exeunt.bench.measure.Operands;

/** A target held against what was measured. */
final class Verdict {
  final Target target;
  final int threads;
  /** In the unit of the target's measure. */
  final double measured;
  /** What was measured; null for the cost of a call, which several figures make. */
  final Figure figure;

  private Verdict(Target target, int threads, double measured, Figure figure) {
    this.target = target;
    this.threads = threads;
    this.measured = measured;
    this.figure = figure;
  }

  boolean met() {
    return target.measure == Target.Measure.PEAK
        ? measured >= target.bound
        : measured <= target.bound;
  }

  /** Verdicts on all targets whose case was run, in the order of the targets. */
  static List<Verdict> of(List<Target> targets, List<Figure> figures) {
    List<Verdict> verdicts = new ArrayList<>();
    for (Target target : targets) {
      if (target.measure == Target.Measure.CALL) {
        callCost(figures).ifPresent(cost -> verdicts.add(new Verdict(target, 1, cost, null)));
        continue;
      }
      for (Figure figure : figures) {
        if (figure.contender.equals(Plan.OURS) && target.covers(figure)) {
          measured(target, figure, figures)
              .ifPresent(value -> verdicts.add(new Verdict(target, figure.threads, value, figure)));
        }
      }
    }
    return verdicts;
  }

  /** The same promise held against the other place of the operands; empty if that was not run. */
  static Optional<Verdict> elsewhere(Target target, Figure judged, List<Figure> figures) {
    return figures.stream()
        .filter(f
            -> judged != null && f.contender.equals(judged.contender) && f.op.equals(judged.op)
                && f.id.equals(judged.id) && f.threads == judged.threads
                && f.operands != judged.operands && f.operands != Operands.DEVICE)
        .findFirst()
        .flatMap(f
            -> measured(target, f, figures).map(value -> new Verdict(target, f.threads, value, f)));
  }

  /** Empty if the other case that the target speaks of was not run. */
  private static Optional<Double> measured(Target target, Figure figure, List<Figure> figures) {
    switch (target.measure) {
      case US:
        return Optional.of(figure.p50);
      case LIMIT:
        return Optional.of(figure.overLimit());
      case PEAK:
        return Optional.of(figure.ofPeak());
      default:
        return figures.stream()
            .filter(f
                -> f.contender.equals(figure.contender) && f.op.equals(figure.op)
                    && f.threads == figure.threads && f.operands == figure.operands
                    && f.id.equals(target.base))
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
