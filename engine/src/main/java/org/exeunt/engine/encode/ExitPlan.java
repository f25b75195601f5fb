// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.encode;

import static org.exeunt.ExitRule.Comparator.GE;
import static org.exeunt.ExitRule.Comparator.GT;

import java.io.Serializable;
import java.util.ArrayList;
import java.util.List;
import org.exeunt.ExitRule;

/**
 * When a sentence leaves the encoder.
 *
 * @param kind the rule
 * @param setting its one number
 */
public record ExitPlan(Kind kind, double setting) implements Serializable {
  /** The rules. */
  public enum Kind {
    /** After so many layers, whatever the sentence. */
    DEPTH("depth", 1, 2, 3, 4, 5, 6),
    /** The answer's probability is this or more. */
    THRESHOLD("max-prob", .55, .6, .65, .7, .75, .8, .85, .9, .95),
    /** The answer has been the same so often (PABEE). */
    PATIENCE("patience (PABEE)", 1, 2, 3, 4),
    /** It is likely to this degree that some layer so far was right (PALBERT). */
    QUANTILE("Q-exit (PALBERT)", .5, .6, .7, .8, .85, .9, .95, .98, .99),
    /** A gate that was taught what a layer costs says so (JEI-DNN). */
    JEI("JEI-DNN gates", 0, .02, .05, .1, .2, .4, .8);

    private final String title;
    private final double[] settings;

    Kind(String title, double... settings) {
      this.title = title;
      this.settings = settings;
    }

    /** The settings that are tried, of a model with so many layers. */
    public List<ExitPlan> plans(int layers) {
      List<ExitPlan> plans = new ArrayList<>();
      for (double setting : settings) {
        if (this != DEPTH || setting <= layers) {
          plans.add(new ExitPlan(this, setting));
        }
      }
      return plans;
    }
  }

  /** Decides for gates that were taught with a cost. */
  private static final float JEI_THRESHOLD = .5f;

  /** All layers. */
  public static ExitPlan full(int layers) {
    return new ExitPlan(Kind.DEPTH, layers);
  }

  /**
   * The plan that a user names: {@code threshold:P}, {@code quantile:Q}, {@code patience:N} or
   * {@code depth:N}.
   *
   * @throws IllegalArgumentException if it is none of these
   */
  public static ExitPlan parse(String text) {
    int colon = text.indexOf(':') + 1;
    String setting = text.substring(colon);
    boolean share = setting.matches("(0|1|0?[.][0-9]{1,9})");
    boolean count = setting.matches("[1-9][0-9]{0,2}");
    Kind kind = switch (text.substring(0, colon)) {
      case "threshold:" -> share ? Kind.THRESHOLD : null;
      case "quantile:" -> share ? Kind.QUANTILE : null;
      case "patience:" -> count ? Kind.PATIENCE : null;
      case "depth:" -> count ? Kind.DEPTH : null;
      default -> null;
    };
    if (kind == null) {
      throw new IllegalArgumentException("'" + text
          + "' is no exit rule: threshold:P and quantile:Q take a number from 0 to 1, patience:N "
          + "and depth:N one from 1");
    }
    return new ExitPlan(kind, Double.parseDouble(setting));
  }

  /** Whether the rule is asked after a layer. */
  boolean asks(int layer) {
    return kind != Kind.DEPTH || layer == setting;
  }

  /** The layer after which all leave. */
  int last(int layers) {
    return kind == Kind.DEPTH ? (int) setting : layers;
  }

  /** Sets the rule of {@code builder}. */
  void choose(ExitRule.Builder builder) {
    switch (kind) {
      case DEPTH -> builder.threshold(GT, Float.POSITIVE_INFINITY);
      case THRESHOLD -> builder.threshold(GE, (float) setting);
      case PATIENCE -> builder.patience((int) setting);
      case QUANTILE -> builder.quantile((float) setting);
      case JEI -> builder.jei(JEI_THRESHOLD);
    }
  }

  @Override
  public String toString() {
    String number =
        setting == Math.rint(setting) ? Long.toString((long) setting) : Double.toString(setting);
    return switch (kind) {
      case DEPTH -> "depth " + number;
      case THRESHOLD -> kind.title + " >= " + number;
      case PATIENCE -> kind.title + ", " + number;
      case QUANTILE -> kind.title + ", q " + number;
      case JEI -> kind.title + ", cost " + number;
    };
  }
}
