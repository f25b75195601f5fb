// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

/**
 * Drafts as many tokens as promise most for the time they take, and none where that is least; or a
 * fixed number, whatever that promises.
 *
 * <p>A token is accepted with a probability that is learnt from tokens of its kind, those of late
 * counting most. The token behind an accepted one is of the next kind, as the longest match of what
 * is looked up has grown by one. So a draft of d tokens gives {@code 1 + a1 + a1 a2 + ...} tokens,
 * and takes the time of a pass of d more rows, and of drafting them, as {@link PassTimes} has it.
 *
 * <p>What drafts cost beyond what they gain may never be more than a small share of the time: text
 * that looks like its context, but goes on otherwise, takes hardly longer for it.
 */
final class GainRule implements DraftPolicy {
  /** How much a draft counts beside the one that follows it. */
  private static final double MEMORY = 0.93;

  /** How many tokens' worth of experience a rule begins with. */
  private static final double PRIOR = 2;

  /** A draft is worth its while if it promises so much more than none. */
  private static final double LEAST_GAIN = 1.05;

  /** Passes of one row that drafts may have lost: at first, and of each that went by. */
  private static final double ALLOWED = 1;
  private static final double SHARE = 0.015;

  /** What was gained lets no more than this be lost. */
  private static final double MOST_CREDIT = 4;

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
  private double credit = ALLOWED;
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

  private int next(int kind) {
    return Math.min(kind + 1, right.length - 1);
  }

  /** What a draft of so many tokens costs, of a pass without. */
  private double cost(int drafted) {
    return times.pass(sequences, drafted) - 1 + drafted * times.draft(source, sequences);
  }

  @Override
  public int most(int kind) {
    if (fixed) {
      return length;
    }
    int most = best(kind, length);
    return most > 0 || isFree() ? most : trying || isDue() ? 1 : 0;
  }

  @Override
  public double gain(int kind, int atMost) {
    int most = Math.min(length, atMost);
    int tokens = fixed ? most : best(kind, most);
    return tokens == 0 ? 0 : gainOf(kind, tokens);
  }

  @Override
  public boolean isDue() {
    if (isFree() || ++without < patience) {
      return false;
    }
    without = 0;
    patience = Math.min(LATE, 2 * patience);
    trying = true;
    return true;
  }

  /** What costs nothing to guess is learnt from anyway. */
  private boolean isFree() {
    return times.draft(source, sequences) == 0;
  }

  /** How many tokens promise most, of at most so many; 0: not enough. */
  private int best(int kind, int atMost) {
    double best = LEAST_GAIN;
    int most = 0;
    for (int tokens = 1; tokens <= atMost; tokens++) {
      boolean affordable = !isFree() || credit > 0 && cost(tokens) <= ALLOWED + 2 * credit;
      double gain = gainOf(kind, tokens);
      if (gain > best && affordable && isUsual(tokens)) {
        best = gain;
        most = tokens;
      }
    }
    return most;
  }

  private double gainOf(int kind, int drafted) {
    double tokens = 1;
    double power = 1;
    int at = kind;
    for (int d = 1; d <= drafted; d++) {
      power *= right[at] / (right[at] + wrong[at]);
      at = next(at);
      tokens += power;
    }
    return tokens / (1 + cost(drafted));
  }

  /** Every number of rows has ops of its own, and kernels like some numbers better than others. */
  private boolean isUsual(int drafted) {
    int rows = drafted + 1;
    return drafted == length || rows <= 4 || rows % 4 == 0 || rows == 6;
  }

  @Override
  public void learn(int kind, int drafted, int accepted) {
    int at = kind;
    for (int i = 0; i < Math.min(drafted, accepted + 1); i++) {
      right[at] = MEMORY * right[at] + (i < accepted ? 1 : 0);
      wrong[at] = MEMORY * wrong[at] + (i < accepted ? 0 : 1);
      at = next(at);
    }
    patience = accepted > 0 ? SOON : patience;
    without = 0;
    trying = false;
    settle(accepted - cost(drafted));
  }

  @Override
  public void guessed(int kind, boolean hit) {
    right[kind] = MEMORY * right[kind] + (hit ? 1 : 0);
    wrong[kind] = MEMORY * wrong[kind] + (hit ? 0 : 1);
    // Had it been drafted, it would have been gained.
    settle(hit ? Math.max(0, 1 - cost(1)) : 0);
  }

  private void settle(double gained) {
    credit = Math.min(MOST_CREDIT, credit + SHARE + gained);
  }
}
