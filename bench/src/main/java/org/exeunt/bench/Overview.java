// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.exeunt.bench.measure.Interval;

/**
 * Every op in one picture: on the left which share of the limit its cases reach, on the right how
 * many times as fast as the best peer they are, each with the interval that its turns cover.
 */
final class Overview {
  /** One case of an op; an interval is null where there is no limit, or no peer. */
  record Case(String told, Interval share, Interval lead) {}

  private static final int WIDTH = 520;
  private static final int TOP = 44;
  private static final int ROW = 24;
  private static final int SHARES = 168;
  private static final int LEADS = 350;
  private static final int PANEL = 150;
  /** More ops than these stand in two pictures, beside each other where there is room. */
  private static final int FEW = 12;

  /** The left scale ends here; a share beyond stands at its end and is told in figures. */
  private static final double MOST_SHARE = 1.25;
  /** Powers of two at the ends of the right scale. */
  private static final int SLOWEST = -2;
  private static final int FASTEST = 6;

  private final StringBuilder text;

  private Overview(StringBuilder text) {
    this.text = text;
  }

  /** Appends the section; nothing if no op has a case with a limit or a peer. */
  static void render(StringBuilder page, Map<String, List<Case>> ops) {
    if (!ops.isEmpty()) {
      new Overview(page).render(ops);
    }
  }

  private void render(Map<String, List<Case>> ops) {
    line("<section><h2>Every op</h2><p>A dot is a case, and its line the interval of the median."
        + " Left: share of the limit, filled within 10&nbsp;%% of it. Right: times the speed of the"
        + " best peer, filled where none is faster; a case without a peer has no dot there. What is"
        + " beyond a scale stands at its end.</p><div class=\"rooflines\">");
    List<Map.Entry<String, List<Case>>> all = List.copyOf(ops.entrySet());
    int half = all.size() > FEW ? (all.size() + 1) / 2 : all.size();
    for (int from = 0; from < all.size(); from += half) {
      picture(all.subList(from, Math.min(from + half, all.size())));
    }
    line("</div></section>");
  }

  private void picture(List<Map.Entry<String, List<Case>>> ops) {
    int height = TOP + ROW * ops.size() + 8;
    line("<svg class=\"overview\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s to %s: share"
            + " of the limit, and times the best peer\">",
        WIDTH, height, Page.escaped(ops.get(0).getKey()),
        Page.escaped(ops.get(ops.size() - 1).getKey()));
    for (int percent : new int[] {0, 50, 100}) {
      grid(share(percent / 100.0), height, percent + " %", percent == 100);
    }
    for (int power = SLOWEST; power <= FASTEST; power += 2) {
      grid(lead(Math.pow(2, power)), height, power < 0 ? "1/" + (1 << -power) : "" + (1 << power),
          power == 0);
    }
    line("<text x=\"%d\" y=\"16\" text-anchor=\"middle\">of the limit</text>", SHARES + PANEL / 2);
    line("<text x=\"%d\" y=\"16\" text-anchor=\"middle\">x best peer</text>", LEADS + PANEL / 2);
    int y = TOP + ROW / 2;
    for (Map.Entry<String, List<Case>> op : ops) {
      line("<a href=\"#%s\"><text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text></a>",
          Page.escaped(op.getKey()), SHARES - 14, y + 5, Page.escaped(op.getKey()));
      for (Case one : op.getValue()) {
        row(y, one);
      }
      y += ROW;
    }
    line("</svg>");
  }

  private void row(int y, Case one) {
    if (one.share != null) {
      dot(y, share(one.share.low()), share(one.share.middle()), share(one.share.high()),
          one.share.middle() >= 0.9,
          String.format(Locale.ROOT, "%s: %.0f %% of the limit (%.0f to %.0f)", one.told,
              100 * one.share.middle(), 100 * one.share.low(), 100 * one.share.high()));
    }
    if (one.lead != null) {
      dot(y, lead(one.lead.low()), lead(one.lead.middle()), lead(one.lead.high()),
          one.lead.middle() >= 1,
          String.format(Locale.ROOT, "%s: %.2f times the best peer's speed (%.2f to %.2f)",
              one.told, one.lead.middle(), one.lead.low(), one.lead.high()));
    }
  }

  private void grid(double x, int height, String label, boolean goal) {
    line("<path class=\"%s\" d=\"M%.1f %dV%d\"/><text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s"
            + "</text>",
        goal ? "roof" : "grid", x, TOP, height, x, TOP - 8, label);
  }

  private void dot(int y, double low, double middle, double high, boolean good, String told) {
    line("<path class=\"whisker\" d=\"M%.1f %dH%.1f\"/><circle class=\"dot%s\" cx=\"%.1f\""
            + " cy=\"%d\" r=\"4\"><title>%s</title></circle>",
        low, y, high, good ? " good" : "", middle, y, Page.escaped(told));
  }

  private static double share(double value) {
    return SHARES + PANEL * Math.min(value, MOST_SHARE) / MOST_SHARE;
  }

  private static double lead(double value) {
    double power = Math.log(value) / Math.log(2);
    double at = Math.max(SLOWEST, Math.min(FASTEST, power));
    return LEADS + PANEL * (at - SLOWEST) / (FASTEST - SLOWEST);
  }

  private void line(String format, Object... arguments) {
    text.append(String.format(Locale.ROOT, format, arguments)).append('\n');
  }
}
