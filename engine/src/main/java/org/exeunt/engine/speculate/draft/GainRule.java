// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate.draft;

/**
 * Drafts as many tokens as promise most for the time they take, and none where that is least; or a
 * fixed number, whatever that promises.
 *
 * <p>A token is accepted with a probability a, which is learnt from drafts of its kind, those of
 * late counting most. A draft of d tokens gives {@code 1 + a + ... + a^d} tokens, and takes the time
 * of {@code 1 + d (draft + row)} at full depth, as {@link PassTimes} has it.
 */
final class GainRule implements DraftPolicy {
  /** How much a draft counts beside the one that follows it. */
  private static final double MEMORY = 0.9;

  /** How many tokens' worth of experience a rule begins with. */
  private static final double PRIOR = 2;

  /** A draft is worth its while if it promises so much more than none. */
  private static final double LEAST_GAIN = 1.05;

  /** Where drafting costs time, a token is tried after so many rounds without, at least and most. */
  private static final int SOON = 8;
  private static final int LATE = 64;

  private final int length;
  private final boolean fixed;
  private final PassTimes times;
  private final int source;
  private final int sequences;
  private final double[] right;
  private final double[] wrong;
  private int without;
  private int patience = SOON;
  private boolean trying;

  /**
   * @param length most tokens of a draft
   * @param fixed whether each draft has so many
   * @param source who drafts, of those whose times are known
   * @param kinds how many kinds of drafts the source has, better and better ones
   */
  GainRule(int length, boolean fixed, PassTimes times, int source, int sequences, int kinds) {
    this.length = length;
    this.fixed = fixed;
    this.times = times;
    this.source = source;
    this.sequences = sequences;
    right = new double[kinds];
    wrong = new double[kinds];
    for (int kind = 0; kind < kinds; kind++) {
      double a = kinds == 1 ? 0.7 : kind / (kind + 1.5);
      right[kind] = PRIOR * a;
      wrong[kind] = PRIOR * (1 - a);
    }
  }

  @Override
  public int most(int kind) {
    if (fixed) {
      return length;
    }
    int most = best(kind, length);
    if (most > 0 || times.draft(source, sequences) == 0) {
      return most; // what costs nothing to guess is learnt from anyway
    }
    return trying || isDue() ? 1 : 0;
  }

  @Override
  public double gain(int kind, int atMost) {
    int most = Math.min(length, atMost);
    int tokens = fixed ? most : best(kind, most);
    return tokens == 0 ? 0 : gainOf(kind, tokens);
  }

  @Override
  public boolean isDue() {
    if (times.draft(source, sequences) == 0 || ++without < patience) {
      return false;
    }
    without = 0;
    patience = Math.min(LATE, 2 * patience);
    trying = true;
    return true;
  }

  /** How many tokens promise most, of at most so many; 0: not enough. */
  private int best(int kind, int atMost) {
    double best = LEAST_GAIN;
    int most = 0;
    for (int tokens = 1; tokens <= atMost; tokens++) {
      double gain = gainOf(kind, tokens);
      if (gain > best && isUsual(tokens)) {
        best = gain;
        most = tokens;
      }
    }
    return most;
  }

  /**
   * With the token before them 2, 4, 8 rows and so on, or as many as there may be: the first pass of
   * each number of rows makes ops for it, which takes about as long as the pass.
   */
  private boolean isUsual(int drafted) {
    return drafted == length || (drafted & drafted + 1) == 0;
  }

  private double gainOf(int kind, int drafted) {
    double a = right[kind] / (right[kind] + wrong[kind]);
    double tokens = 1;
    for (int d = 1; d <= drafted; d++) {
      tokens = 1 + a * tokens;
    }
    return tokens / (1 + drafted * (times.draft(source, sequences) + times.row(sequences)));
  }

  @Override
  public void learn(int kind, int drafted, int accepted) {
    right[kind] = MEMORY * right[kind] + accepted;
    wrong[kind] = MEMORY * wrong[kind] + (accepted < drafted ? 1 : 0);
    patience = accepted > 0 ? SOON : patience;
    without = 0;
    trying = false;
  }
}
