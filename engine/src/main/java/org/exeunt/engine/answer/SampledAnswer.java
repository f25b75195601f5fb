// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.answer;

import java.util.Arrays;
import java.util.function.Function;
import java.util.stream.IntStream;
import org.exeunt.BordaVote;
import org.exeunt.StopRule;
import org.exeunt.engine.decode.DecodeWork;
import org.exeunt.engine.decode.Decoder;

/**
 * An answer that is one of several samples, drawn side by side after one prompt, which goes in once.
 * All that is decided of them is decided by a {@link org.exeunt.StopRule}: with {@code FIRST} the one
 * that ends first is the answer and ends the others (First Finish Search), else all go on to
 * their end and the best one is, or the best of those that a Borda vote is for. Where none comes to
 * an end, it is the first sample; where none is sure enough, there is no answer.
 *
 * <p>Samples that have ended give their keys and values back: once no more than half of a decoder's
 * sequences go on, one of that size goes on with them. With the answer all are given back.
 */
public final class SampledAnswer implements Answer {
  private final Sampling sampling;
  private final Draws draws;
  private final int samples;
  private final int budget;
  private final Function<int[], String> text;
  private final int[][] tokens;
  private final int[] counts;
  private final DecodeWork work;
  private Decoder decoder; // null: it has done its work
  private int[] answer; // null: not drawn yet
  private int shown;
  private int position;
  private boolean abstained;

  /**
   * @param decoder closed with the answer; keeps its logits, has as many sequences as there are
   *     samples
   * @param ends tokens that end an answer
   * @param budget the most tokens of a sample
   * @param text what tokens say, for a vote
   */
  public SampledAnswer(
      Decoder decoder, Sampling sampling, int[] ends, int budget, Function<int[], String> text) {
    this.decoder = decoder;
    this.sampling = sampling;
    this.budget = budget;
    this.text = text;
    samples = sampling.samples();
    tokens = new int[samples][budget];
    counts = new int[samples];
    work = decoder.work();
    draws = new Draws(decoder, sampling, ends, ends, budget,
        rule -> rule.finish(sampling.finish()).choice(sampling.choice()));
  }

  /** @throws IllegalStateException if there was a prompt already */
  @Override
  public void begin(int... prompt) {
    if (decoder == null || decoder.position(0) > 0) {
      throw new IllegalStateException("samples are drawn after one prompt");
    }
    decoder.prefill(0, prompt);
    if (samples > 1) {
      decoder.fork(0, IntStream.range(1, samples).toArray());
    }
    position = decoder.position(0);
  }

  @Override
  public int next() {
    if (answer == null) {
      answer = drawn();
      draws.close();
      decoder.close();
      decoder = null;
    }
    return shown < answer.length ? answer[shown++] : ENDED;
  }

  /** The winner's tokens, or a -1. */
  private int[] drawn() {
    draws.only(IntStream.range(0, samples).toArray());
    draws.look();
    for (boolean first = true;; first = false) {
      int going = draws.next(first);
      for (int s = 0; s < samples && going >= 0; s++) {
        if (draws.token(s) >= 0) {
          tokens[s][counts[s]++] = draws.token(s);
        }
      }
      if (going < 0) {
        return new int[] {-1};
      }
      if (going == 0) {
        int winner = winner();
        abstained = winner < 0;
        return abstained ? new int[0] : Arrays.copyOf(tokens[winner], counts[winner]);
      }
      if (2 * going <= decoder.sequences()) {
        narrow();
      }
      decoder.step(draws.going());
      position++;
      draws.look();
    }
  }

  private void narrow() {
    int[] staying = draws.running();
    decoder = decoder.narrowed(IntStream.of(staying).map(draws::sequenceOf).toArray());
    draws.follow(decoder, staying);
  }

  /** Whose tokens are the answer; -1: there is none. */
  private int winner() {
    int winner = sampling.votePower() < 0 ? -1 : voted();
    return winner >= 0 ? winner
        : draws.winner() >= 0
        ? draws.winner()
        : IntStream.range(0, samples)
              .filter(s -> draws.reason(s) != StopRule.Reason.ABSTAINED)
              .findFirst()
              .orElse(-1);
  }

  /** The best of the samples with the answer that most votes are for; -1: there were none. */
  private int voted() {
    float[] certainty = draws.scores();
    String[] answers = new String[samples];
    for (int s = 0; s < samples; s++) {
      answers[s] = draws.reason(s) == StopRule.Reason.TOKEN
          ? FinalAnswer.of(text.apply(Arrays.copyOf(tokens[s], counts[s] - 1)))
          : null;
    }
    String winner = BordaVote.winner(Arrays.asList(answers), certainty, sampling.votePower());
    int best = -1;
    for (int s = 0; s < samples && winner != null; s++) {
      if (winner.equals(answers[s]) && (best < 0 || certainty[s] > certainty[best])) {
        best = s;
      }
    }
    return best;
  }

  @Override
  public void goOn() {
    // The samples have gone on already.
  }

  @Override
  public int position() {
    return position;
  }

  @Override
  public DecodeWork work() {
    return work;
  }

  @Override
  public boolean abstained() {
    return abstained;
  }

  @Override
  public void close() {
    if (decoder != null) {
      draws.close();
      decoder.close();
    }
  }
}
