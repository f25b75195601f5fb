// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

import org.exeunt.StopRule;

/**
 * How several samples of an answer are drawn, and which of them is the answer. What they are given
 * is log p of the temperature's distribution, whatever the nucleus leaves of that.
 *
 * @param temperature divides the logits; positive
 * @param topP probability to keep; see {@link Sampler}
 * @param seed of the draws; sample 0 draws what a single answer would
 * @param endBias is added to the logits of the tokens that end an answer
 * @param samples how many are drawn side by side; with branches the most trials of one token
 * @param branches whether samples are trials of single tokens (CNTP)
 * @param finish what a sample that is complete means to the others
 * @param choice which sample wins
 */
public record Sampling(float temperature, float topP, long seed, float endBias, int samples,
    boolean branches, StopRule.Finish finish, StopRule.Choice choice) {
  /** Samples or branches, so many keys and values a decoder has at most. */
  public static final int MOST = 64;

  /** What {@code --stop} is: whether the first sample ends the others, or which of all wins. */
  public Sampling withStop(String option, String value) {
    return switch (value) {
      case "first" -> with(StopRule.Finish.FIRST, StopRule.Choice.FIRST);
      case "perplexity" -> with(StopRule.Finish.EACH, StopRule.Choice.PERPLEXITY);
      case "certainty" -> with(StopRule.Finish.EACH, StopRule.Choice.CERTAINTY);
      default ->
        throw new IllegalArgumentException(
            option + " is '" + value + "', not first, perplexity or certainty");
    };
  }

  private Sampling with(StopRule.Finish how, StopRule.Choice which) {
    return new Sampling(temperature, topP, seed, endBias, samples, branches, how, which);
  }
}
