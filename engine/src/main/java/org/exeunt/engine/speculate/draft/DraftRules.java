// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate.draft;

import org.exeunt.engine.policy.Arguments;

/** The rules for the length of drafts, by what an option says. */
public final class DraftRules {
  /** The forms that {@link #parse} takes. */
  public static final String FORMS = "gain, fixed:K, confidence:TAU or specdec:FILE[,THRESHOLD]";

  /** Most tokens of a draft: it is verified together with the token before it. */
  public static final int LONGEST_DRAFT = 63;

  private DraftRules() {}

  /**
   * Reads an option.
   *
   * <p>{@code fixed} drafts K tokens; {@code confidence} drafts until a token's probability is below
   * TAU, that token being the last; {@code specdec} until one of the tokens is wrong with more than
   * the threshold's probability, as an {@link AcceptanceGate} sees it; {@code gain} drafts as many as
   * let it expect most from what was accepted of late, which may be none.
   *
   * @param length most tokens of a draft
   */
  public static DraftPolicy.Maker parse(String text, int length) {
    int colon = text.indexOf(':');
    String name = colon < 0 ? text : text.substring(0, colon);
    String number = colon < 0 ? "" : text.substring(colon + 1);
    if (name.equals("specdec")) {
      float threshold = SpecDecRule.Option.parse(number).threshold();
      return (scope, times, source, sequences, kinds) -> new SpecDecRule(scope, threshold, length);
    }
    Arguments one =
        new Arguments("--draft-rule " + name, number, colon < 0 ? 0 : 1, 1, "one number");
    switch (name) {
      case "gain":
        if (colon < 0) {
          return (scope, times, source, sequences,
                     kinds) -> new GainRule(length, false, times, source, sequences, kinds);
        }
        break;
      case "fixed":
        if (one.count() == 1) {
          int count = one.integer(0, "the length", 1, LONGEST_DRAFT);
          return (scope, times, source, sequences,
                     kinds) -> new GainRule(count, true, times, source, sequences, kinds);
        }
        break;
      case "confidence":
        if (one.count() == 1) {
          float least = one.number(0, "the probability", 0, 1);
          return (scope, times, source, sequences, kinds) -> new Confidence(length, least);
        }
        break;
      default:
        break;
    }
    throw new IllegalArgumentException("--draft-rule is '" + text + "', not " + FORMS);
  }

  /** Stops after a token that is less probable than {@code least}. */
  private record Confidence(int length, float least) implements DraftPolicy {
    @Override
    public int most(int kind) {
      return length;
    }

    @Override
    public boolean goesOn(float probability) {
      return !(probability < least);
    }
  }
}
