// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.OptionalDouble;
import java.util.function.Function;
import java.util.function.Predicate;
import java.util.function.ToDoubleFunction;
import org.exeunt.bench.measure.Operands;

/**
 * Operations for each byte against operations for each second, under the limits that the run has
 * measured. Two logarithmic scales; a picture for each count of threads.
 */
final class Roofline {
  private static final int WIDTH = 520;
  private static final int HEIGHT = 360;
  private static final int LEFT = 66;
  private static final int RIGHT = WIDTH - 24; // half of the last number is beyond
  private static final int TOP = 14;
  private static final int BOTTOM = HEIGHT - 54;
  /** Where the name of a slope may stand along it, the best place first. */
  private static final double[] PARTS = {.6, .45, .75, .3, .9, .15, .53, .68, .38, .83, .23, .08};

  private final List<Figure> figures;
  private final Function<String, String> colour;
  private final Function<String, String> named;
  private StringBuilder text;
  private List<Point> points;
  private double leastX;
  private double mostX;
  private double leastY;
  private double mostY;

  /** Of the figures, what loops; those whose multiply-adds are counted have a point. */
  Roofline(List<Figure> figures, Function<String, String> colour, Function<String, String> named) {
    this.figures = figures.stream().filter(Figure::loops).toList();
    this.colour = colour;
    this.named = named;
  }

  /** Where a contender is: what the op does for each byte, and how fast it did it. */
  private record Point(Figure figure, double intensity, double speed, double roof) {
    String told(String contender) {
      return String.format(Locale.ROOT,
          "%s %s/%s, %s: %.3g operations a byte, %.3g GFLOP/s, %.0f %% of the roof", contender,
          figure.op, figure.id, figure.operands.words(), intensity, speed, 100 * speed / roof);
    }
  }

  /** Appends the section; nothing if no case has a point. */
  void render(StringBuilder page) {
    text = page;
    List<Integer> counts =
        figures.stream().filter(f -> f.multiplyAdds > 0).map(f -> f.threads).distinct().toList();
    if (counts.isEmpty()) {
      return;
    }
    line("<section><h2>Roofline</h2><p>Cases whose multiply-adds are counted. Filled: operands in"
        + " the cache, hollow: from memory. The limits were measured in this run.</p>"
        + "<div class=\"rooflines\">");
    counts.stream().sorted().forEach(this::picture);
    line("</div></section>");
  }

  private void picture(int threads) {
    List<Figure> own = figures.stream().filter(f -> f.threads == threads).toList();
    points = own.stream().flatMap(f -> point(own, f).stream()).toList();
    OptionalDouble peak = median(own, f -> f.multiplyAdds > 0, Roofline::peak);
    OptionalDouble memory =
        median(own, f -> f.operands == Operands.MEMORY && reads(f), Roofline::bandwidth);
    // The nearest cache has the highest.
    OptionalDouble cache =
        own.stream()
            .filter(f -> f.operands == Operands.CACHE && reads(f))
            .mapToDouble(Roofline::bandwidth)
            .max();
    leastX = decade(points.stream().mapToDouble(Point::intensity).min().getAsDouble(), false);
    mostX = decade(points.stream().mapToDouble(Point::intensity).max().getAsDouble(), true);
    leastY = decade(points.stream().mapToDouble(Point::speed).min().getAsDouble(), false);
    mostY = decade(
        Math.max(peak.getAsDouble(), points.stream().mapToDouble(Point::speed).max().getAsDouble()),
        true);
    String title = threads + (threads == 1 ? " thread" : " threads");
    String limits = String.format(Locale.ROOT, "FMA peak %.0f GFLOP/s", peak.getAsDouble())
        + speed("cache", cache) + speed("memory", memory);
    line("<figure><figcaption>%s <small>%s</small></figcaption><svg viewBox=\"0 0 %d %d\""
            + " role=\"img\" aria-label=\"Roofline, %s: %s\">",
        title, limits, WIDTH, HEIGHT, title, limits);
    axes();
    // exeunt comes last, to lie on top; but for the names of the limits.
    points.stream().sorted(Comparator.comparing(p -> p.figure.ours())).forEach(this::dot);
    cache.ifPresent(bandwidth -> slope(bandwidth, peak.getAsDouble(), "cache", true));
    memory.ifPresent(bandwidth -> slope(bandwidth, peak.getAsDouble(), "memory", false));
    double roof = y(peak.getAsDouble());
    line("<path class=\"roof\" d=\"M%d %.1fH%d\"/>", LEFT, roof, RIGHT);
    Label right = new Label(RIGHT - 4, roof - 6, "end", "FMA peak");
    Label below = new Label(RIGHT - 4, roof + 20, "end", "FMA peak");
    name(hidden(below) < hidden(right) ? below : right);
    line("</svg><details><summary>as a table</summary><table><tr><th>case</th><th></th>"
        + "<th>op/B</th><th>GFLOP/s</th><th>of the roof</th></tr>");
    points.forEach(p
        -> line("<tr><td>%s/%s %s</td><td>%s</td><td>%.3g</td><td>%.3g</td><td>%.0f %%</td></tr>",
            p.figure.op, p.figure.id, p.figure.operands.words(), named.apply(p.figure.contender),
            p.intensity, p.speed, 100 * p.speed / p.roof));
    line("</table></details></figure>");
  }

  /** Peers are where exeunt is, as they do the same. */
  private static List<Point> point(List<Figure> own, Figure figure) {
    return own.stream()
        .filter(f -> f.sameCase(figure) && f.multiplyAdds > 0 && f.bytes > 0)
        .limit(1)
        .map(f
            -> new Point(figure, 2 * f.multiplyAdds / f.bytes,
                2 * f.multiplyAdds / figure.p50 / 1e3,
                2 * f.multiplyAdds / Math.max(f.limitP50, f.arithmeticP50) / 1e3))
        .toList();
  }

  private static boolean reads(Figure figure) {
    return figure.hasLimit() && figure.limit.equals("read");
  }

  private static double bandwidth(Figure figure) {
    return figure.bytes / figure.limitP50 / 1e3;
  }

  private static double peak(Figure figure) {
    return 2 * figure.multiplyAdds / figure.arithmeticP50 / 1e3;
  }

  private static OptionalDouble median(
      List<Figure> figures, Predicate<Figure> which, ToDoubleFunction<Figure> value) {
    double[] values = figures.stream().filter(which).mapToDouble(value).sorted().toArray();
    return values.length == 0
        ? OptionalDouble.empty()
        : OptionalDouble.of(values[values.length / 2]);
  }

  /** A limit of bandwidth, from the left to where it meets the peak. */
  private void slope(double bandwidth, double peak, String where, boolean above) {
    double from = Math.max(leastX, leastY / bandwidth);
    double to = Math.min(mostX, peak / bandwidth);
    if (from >= to) {
      return;
    }
    line("<path class=\"roof\" d=\"M%.1f %.1fL%.1f %.1f\"/>", x(from), y(from * bandwidth), x(to),
        y(to * bandwidth));
    // Its name stands on its free side, the nearest cache's above it, memory's below, and where it
    // hides the fewest points; on the other side if that hides fewer.
    Label best = null;
    for (boolean side : new boolean[] {above, !above}) {
      for (double part : PARTS) {
        double at = Math.pow(10, Math.log10(from) + part * (Math.log10(to) - Math.log10(from)));
        Label label = side
            ? new Label(Math.max(LEFT + 12 * where.length(), x(at) - 8), y(at * bandwidth) - 4,
                  "end", where)
            : new Label(x(at) + 10, y(at * bandwidth) + 14, "start", where);
        best = best == null || hidden(label) < hidden(best) ? label : best;
      }
    }
    name(best);
  }

  /** A text in the picture. */
  private record Label(double x, double y, String anchor, String words) {
    boolean hides(double pointX, double pointY) {
      double width = 12 * words.length(); // on a telephone
      double left = anchor.equals("end") ? x - width : x;
      return pointX > left - 6 && pointX < left + width + 6 && pointY > y - 20 && pointY < y + 8;
    }
  }

  private long hidden(Label label) {
    return points.stream().filter(p -> label.hides(x(p.intensity), y(p.speed))).count();
  }

  private void name(Label label) {
    line("<text class=\"halo\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>", label.x,
        label.y, label.anchor, label.words);
  }

  private static String speed(String where, OptionalDouble bandwidth) {
    return bandwidth.isEmpty()
        ? ""
        : String.format(Locale.ROOT, ", %s %.0f GB/s", where, bandwidth.getAsDouble());
  }

  private void axes() {
    for (double x = leastX; x <= mostX * 1.01; x *= 10) {
      line("<path class=\"grid\" d=\"M%.1f %dV%d\"/><text x=\"%.1f\" y=\"%d\""
              + " text-anchor=\"middle\">%s</text>",
          x(x), TOP, BOTTOM, x(x), BOTTOM + 23, number(x));
    }
    for (double y = leastY; y <= mostY * 1.01; y *= 10) {
      line("<path class=\"grid\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\""
              + " text-anchor=\"end\">%s</text>",
          LEFT, y(y), RIGHT, LEFT - 6, y(y) + 4, number(y));
    }
    line("<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">operations for each byte</text>",
        (LEFT + RIGHT) / 2, HEIGHT - 6);
    line("<text transform=\"translate(16 %d) rotate(-90)\" text-anchor=\"middle\">GFLOP/s</text>",
        (TOP + BOTTOM) / 2);
  }

  private void dot(Point point) {
    String own = colour.apply(point.figure.contender);
    line("<circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"5\" style=\"stroke:%s%s\">"
            + "<title>%s</title></circle>",
        x(point.intensity), y(point.speed), own,
        point.figure.operands == Operands.MEMORY ? "" : ";fill:" + own,
        point.told(named.apply(point.figure.contender)));
  }

  private double x(double value) {
    return LEFT
        + (RIGHT - LEFT) * (Math.log10(value) - Math.log10(leastX))
        / (Math.log10(mostX) - Math.log10(leastX));
  }

  private double y(double value) {
    return BOTTOM
        - (BOTTOM - TOP) * (Math.log10(value) - Math.log10(leastY))
        / (Math.log10(mostY) - Math.log10(leastY));
  }

  /** The power of ten beyond a value. */
  private static double decade(double value, boolean up) {
    double exponent = Math.log10(value);
    return Math.pow(10, up ? Math.floor(exponent) + 1 : Math.ceil(exponent) - 1);
  }

  private static String number(double decade) {
    return decade >= 1 ? String.format(Locale.ROOT, "%.0f", decade)
        : decade > 0.009
        ? String.format(Locale.ROOT, "%.2f", decade).replaceAll("0$", "")
        : "1e" + Math.round(Math.log10(decade));
  }

  private void line(String format, Object... arguments) {
    text.append(String.format(Locale.ROOT, format, arguments)).append('\n');
  }
}
