// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/**
 * The answer that several samples agree on, where those who are sure of theirs count for more
 * (self-certainty's Borda vote, Kang et al. 2025, as "Reasoning Models Can Be Effective Without
 * Thinking" uses it). Plain Java, on the host: {@link StopRule.Builder#score} has the confidences,
 * and what the answers are is in their texts.
 *
 * <p>The N samples are sorted by confidence, the surest first; the one at rank r, from 0 on, gives
 * its answer {@code (N - r)^power} votes. The answer with the most votes wins; of some with equally
 * many the one whose surest sample ranks highest. Equal confidences rank by index, NaN last. A power
 * of 0 is the plain majority.
 */
public final class BordaVote {
  private BordaVote() {}

  /**
   * Holds a vote.
   *
   * @param <A> what answers are; equal ones are one answer
   * @param answers of each sample; null: it has none, keeps its rank and votes for nothing
   * @param confidences of each sample
   * @param power 0 or more, finite
   * @return the winner, or null where no sample has an answer
   * @throws IllegalArgumentException if there is not one confidence for each answer, or the power is
   *     out of range
   */
  public static <A> @Nullable A winner(
      List<? extends @Nullable A> answers, float[] confidences, double power) {
    if (Named.present("answers", answers).size()
        != Named.present("confidences", confidences).length) {
      throw new IllegalArgumentException(
          "confidences has " + confidences.length + " elements, but answers has " + answers.size());
    }
    if (!(power >= 0) || Double.isInfinite(power)) {
      throw new IllegalArgumentException("power is " + power + ", expected a finite value >= 0");
    }
    int[] ranked =
        IntStream.range(0, confidences.length)
            .boxed()
            .sorted((a, b) -> compare(confidences[b], confidences[a])) // stable
            .mapToInt(Integer::intValue)
            .toArray();
    Map<A, Double> votes = new LinkedHashMap<>();
    for (int rank = 0; rank < ranked.length; rank++) {
      A answer = answers.get(ranked[rank]);
      if (answer != null) {
        votes.merge(answer, Math.pow(ranked.length - rank, power), Double::sum);
      }
    }
    A winner = null;
    double most = -1;
    for (Map.Entry<A, Double> entry : votes.entrySet()) {
      if (entry.getValue() > most) {
        most = entry.getValue();
        winner = entry.getKey();
      }
    }
    return winner;
  }

  /** NaN below all, and -0 is 0. */
  private static int compare(float a, float b) {
    boolean aIs = !Float.isNaN(a);
    boolean bIs = !Float.isNaN(b);
    return aIs && bIs ? Float.compare(a + 0f, b + 0f) : Boolean.compare(aIs, bIs);
  }
}
