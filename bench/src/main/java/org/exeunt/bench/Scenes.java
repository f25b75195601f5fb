// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.function.ToDoubleFunction;

/** The part of the report that says what became of the ops in each scene but the loop. */
final class Scenes {
  private static final String BURSTS = String.join("\n",
      "Idle for 50 to 500 ms, then 50 ms of calls:",
      "the median, in brackets that of the calls which began in the first 2 ms; and how many times",
      "as fast two threads are as one.", "",
      "| case | operands | who | 1 thread us | 2 threads us | x |", "|---|---|---|---|---|---|",
      "");
  private static final String NEIGHBOUR = String.join("\n",
      "Beside a process of nice 19 that keeps one core busy: the median, in brackets",
      "the 90th percentile; and how many times as fast two threads are as one.", "",
      "| case | operands | who | 1 thread us | 2 threads us | x |", "|---|---|---|---|---|---|",
      "");
  private static final String CALLERS = String.join("\n",
      "Two threads that call at once, each with operands of",
      "its own: the median of one alone, and of both; and the slower over the one alone.", "",
      "| case | operands | who | threads of a call | alone us | first us | second us | x |",
      "|---|---|---|---|---|---|---|---|", "");

  private final List<Figure> figures;
  private final StringBuilder text = new StringBuilder();

  private Scenes(List<Figure> figures) {
    this.figures = figures;
  }

  /** Sections of the scenes that were run; "" if none was. */
  static String render(List<Figure> figures) {
    Scenes scenes = new Scenes(figures);
    scenes.pairs(Scene.BURSTS, BURSTS, f -> f.first, "%s (%s)", "%.2f (%.2f)");
    scenes.pairs(Scene.NEIGHBOUR, NEIGHBOUR, f -> f.p90, "%s (%s)", "%.2f");
    scenes.callers();
    return scenes.text.toString();
  }

  private List<Figure> begin(Scene scene, String head) {
    List<Figure> its = figures.stream().filter(f -> f.in(scene)).toList();
    if (!its.isEmpty()) {
      text.append("## ")
          .append(scene.words().substring(0, 1).toUpperCase(Locale.ROOT))
          .append(scene.words().substring(1))
          .append("\n\n")
          .append(head);
    }
    return its;
  }

  private static String subject(Figure f) {
    return "| " + f.op + "/" + f.id + " | " + f.operands.words() + " | " + f.contender + " | ";
  }

  /** A line for one thread and two; {@code ratio} may have a place for the other figure's. */
  private void pairs(
      Scene scene, String head, ToDoubleFunction<Figure> other, String cell, String ratio) {
    List<Figure> its = begin(scene, head);
    List<String> done = new ArrayList<>();
    for (Figure figure : its) {
      String subject = subject(figure);
      if (done.contains(subject)) {
        continue;
      }
      done.add(subject);
      Optional<Figure> one = find(its, subject, 1);
      Optional<Figure> two = find(its, subject, 2);
      text.append(subject);
      for (Optional<Figure> f : List.of(one, two)) {
        text.append(f.map(g -> cell(cell, g.p50, other.applyAsDouble(g))).orElse("-"))
            .append(" | ");
      }
      text.append(one.isEmpty() || two.isEmpty()
                  ? "-"
                  : String.format(Locale.ROOT, ratio, one.get().p50 / two.get().p50,
                        other.applyAsDouble(one.get()) / other.applyAsDouble(two.get())))
          .append(" |\n");
    }
    text.append(its.isEmpty() ? "" : "\n");
  }

  private static String cell(String format, double p50, double other) {
    return String.format(Locale.ROOT, format, Markdown.number(p50), Markdown.number(other));
  }

  private static Optional<Figure> find(List<Figure> figures, String subject, int threads) {
    return figures.stream()
        .filter(f -> subject(f).equals(subject) && f.threads == threads)
        .findFirst();
  }

  private void callers() {
    List<Figure> its = begin(Scene.CALLERS, CALLERS);
    for (Figure f : its) {
      text.append(subject(f)).append(f.threads).append(" | ");
      for (double us : new double[] {f.alone, f.callers[0], f.callers[1]}) {
        text.append(Markdown.number(us)).append(" | ");
      }
      text.append(
          String.format(Locale.ROOT, "%.2f |\n", Math.max(f.callers[0], f.callers[1]) / f.alone));
    }
    text.append(its.isEmpty() ? "" : "\n");
  }
}
