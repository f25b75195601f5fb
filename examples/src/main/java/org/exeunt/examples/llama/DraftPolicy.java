// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

import org.exeunt.Scope;

/**
 * How many tokens of a sequence are drafted before the model verifies them. Whatever a rule says,
 * the answer is the same; it decides how soon it comes.
 */
interface DraftPolicy {
  /** The forms that {@link #parse} takes. */
  String FORMS = "gain, fixed:K, confidence:TAU or specdec:FILE[,THRESHOLD]";

  /** Most tokens to draft now. The kind says how the source came by them. */
  int most(int kind);

  /**
   * How many times the speed of a model that nobody drafts for is to be expected of a draft of at
   * most so many tokens; 0: none is worth its time.
   */
  default double gain(int kind, int atMost) {
    throw new UnsupportedOperationException("this rule is for one source alone");
  }

  /** Whether it is time to draft again what has been left to another source, and counts up to that. */
  default boolean isDue() {
    return false;
  }

  /** Whether to go on behind a drafted token of which the source says this. */
  default boolean goesOn(float score) {
    return true;
  }

  /** Of {@code drafted} tokens, from 1 on, the first {@code accepted} were right. */
  default void learn(int kind, int drafted, int accepted) {}

  /** Makes a rule for a sequence. */
  interface Maker {
    /** @param scope owns a rule's memory; the other arguments are those of {@link GainRule} */
    DraftPolicy make(Scope scope, PassTimes times, int source, int sequences, int kinds);
  }

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
  static Maker parse(String text, int length) {
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
          int count = one.integer(0, "the length", 1, Speculation.LONGEST_DRAFT);
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

  /** Stops behind a token that is less probable than {@code least}. */
  record Confidence(int length, float least) implements DraftPolicy {
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
