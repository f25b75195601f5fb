// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.policy;

import static org.exeunt.ExitRule.Comparator.GE;
import static org.exeunt.ExitRule.Comparator.LE;

import java.util.function.IntUnaryOperator;
import org.exeunt.ExitRule;
import org.exeunt.Statistics;
import org.exeunt.Tensor;

/** When a token may leave the layers early, and at which depths it is asked. */
public final class ExitPolicy {
  /** No token leaves early. */
  public static final ExitPolicy NONE = new ExitPolicy(Signal.NONE, 0, 1, 1, null, null);

  /** The forms that {@link #parse} takes. */
  public static final String FORMS =
      "none, threshold:P, calm:P,TAU,LENGTH, margin:M, entropy:NATS, patience:N or fixed:LAYERS";

  /** What is looked at. */
  private enum Signal { NONE, THRESHOLD, MARGIN, ENTROPY, PATIENCE, FIXED }

  /** How CALM's threshold falls over the tokens of an answer. */
  private record Fall(float tau, int length) {}

  private final Signal signal;
  private final float value;
  private final int first;
  private final int stride;
  private final Fall fall; // null: the threshold stays
  private final IntUnaryOperator depthOfPosition;

  private ExitPolicy(Signal signal, float value, int first, int stride, Fall fall,
      IntUnaryOperator depthOfPosition) {
    this.signal = signal;
    this.value = value;
    this.first = first;
    this.stride = stride;
    this.fall = fall;
    this.depthOfPosition = depthOfPosition;
  }

  /**
   * Reads an option.
   *
   * <p>{@code calm} is {@code threshold} with one that falls as an answer goes on: at its token t
   * it is {@code 9/10 P + 1/10 P exp(-TAU t / LENGTH)}.
   *
   * @param text one of {@link #FORMS}
   * @param points the first depth asked at and the distance to the next, {@code FIRST,STRIDE};
   *     null: from two thirds of the layers on, every sixth of them. Each question reads the head.
   * @param layers of the model
   */
  public static ExitPolicy parse(String text, String points, int layers) {
    int colon = text.indexOf(':');
    String name = colon < 0 ? text : text.substring(0, colon);
    String number = colon < 0 ? "" : text.substring(colon + 1);
    String option = "--exit " + name;
    if (points != null && (name.equals("none") || name.equals("fixed"))) {
      throw new IllegalArgumentException(
          "--exit-points is '" + points + "', but --exit " + name + " asks nowhere");
    }
    switch (name) {
      case "none":
        if (colon < 0) {
          return NONE;
        }
        break;
      case "threshold":
        return at(
            Signal.THRESHOLD, one(option, number, "the probability", 1), null, points, layers);
      case "calm":
        Arguments calm = new Arguments(option, number, 3, 3, "P,TAU,LENGTH");
        Fall fall =
            new Fall(calm.number(1, "the rate", 0, 100), calm.integer(2, "the length", 1, 1 << 20));
        return at(Signal.THRESHOLD, calm.number(0, "the probability", 0, 1), fall, points, layers);
      case "margin":
        return at(Signal.MARGIN, one(option, number, "the margin", 1), null, points, layers);
      case "entropy":
        return at(Signal.ENTROPY, one(option, number, "the entropy", 100), null, points, layers);
      case "patience":
        int times =
            new Arguments(option, number, 1, 1, "one number").integer(0, "the count", 1, layers);
        return at(Signal.PATIENCE, times, null, points, layers);
      case "fixed":
        int depth =
            new Arguments(option, number, 1, 1, "one number").integer(0, "the depth", 1, layers);
        return fixed(position -> depth);
      default:
        break;
    }
    throw new IllegalArgumentException("--exit is '" + text + "', not " + FORMS);
  }

  private static float one(String option, String number, String name, int most) {
    return new Arguments(option, number, 1, 1, "one number").number(0, name, 0, most);
  }

  private static ExitPolicy at(Signal signal, float value, Fall fall, String points, int layers) {
    if (points == null) {
      return new ExitPolicy(
          signal, value, Math.max(1, layers * 2 / 3), Math.max(1, layers / 6), fall, null);
    }
    Arguments numbers = new Arguments("--exit-points", points, 2, 2, "FIRST,STRIDE");
    return new ExitPolicy(signal, value, numbers.integer(0, "the first depth", 1, layers),
        numbers.integer(1, "the stride", 1, layers), fall, null);
  }

  /** A token at position p leaves after {@code depthOfPosition(p)} layers, come what may. */
  public static ExitPolicy fixed(IntUnaryOperator depthOfPosition) {
    return new ExitPolicy(Signal.FIXED, 0, 1, 1, null, depthOfPosition);
  }

  /** Whether any token may leave early. */
  public boolean mayLeave() {
    return signal != Signal.NONE;
  }

  /** Whether tokens are asked after {@code depth} layers. */
  public boolean asksAt(int depth) {
    return mayLeave() && depth >= first && (depth - first) % stride == 0;
  }

  /** Whether asking costs a reading of the language-model head. */
  public boolean readsHead() {
    return mayLeave() && signal != Signal.FIXED;
  }

  /** 1 if a token at {@code position} has gone deep enough to leave, else 0; fixed exits only. */
  public float verdict(int position, int depth) {
    return depth >= depthOfPosition.applyAsInt(position) ? 1 : 0;
  }

  /** After how many layers a token at {@code position} leaves; fixed exits only. */
  public int depthAt(int position, int layers) {
    return Math.max(1, Math.min(layers, depthOfPosition.applyAsInt(position)));
  }

  /**
   * The rule over what the head found, or over {@link #verdict verdicts}.
   *
   * @param step [S], which token of its answer each sequence has come to
   */
  public ExitRule.Builder rule(Statistics found, Tensor verdicts, Tensor step) {
    ExitRule.Builder rule = ExitRule.builder();
    if (fall != null) {
      rule.step(step).decay(ExitRule.Decay.CALM_CODE, fall.tau, fall.length);
    }
    return switch (signal) {
      case THRESHOLD -> rule.score(found.p1()).valid(found.valid()).threshold(GE, value);
      case MARGIN -> rule.score(found.margin()).valid(found.valid()).threshold(GE, value);
      case ENTROPY -> rule.score(found.entropy()).valid(found.valid()).threshold(LE, value);
      case PATIENCE ->
        rule.score(found.p1()).label(found.argmax()).valid(found.valid()).patience((int) value);
      case NONE, FIXED -> rule.score(verdicts).threshold(GE, 1);
    };
  }
}
