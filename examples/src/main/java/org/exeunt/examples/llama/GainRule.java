// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

/**
 * Drafts as many tokens as promise most for the time they take, and none where that is least.
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
  private final PassTimes times;
  private final int sequences;
  private final double[] right;
  private final double[] wrong;
  private int without;
  private int patience = SOON;

  /** @param kinds how many kinds of drafts the source has, better and better ones */
  GainRule(int length, PassTimes times, int sequences, int kinds) {
    this.length = length;
    this.times = times;
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
    double a = right[kind] / (right[kind] + wrong[kind]);
    double draft = times.draft(sequences);
    double cost = draft + times.row(sequences);
    double best = LEAST_GAIN;
    int most = 0;
    double tokens = 1;
    double power = 1;
    for (int d = 1; d <= length; d++) {
      power *= a;
      tokens += power;
      double gain = tokens / (1 + d * cost);
      if (gain > best) {
        best = gain;
        most = d;
      }
    }
    if (most > 0 || draft == 0) {
      return most; // what costs nothing to guess is learnt from anyway
    }
    if (++without < patience) {
      return 0;
    }
    without = 0;
    patience = Math.min(LATE, 2 * patience);
    return 1;
  }

  @Override
  public void learn(int kind, int drafted, int accepted) {
    right[kind] = MEMORY * right[kind] + accepted;
    wrong[kind] = MEMORY * wrong[kind] + (accepted < drafted ? 1 : 0);
    patience = accepted > 0 ? SOON : patience;
  }
}
