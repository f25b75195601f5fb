// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.report;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/**
 * Curves and points over two axes, as a picture for a page. Each series has a colour, a shape and a
 * kind of line of its own, and its name in a legend beside the picture, where it covers nothing.
 */
public final class Chart {
  private static final int WIDTH = 560;
  private static final int HEIGHT = 340;
  private static final int LEFT = 84;
  private static final int RIGHT = 530;
  private static final int TOP = 14;
  private static final int BOTTOM = 276;
  private static final double DOT = 4.5; // half the width of a point
  private static final double SMALL_DOT = 2.5; // on a curve of many
  private static final int MANY = 14;
  /** Of points whose logarithm is asked for: what is less is shown as this. */
  private static final double LEAST = 1e-8;
  /** Around the origin, one unit from it. */
  private static final String[] SHAPES = {"M-1 0a1 1 0 1 0 2 0a1 1 0 1 0-2 0z",
      "M-.9-.9H.9V.9H-.9z", "M0-1.2L1.1.8H-1.1z", "M0-1.3L1.3 0L0 1.3L-1.3 0z",
      "M0 1.2L1.1-.8H-1.1z", "M-1.2-.4H-.4V-1.2H.4V-.4H1.2V.4H.4V1.2H-.4V.4H-1.2z"};
  private static final String[] DASHES = {"none", "7 3", "2 3", "9 3 2 3", "4 2", "12 4"};
  static final int COLOURS = 6;

  private final String title;
  private final String across;
  private final String up;
  private final boolean powers;
  private final List<Series> all = new ArrayList<>();

  private record Point(double x, double y, String name) {}

  private record Series(String name, boolean joined, List<Point> points) {}

  private Chart(String title, String across, String up, boolean powers) {
    this.title = title;
    this.across = across;
    this.up = up;
    this.powers = powers;
  }

  /**
   * An empty chart.
   *
   * @param title what it shows, in a sentence
   * @param across what the lower axis counts
   * @param up what the other one counts
   */
  public static Chart of(String title, String across, String up) {
    return new Chart(title, across, up, false);
  }

  /** One whose upward axis has a power of ten for each mark; what is not above 0 lies at its foot. */
  public static Chart ofPowers(String title, String across, String up) {
    return new Chart(title, across, up, true);
  }

  /** Begins a series, whose points are joined in their order if {@code joined}. */
  public Chart series(String name, boolean joined) {
    all.add(new Series(name, joined, new ArrayList<>()));
    return this;
  }

  /** Adds a point to the series begun last; one that has no place is left out. */
  public Chart point(double x, double y, String name) {
    double height = powers ? Math.max(y, LEAST) : y;
    if (Double.isFinite(x) && Double.isFinite(height)) {
      all.get(all.size() - 1).points.add(new Point(x, height, name));
    }
    return this;
  }

  /** The figure with its legend. */
  String toHtml() {
    List<Point> points = all.stream().flatMap(series -> series.points.stream()).toList();
    StringBuilder html = new StringBuilder("<figure>\n");
    html.append("<figcaption>").append(Html.escaped(title)).append("</figcaption>\n");
    if (points.isEmpty()) {
      return html.append("<p>There is nothing to plot.</p>\n</figure>\n").toString();
    }
    Axis x = Axis.over(points.stream().mapToDouble(Point::x).min().orElse(0),
        points.stream().mapToDouble(Point::x).max().orElse(1));
    double least = points.stream().mapToDouble(Point::y).min().orElse(0);
    double most = points.stream().mapToDouble(Point::y).max().orElse(1);
    Axis y = powers ? Axis.overPowers(least, most) : Axis.over(least, most);
    line(html, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\">", WIDTH, HEIGHT,
        Html.escaped(title));
    axes(html, x, y);
    for (int s = 0; s < all.size(); s++) {
      draw(html, s, x, y);
    }
    html.append("</svg>\n<p class=\"keys\">");
    for (int s = 0; s < all.size(); s++) {
      key(html, s);
    }
    return html.append("</p>\n</figure>\n").toString();
  }

  private void axes(StringBuilder html, Axis x, Axis y) {
    for (int i = 0; i <= x.marks(); i++) {
      double at = LEFT + (RIGHT - LEFT) * (double) i / x.marks();
      line(html,
          "<g class=\"across\"><path class=\"grid\" d=\"M%.1f %dV%d\"/>"
              + "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text></g>",
          at, TOP, BOTTOM, at, BOTTOM + 22, x.mark(i));
    }
    for (int i = 0; i <= y.marks(); i++) {
      double at = BOTTOM - (BOTTOM - TOP) * (double) i / y.marks();
      line(html,
          "<g class=\"up\"><path class=\"grid\" d=\"M%d %.1fH%d\"/>"
              + "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text></g>",
          LEFT, at, RIGHT, LEFT - 6, at + 4, y.mark(i));
    }
    line(html, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s &#8594;</text>",
        (LEFT + RIGHT) / 2, HEIGHT - 14, Html.escaped(across));
    line(html,
        "<text transform=\"translate(18 %d) rotate(-90)\" text-anchor=\"middle\">%s"
            + " &#8594;</text>",
        (TOP + BOTTOM) / 2, Html.escaped(up));
  }

  private void draw(StringBuilder html, int s, Axis x, Axis y) {
    Series series = all.get(s);
    line(html, "<g class=\"series s%d\">", s % COLOURS);
    if (series.joined && series.points.size() > 1) {
      StringBuilder path = new StringBuilder();
      for (Point p : series.points) {
        path.append(String.format(
            Locale.ROOT, "%s%.1f %.1f", path.length() == 0 ? "M" : "L", left(x, p), top(y, p)));
      }
      line(html, "<path class=\"curve\" stroke-dasharray=\"%s\" d=\"%s\"/>",
          DASHES[s % DASHES.length], path);
    }
    for (Point p : series.points) {
      line(html,
          "<path class=\"dot\" transform=\"translate(%.1f %.1f) scale(%.1f)\" d=\"%s\">"
              + "<title>%s</title></path>",
          left(x, p), top(y, p), series.joined && series.points.size() > MANY ? SMALL_DOT : DOT,
          shape(s), Html.escaped(series.name + ": " + p.name));
    }
    html.append("</g>\n");
  }

  private void key(StringBuilder html, int s) {
    Series series = all.get(s);
    html.append("<span class=\"s").append(s % COLOURS).append("\">");
    html.append("<svg class=\"key\" viewBox=\"-15 -6 30 12\" aria-hidden=\"true\">");
    if (series.joined) {
      html.append("<path class=\"curve\" d=\"M-15 0H15\" stroke-dasharray=\"")
          .append(DASHES[s % DASHES.length])
          .append("\"/>");
    }
    html.append("<path class=\"mark\" transform=\"scale(4)\" d=\"")
        .append(shape(s))
        .append("\"/></svg> ")
        .append(Html.escaped(series.name))
        .append("</span>\n");
  }

  /** Where the colours begin again, the shapes are others. */
  private static String shape(int s) {
    return SHAPES[(s + s / COLOURS) % SHAPES.length];
  }

  private static double left(Axis x, Point p) {
    return LEFT + (RIGHT - LEFT) * x.share(p.x);
  }

  private static double top(Axis y, Point p) {
    return BOTTOM - (BOTTOM - TOP) * y.share(p.y);
  }

  private static void line(StringBuilder html, String format, Object... arguments) {
    html.append(String.format(Locale.ROOT, format, arguments)).append('\n');
  }
}
