// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.answer;

import java.util.SplittableRandom;
import org.exeunt.StopRule;
import org.exeunt.engine.policy.Arguments;

/**
 * How several samples of an answer are drawn, and which of them is the answer. What they are given
 * is log p of the temperature's distribution, whatever the nucleus leaves of that.
 *
 * @param temperature divides the logits; positive
 * @param topP probability to keep; see {@code Sampler}
 * @param seed of the draws; sample 0 draws what a single answer would
 * @param endBias is added to the logits of the tokens that end an answer
 * @param samples how many are drawn side by side; with branches the most trials of one token
 * @param branches whether samples are trials of single tokens (CNTP)
 * @param finish what a sample that is complete means to the others
 * @param choice which sample wins
 * @param votePower of a Borda vote by certainty over the samples' final answers, 0 or more; negative:
 *     none is held
 * @param abstainBelow a sample whose tokens have a lower probability, by their geometric mean, is no
 *     answer; 0: each is
 */
public record Sampling(float temperature, float topP, long seed, float endBias, int samples,
    boolean branches, StopRule.Finish finish, StopRule.Choice choice, double votePower,
    float abstainBelow) {
  /** Samples or branches, so many keys and values a decoder has at most. */
  public static final int MOST = 64;

  /** What {@code --stop} may be with samples, as a help page has it. */
  public static final String FORMS = "first, perplexity, certainty or borda:POWER";

  private static final int MOST_POWER = 100;

  /** Samples of which the first to be complete is the answer. */
  public static Sampling of(float temperature, float topP, long seed, int samples) {
    return new Sampling(temperature, topP, seed, 0, samples, false, StopRule.Finish.FIRST,
        StopRule.Choice.FIRST, -1, 0);
  }

  /** Of the draws of one sample: another place of the generator's cycle, a random distance away. */
  public long seed(int sample) {
    return sample == 0 ? seed : seed ^ new SplittableRandom(sample).nextLong();
  }

  /** What {@code --stop} is: whether the first sample ends the others, or which of all wins. */
  public Sampling withStop(String option, String value) {
    if (value.startsWith("borda:")) {
      return with(StopRule.Finish.EACH, StopRule.Choice.CERTAINTY,
          new Arguments(option + " borda", value.substring("borda:".length()), 1, 1,
              "a power after the colon")
              .number(0, "the power", 0, MOST_POWER));
    }
    return switch (value) {
      case "first" -> with(StopRule.Finish.FIRST, StopRule.Choice.FIRST, -1);
      case "perplexity" -> with(StopRule.Finish.EACH, StopRule.Choice.PERPLEXITY, -1);
      case "certainty" -> with(StopRule.Finish.EACH, StopRule.Choice.CERTAINTY, -1);
      default -> throw new IllegalArgumentException(option + " is '" + value + "', not " + FORMS);
    };
  }

  private Sampling with(StopRule.Finish how, StopRule.Choice which, double power) {
    return new Sampling(
        temperature, topP, seed, endBias, samples, branches, how, which, power, abstainBelow);
  }

  /** The same as trials of single tokens. */
  public Sampling asBranches() {
    return new Sampling(
        temperature, topP, seed, endBias, samples, true, finish, choice, votePower, abstainBelow);
  }

  /** The same with something added to the logits of tokens that end an answer. */
  public Sampling withEndBias(float value) {
    return new Sampling(
        temperature, topP, seed, value, samples, branches, finish, choice, votePower, abstainBelow);
  }

  /** The same with a least probability of an answer. */
  public Sampling withAbstention(float below) {
    return new Sampling(
        temperature, topP, seed, endBias, samples, branches, finish, choice, votePower, below);
  }
}
