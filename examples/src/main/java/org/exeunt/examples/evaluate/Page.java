// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.evaluate;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

/** A page that needs nothing else: for each group of prompts speed against quality, and a table. */
final class Page {
  private static final int WIDTH = 720;
  private static final int HEIGHT = 340;
  private static final int LEFT = 56;
  private static final int RIGHT = 24;
  private static final int TOP = 16;
  private static final int BOTTOM = 44;
  private static final int MARK = 9; // radius of a point, which holds its number
  private static final int STEPS = 5; // of an axis, about

  private static final String STYLE = """
      :root { color-scheme: light dark; --text: #1b1f24; --faint: #59636e; --line: #d0d7de;
        --page: #ffffff; --exact: #0a5d2c; --other: #8a3b00; --on: #ffffff; }
      @media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --faint: #9aa5b1;
        --line: #3a434d; --page: #10151b; --exact: #6fdd8b; --other: #ffb27a; --on: #10151b; } }
      body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page);
        max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
      svg { width: 100%; height: auto; } svg text { fill: var(--faint); font-size: 12px; }
      .grid { stroke: var(--line); } .exact { fill: var(--exact); } .other { fill: var(--other); }
      svg .number { fill: var(--on); font-size: 10px; font-weight: 600; text-anchor: middle; }
      .scroll { overflow-x: auto; } table { border-collapse: collapse; }
      td, th { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right;
        white-space: nowrap; } td:nth-child(2), th:nth-child(2) { text-align: left; }
      .key { display: inline-block; width: .8em; height: .8em; border-radius: 50%; }
      .key.exact { background: var(--exact); } .key.other { background: var(--other); }
      """;

  private final StringBuilder text = new StringBuilder();

  private Page() {}

  /** The whole page. */
  static String of(String model, int prompts, List<Outcome> outcomes) {
    Page page = new Page();
    page.line("<!DOCTYPE html>");
    page.line("<!-- SPDX-License-Identifier: Apache-2.0 -->");
    page.line("<html lang=\"en\"><head><meta charset=\"utf-8\">");
    page.line("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    page.line("<meta http-equiv=\"Content-Security-Policy\""
        + " content=\"default-src 'none'; style-src 'unsafe-inline'\">");
    page.line("<title>exeunt: speed against quality</title>");
    page.line("<style>\n" + STYLE + "</style></head><body>");
    page.line("<h1>Speed against quality: " + escaped(model) + "</h1>");
    page.line("<p>" + prompts + " prompts, answered greedily. " + escaped(Results.NOTES) + "</p>");
    page.line("<p><span class=\"key exact\"></span> the plain decoder's tokens, whatever the model "
        + "&nbsp; <span class=\"key other\"></span> others</p>");
    for (String group : outcomes.stream().map(Outcome::group).distinct().toList()) {
      List<Outcome> members = outcomes.stream().filter(o -> o.group().equals(group)).toList();
      page.line(
          "<h2>" + (group.isEmpty() ? "All prompts" : escaped("Prompts: " + group)) + "</h2>");
      page.plot(members);
      page.table(members);
    }
    page.line("</body></html>");
    return page.text.toString();
  }

  // ---- the plot

  /** An axis from {@code least} to {@code most}, marked at multiples of {@code step}. */
  private record Axis(double least, double most, double step) {
    static Axis over(double least, double most) {
      double rough = Math.max(most - least, 1e-6) / STEPS;
      double power = Math.pow(10, Math.floor(Math.log10(rough)));
      double step = power
          * (rough <= power            ? 1
                  : rough <= 2 * power ? 2
                  : rough <= 5 * power
                  ? 5
                  : 10);
      return new Axis(Math.floor(least / step) * step, Math.ceil(most / step) * step, step);
    }

    int marks() {
      return (int) Math.round((most - least) / step);
    }

    double share(double value) {
      return (value - least) / (most - least);
    }
  }

  private static double x(double share) {
    return LEFT + share * (WIDTH - LEFT - RIGHT);
  }

  private static double y(double share) {
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
  }

  private void plot(List<Outcome> outcomes) {
    double worst = outcomes.stream().mapToDouble(Outcome::agreement).min().orElse(0);
    double fastest =
        outcomes.stream().mapToDouble(Outcome::speed).filter(Double::isFinite).max().orElse(1);
    Axis across = Axis.over(Math.min(worst, 0.98) * 100, 100);
    Axis up = Axis.over(0, Math.max(fastest, 1));
    line("<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"speed against agreement\">", WIDTH,
        HEIGHT);
    for (int i = 0; i <= across.marks(); i++) {
      double at = x((double) i / across.marks());
      line("<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>", at, at, TOP,
          HEIGHT - BOTTOM);
      line("<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s %%</text>", at,
          HEIGHT - BOTTOM + 16, mark(across, i));
    }
    for (int i = 0; i <= up.marks(); i++) {
      double at = y((double) i / up.marks());
      line("<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT,
          WIDTH - RIGHT, at, at);
      line("<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s x</text>", LEFT - 8, at + 4,
          mark(up, i));
    }
    line("<text x=\"%d\" y=\"%d\" text-anchor=\"end\">tokens that are the plain decoder's</text>",
        WIDTH - RIGHT, HEIGHT - 8);
    line("<text x=\"%d\" y=\"%d\">speed</text>", LEFT + 4, TOP + 12);
    points(outcomes, across, up);
    line("</svg>");
  }

  private static String mark(Axis axis, int index) {
    double value = axis.least() + index * axis.step();
    return Results.format(axis.step() < 0.1 ? "%.2f" : axis.step() < 1 ? "%.1f" : "%.0f", value);
  }

  /** Points that would hide each other stand side by side, the one with less speed to the left. */
  private void points(List<Outcome> outcomes, Axis across, Axis up) {
    List<Integer> order = new ArrayList<>();
    for (int i = 0; i < outcomes.size(); i++) {
      if (Double.isFinite(outcomes.get(i).speed())) {
        order.add(i);
      }
    }
    order.sort(Comparator.comparingDouble(i -> - outcomes.get(i).speed()));
    List<double[]> placed = new ArrayList<>();
    for (int i : order) {
      Outcome o = outcomes.get(i);
      double cx = x(across.share(100 * o.agreement()));
      double cy = y(up.share(o.speed()));
      for (int other = 0; other < placed.size();) {
        double[] at = placed.get(other++);
        if (Math.hypot(at[0] - cx, at[1] - cy) < 2 * MARK) {
          cx -= 2 * MARK;
          other = 0;
        }
      }
      placed.add(new double[] {cx, cy});
      line(
          "<g><title>%s: %.2f x, %.1f %%</title><circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%d\"/>"
              + "<text class=\"number\" x=\"%.1f\" y=\"%.1f\">%d</text></g>",
          escaped(o.name()), o.speed(), 100 * o.agreement(), kind(o), cx, cy, MARK, cx, cy + 3.5,
          i + 1);
    }
  }

  private static String kind(Outcome outcome) {
    return outcome.exact() ? "exact" : "other";
  }

  // ---- the table

  private void table(List<Outcome> outcomes) {
    line("<div class=\"scroll\"><table><thead><tr><th></th><th>"
        + String.join("</th><th>", Results.COLUMNS) + "</th></tr></thead><tbody>");
    int number = 1;
    for (Outcome o : outcomes) {
      text.append(
          Results.format("<tr><td>%d <span class=\"key %s\"></span></td>", number++, kind(o)));
      for (String cell : Results.cells(o)) {
        text.append("<td>").append(escaped(cell)).append("</td>");
      }
      line("</tr>");
    }
    line("</tbody></table></div>");
  }

  private void line(String format, Object... arguments) {
    text.append(arguments.length == 0 ? format : Results.format(format, arguments)).append('\n');
  }

  private static String escaped(String text) {
    return text.replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
        .replace("\"", "&quot;");
  }
}
