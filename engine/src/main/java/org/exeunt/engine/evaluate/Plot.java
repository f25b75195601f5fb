// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.evaluate;

import java.util.ArrayList;
import java.util.List;
import org.exeunt.engine.report.Axis;
import org.exeunt.engine.report.Html;

/**
 * Speed against agreement, as a picture for a page: up is faster, right is better. Each point has its
 * method's name, and its 95 % interval as a line.
 */
final class Plot {
  private static final int WIDTH = 560;
  private static final int HEIGHT = 460;
  private static final int LEFT = 84;
  private static final int RIGHT = 490;
  private static final int TOP = 14;
  private static final int BOTTOM = 396;
  private static final int DOT = 5;
  // What a name takes at the larger of the sizes it is shown in.
  private static final double CHARACTER_WIDTH = 9.2;
  private static final double LABEL_HEIGHT = 20;
  private static final int LABEL_LENGTH = 20;
  private static final int FURTHEST = 330;

  private final List<Outcome> outcomes;
  private final StringBuilder text;
  private final Axis across;
  private final Axis up;
  private final List<Box> taken = new ArrayList<>();

  /** A rectangle around a point. */
  private record Box(double x, double y, double width, double height) {
    boolean meets(Box other) {
      return Math.abs(x - other.x) < (width + other.width) / 2
          && Math.abs(y - other.y) < (height + other.height) / 2;
    }

    boolean isInside() {
      return x - width / 2 > LEFT + 2 && x + width / 2 < WIDTH - 2 && y - height / 2 > TOP
          && y + height / 2 < BOTTOM;
    }
  }

  private Plot(List<Outcome> outcomes, StringBuilder text) {
    this.outcomes = outcomes;
    this.text = text;
    List<Outcome> placed = outcomes.stream().filter(Outcome::hasPlace).toList();
    double worst = placed.stream().mapToDouble(Outcome::agreement).min().orElse(1);
    double slowest = placed.stream().mapToDouble(Plot::low).min().orElse(1);
    double fastest = placed.stream().mapToDouble(Plot::high).max().orElse(1);
    across = Axis.over(Math.min(worst, 0.98) * 100, 100);
    up = Axis.over(Math.min(slowest, 0.95), Math.max(fastest, 1.05));
  }

  /** Appends the picture of those outcomes that have a place. */
  static void append(List<Outcome> outcomes, StringBuilder text) {
    new Plot(outcomes, text).render();
  }

  private void render() {
    line("<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"speed against agreement\">", WIDTH,
        HEIGHT);
    for (int i = 0; i <= across.marks(); i++) {
      double at = LEFT + (RIGHT - LEFT) * (double) i / across.marks();
      line("<g class=\"across\"><path class=\"grid\" d=\"M%.1f %dV%d\"/>"
              + "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s %%</text></g>",
          at, TOP, BOTTOM, at, BOTTOM + 22, across.mark(i));
    }
    for (int i = 0; i <= up.marks(); i++) {
      double at = BOTTOM - (BOTTOM - TOP) * (double) i / up.marks();
      line("<g class=\"up\"><path class=\"grid\" d=\"M%d %.1fH%d\"/>"
              + "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s x</text></g>",
          LEFT, at, RIGHT, LEFT - 6, at + 4, up.mark(i));
    }
    line("<path class=\"one\" d=\"M%d %.1fH%d\"><title>the plain decoder's speed</title></path>",
        LEFT, y(1), RIGHT);
    line("<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">agreement: tokens as the plain"
            + " decoder's &#8594;</text>",
        (LEFT + RIGHT) / 2, HEIGHT - 16);
    line("<text transform=\"translate(18 %d) rotate(-90)\" text-anchor=\"middle\">speed, times the"
            + " plain decoder's &#8594;</text>",
        (TOP + BOTTOM) / 2);
    for (Outcome o : outcomes) {
      if (o.hasPlace()) {
        taken.add(new Box(x(o), y(o.speed().ratio()), 2 * DOT, 2 * DOT));
      }
    }
    outcomes.stream().filter(Outcome::hasPlace).forEach(this::label);
    outcomes.stream().filter(Outcome::hasPlace).forEach(this::dot);
    line("</svg>");
  }

  /** A circle for what changes no answer, a square for what does. */
  private void dot(Outcome o) {
    double x = x(o);
    double y = y(o.speed().ratio());
    String title = "<title>" + told(o) + "</title>";
    if (o.speed().hasInterval()) {
      line("<path class=\"interval %s\" d=\"M%.1f %.1fV%.1f\"/>", Page.styled(o), x, y(low(o)),
          y(high(o)));
    }
    if (o.kind().exact()) {
      line("<circle class=\"dot %s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%d\">%s</circle>", Page.styled(o),
          x, y, DOT, title);
    } else {
      line("<rect class=\"dot %s\" x=\"%.1f\" y=\"%.1f\" width=\"%d\" height=\"%d\">%s</rect>",
          Page.styled(o), x - DOT + 0.5, y - DOT + 0.5, 2 * DOT - 1, 2 * DOT - 1, title);
    }
  }

  private static String told(Outcome o) {
    return Html.escaped(o.name())
        + Results.format(": %.2f x, %.1f %%", o.speed().ratio(), 100 * o.agreement());
  }

  /** The least speed that a point or its interval shows. */
  private static double low(Outcome o) {
    return o.speed().hasInterval()
        ? Math.min(o.speed().low(), o.speed().ratio())
        : o.speed().ratio();
  }

  private static double high(Outcome o) {
    return o.speed().hasInterval()
        ? Math.max(o.speed().high(), o.speed().ratio())
        : o.speed().ratio();
  }

  /** A method's name, without its middle where it is long: the ends are what differs. */
  static String shortened(String name) {
    int[] points = name.codePoints().toArray();
    if (points.length <= LABEL_LENGTH) {
      return name;
    }
    int tail = (LABEL_LENGTH - 1) / 2;
    int head = LABEL_LENGTH - 1 - tail;
    return new String(points, 0, head) + "\u2026" + new String(points, points.length - tail, tail);
  }

  /** Stands as near to its dot as there is room, joined by a line. */
  private void label(Outcome o) {
    double x = x(o);
    double y = y(o.speed().ratio());
    String name = shortened(o.name());
    double width = CHARACTER_WIDTH * name.codePointCount(0, name.length());
    Box place = new Box(x, y, 0, 0);
  search:
    for (int far = 10; far <= FURTHEST; far += 5) {
      for (int angle = 0; angle < 360; angle += 15) {
        double aside = Math.cos(Math.toRadians(angle));
        Box box = new Box(x + far * aside + width / 2 * aside,
            y - far * Math.sin(Math.toRadians(angle)), width, LABEL_HEIGHT);
        if (box.isInside() && taken.stream().noneMatch(box::meets)) {
          place = box;
          break search;
        }
      }
    }
    taken.add(place);
    // The text begins, or ends, where the line does.
    double left = place.x - place.width / 2;
    double right = place.x + place.width / 2;
    double near = Math.max(left, Math.min(x, right));
    String anchor = near == left ? "start" : near == right ? "end" : "middle";
    line("<path class=\"leader\" d=\"M%.1f %.1fL%.1f %.1f\"/>", x, y, near, place.y);
    line("<text class=\"name\" text-anchor=\"%s\" x=\"%.1f\" y=\"%.1f\"><title>%s</title>%s</text>",
        anchor, anchor.equals("middle") ? place.x : near, place.y + 4.5, told(o),
        Html.escaped(name));
  }

  private double x(Outcome o) {
    return LEFT + (RIGHT - LEFT) * across.share(100 * o.agreement());
  }

  private double y(double speed) {
    return BOTTOM - (BOTTOM - TOP) * up.share(speed);
  }

  private void line(String format, Object... arguments) {
    text.append(Results.format(format, arguments)).append('\n');
  }
}
