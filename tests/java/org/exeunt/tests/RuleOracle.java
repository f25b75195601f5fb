// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.Arrays;
import org.exeunt.ExitRule.Comparator;
import org.exeunt.ExitRule.Decay;
import org.exeunt.ExitRule.Rows;

/**
 * The exit rules' state machine in the contract's arithmetic, f32. Where the deciding quantity lies
 * within {@link #BAND} (relative) of the threshold but not on it, another exp or a fused product
 * may tip it: the oracle then follows what was observed and counts a hit.
 */
final class RuleOracle {
  private static final double BAND = 1e-6;

  private enum Verdict {
    STAY,
    LEAVE,
    EITHER
  }

  private static final class Row {
    boolean left;
    int exitLayer = -1;
    int calls;
    int counter;
    boolean hasPrevious;
    int previousLabel;
    float previousScore;
    float product = 1;
    float sum;
  }

  private final String rule;
  private final Comparator comparator;
  private final Decay decay;
  private final Rows scope;
  private final float threshold;
  private final float tau;
  private final float horizon;
  private final int patience;
  private final int minSteps;
  private final int maxSteps;
  private final Row[] rows;
  private int decisions;
  private int bandHits;

  RuleOracle(CaseRow c, int count) {
    rule = c.text("rule");
    comparator = c.choice("comparator", Comparator.class);
    decay = c.choice("decay", Decay.class);
    scope = c.choice("scope", Rows.class);
    threshold = c.number("threshold");
    tau = c.number("tau");
    horizon = c.number("horizon");
    patience = c.int32("patience");
    minSteps = c.int32("min_steps");
    maxSteps = c.int32("max_steps");
    rows = new Row[count];
  }

  /** Takes one call and compares the observed mask. */
  void step(
      ExitRuleTest.Inputs in, int stepIndex, int layer, boolean force, int[] mask, String where) {
    if (layer == 0) {
      Arrays.setAll(rows, r -> new Row());
    }
    Verdict[] verdicts = new Verdict[rows.length];
    for (int r = 0; r < rows.length; r++) {
      verdicts[r] = rows[r].left ? Verdict.STAY : verdict(in, r, stepIndex);
    }
    Verdict[] outcomes = new Verdict[rows.length];
    for (int r = 0; r < rows.length; r++) {
      boolean valid = in.valid == null || in.valid[r] != 0;
      outcomes[r] = rows[r].left || !valid ? Verdict.STAY : scoped(verdicts, r);
      if (force && !rows[r].left) {
        outcomes[r] = Verdict.LEAVE;
      }
    }
    for (int r = 0; r < rows.length; r++) {
      decide(r, outcomes[r], mask[r], layer, where);
    }
  }

  private void decide(int r, Verdict outcome, int observed, int layer, String where) {
    decisions++;
    if (outcome == Verdict.EITHER) {
      bandHits++;
    } else {
      assertEquals(outcome == Verdict.LEAVE ? 1 : 0, observed, where + ", mask of row " + r);
    }
    if (observed == 1) {
      rows[r].left = true;
      rows[r].exitLayer = layer;
    }
  }

  private Verdict scoped(Verdict[] verdicts, int row) {
    int last = rows.length - 1;
    switch (scope) {
      case EACH:
        return verdicts[row];
      case LAST:
        return rows[last].left ? Verdict.STAY : verdicts[last];
      default:
        Verdict all = Verdict.LEAVE;
        for (int r = 0; r < rows.length; r++) {
          if (rows[r].left || verdicts[r] == Verdict.LEAVE) {
            continue;
          }
          if (verdicts[r] == Verdict.STAY) {
            return Verdict.STAY;
          }
          all = Verdict.EITHER;
        }
        return all;
    }
  }

  private Verdict verdict(ExitRuleTest.Inputs in, int r, int stepIndex) {
    boolean valid = in.valid == null || in.valid[r] != 0;
    if (!valid || in.score != null && Float.isNaN(in.score[r])) {
      return Verdict.STAY;
    }
    float score = in.score == null ? 0 : in.score[r];
    Row s = rows[r];
    switch (rule) {
      case "threshold":
        int t = in.step == null ? stepIndex : in.step[r];
        return against(score, comparator, decayed(t), decay == Decay.NONE ? 0 : BAND);
      case "patience":
        return patience(s, in.label == null ? null : in.label[r], score);
      case "quantile":
        s.product *= 1 - score;
        return against(1 - s.product, Comparator.GT, threshold, BAND);
      case "jei":
        return jei(s, score);
      default:
        return specDec(s, score);
    }
  }

  private float decayed(int t) {
    float fade = (float) Math.exp(-tau * (float) t / horizon);
    switch (decay) {
      case CALM_CODE:
        return 0.9f * threshold + 0.1f * threshold * fade;
      case CALM_PAPER:
        return Math.min(1, Math.max(0, 0.9f * threshold + 0.1f * fade));
      default:
        return threshold;
    }
  }

  private static Verdict against(float value, Comparator how, float threshold, double band) {
    double distance = Math.abs((double) value - threshold);
    if (distance > 0 && distance <= band * Math.abs(threshold)) {
      return Verdict.EITHER;
    }
    boolean leave =
        how == Comparator.GE
            ? value >= threshold
            : how == Comparator.GT ? value > threshold : value <= threshold;
    return leave ? Verdict.LEAVE : Verdict.STAY;
  }

  private Verdict patience(Row s, Integer label, float score) {
    boolean same = s.hasPrevious;
    if (label != null) {
      same &= label == s.previousLabel;
      s.previousLabel = label;
    } else {
      same &= Math.abs(score - s.previousScore) < threshold;
      s.previousScore = score;
    }
    s.hasPrevious = true;
    s.counter = same ? s.counter + 1 : 0;
    return patience > 0 && s.counter >= patience ? Verdict.LEAVE : Verdict.STAY;
  }

  private Verdict jei(Row s, float g) {
    float p = Math.max(0, Math.min(g, 1 - s.sum));
    float a = s.product > 0 ? Math.min(1, Math.max(0, p / s.product)) : 1;
    // p and the product come from differences to 1: the smaller the rest, the larger their relative
    // error.
    double band = s.product > 0 ? BAND * (1 + 1 / (double) s.product) : 0;
    s.sum += g;
    s.product *= 1 - a;
    return against(a, Comparator.GE, threshold, band);
  }

  private Verdict specDec(Row s, float p) {
    s.calls++;
    if (s.calls > 1) {
      s.product *= p;
    }
    if (maxSteps > 0 && s.calls >= maxSteps) {
      return Verdict.LEAVE;
    }
    return s.calls < minSteps
        ? Verdict.STAY
        : against(1 - s.product, Comparator.GT, threshold, BAND);
  }

  int[] activeList() {
    int[] list = new int[rows.length];
    Arrays.fill(list, -1);
    int n = 0;
    for (int r = 0; r < rows.length; r++) {
      if (!rows[r].left) {
        list[n++] = r;
      }
    }
    return list;
  }

  int activeCount() {
    return (int) Arrays.stream(rows).filter(row -> !row.left).count();
  }

  int[] exitLayer() {
    return Arrays.stream(rows).mapToInt(row -> row.exitLayer).toArray();
  }

  void report(String id) {
    if (bandHits > 0) {
      System.out.println(
          "exit_rule " + id + ": " + bandHits + " of " + decisions + " decisions in the band");
    }
  }
}
