// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate.draft;

import org.exeunt.Scope;

/**
 * How many tokens of a sequence are drafted before the model verifies them. Whatever a rule says,
 * the answer is the same; it decides how soon it comes.
 */
public interface DraftPolicy {
  /** Most tokens to draft now. The kind says how the source came by them. */
  int most(int kind);

  /**
   * How many times the speed of a model without drafts is to be expected of a draft of at
   * most so many tokens; 0: none is worth its time.
   */
  default double gain(int kind, int atMost) {
    throw new UnsupportedOperationException("this rule is for one source alone");
  }

  /** Whether it is time to draft again what has been left to another source, and counts up to that. */
  default boolean isDue() {
    return false;
  }

  /** Whether to go on after a drafted token of which the source says this. */
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
}
