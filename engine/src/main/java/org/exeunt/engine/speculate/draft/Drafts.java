// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate.draft;

import java.util.Arrays;
import java.util.function.IntPredicate;

/**
 * A round of drafting: for each sequence what it says so far, how many tokens may be drafted after
 * its newest, and those that were.
 */
public final class Drafts {
  private final TokenList[] contexts;
  private final DraftPolicy[][] rules; // by sequence and source
  private final boolean[] going;
  private final int[][] tokens;
  private final int[] most;
  private final int[] planned;
  private final int[] count;
  private final int[] kind;
  private final int[] source;
  private final int[] guess;
  private final int[] guessKind;
  private final int[] guessSource;
  private final IntPredicate ends;
  private int turn; // of which source

  /** The rules of a sequence. */
  public interface Rules {
    DraftPolicy of(int source, int sequence);
  }

  /**
   * @param length most tokens of a draft
   * @param sources how many take turns at drafting
   * @param ends which tokens nothing follows
   */
  public Drafts(
      int sequences, int capacity, int length, int sources, Rules rules, IntPredicate ends) {
    contexts = new TokenList[sequences];
    this.rules = new DraftPolicy[sequences][sources];
    going = new boolean[sequences];
    tokens = new int[sequences][length];
    most = new int[sequences];
    planned = new int[sequences];
    count = new int[sequences];
    kind = new int[sequences];
    source = new int[sequences];
    guess = new int[sequences];
    guessKind = new int[sequences];
    guessSource = new int[sequences];
    this.ends = ends;
    for (int s = 0; s < sequences; s++) {
      contexts[s] = new TokenList(capacity);
      int sequence = s;
      Arrays.setAll(this.rules[s], from -> rules.of(from, sequence));
    }
  }

  public int sequences() {
    return contexts.length;
  }

  /** Whether a sequence takes part; one without a prompt, and one that has ended, do not. */
  public boolean going(int sequence) {
    return going[sequence];
  }

  public void going(int sequence, boolean goes) {
    going[sequence] = goes;
  }

  public TokenList context(int sequence) {
    return contexts[sequence];
  }

  DraftPolicy rule(int from, int sequence) {
    return rules[sequence][from];
  }

  /** A source that drafts for a sequence in this round; -1: none does. */
  void choose(int sequence, int from) {
    source[sequence] = from;
  }

  /** Who has drafted for a sequence; -1: none. */
  public int source(int sequence) {
    return source[sequence];
  }

  /** It is a source's turn to draft. */
  void turn(int from) {
    turn = from;
  }

  /** Whether a sequence takes its draft from the source whose turn it is. */
  boolean wants(int sequence) {
    return going[sequence] && source[sequence] == turn;
  }

  /** Most tokens that can be drafted. */
  int most(int sequence) {
    return most[sequence];
  }

  /** Nothing is drafted yet, and at most {@code most} tokens can be. */
  public void begin(int sequence, int atMost) {
    most[sequence] = Math.min(atMost, tokens[sequence].length);
    count[sequence] = 0;
    kind[sequence] = 0;
    guess[sequence] = -1;
  }

  /**
   * Asks the rule how many tokens to draft; none where another source does.
   *
   * @param ofKind how the source would come by them
   * @param room for how many the source has room
   */
  int plan(int sequence, int ofKind, int room) {
    if (!wants(sequence)) {
      return 0;
    }
    int atMost = Math.min(most[sequence], room);
    kind[sequence] = ofKind;
    planned[sequence] = atMost <= 0 ? 0 : Math.min(atMost, rules[sequence][turn].most(ofKind));
    return planned[sequence];
  }

  /**
   * Drafts a token.
   *
   * @param score what the source tells the rule of it
   * @return whether another is wanted
   */
  boolean add(int sequence, int token, float score) {
    tokens[sequence][count[sequence]++] = token;
    return count[sequence] < planned[sequence] && !ends.test(token)
        && rules[sequence][turn].goesOn(score);
  }

  /** What a source would have drafted, had it been allowed a token: free to say and to learn from. */
  void guess(int sequence, int ofKind, int token) {
    guess[sequence] = token;
    guessKind[sequence] = ofKind;
    guessSource[sequence] = turn;
  }

  public int count(int sequence) {
    return count[sequence];
  }

  /** Tokens of the longest draft of a source. */
  int longest(int from) {
    int longest = 0;
    for (int s = 0; s < count.length; s++) {
      longest = going[s] && source[s] == from ? Math.max(longest, count[s]) : longest;
    }
    return longest;
  }

  public int token(int sequence, int index) {
    return tokens[sequence][index];
  }

  /** The newest token at index 0, what was drafted from 1 on, and older ones below 0. */
  int row(int sequence, int index) {
    TokenList context = contexts[sequence];
    return index > 0 ? tokens[sequence][index - 1] : context.get(context.size() - 1 + index);
  }

  /** Lets the rule learn from what became of the draft: {@code token} followed the newest. */
  public void learn(int sequence, int accepted, int token) {
    if (count[sequence] > 0) {
      rules[sequence][source[sequence]].learn(kind[sequence], count[sequence], accepted);
    }
    if (guess[sequence] >= 0) {
      rules[sequence][guessSource[sequence]].learn(
          guessKind[sequence], 1, guess[sequence] == token ? 1 : 0);
    }
  }
}
