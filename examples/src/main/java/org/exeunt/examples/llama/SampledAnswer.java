// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

import java.util.Arrays;
import java.util.stream.IntStream;

/**
 * An answer that is one of several samples, drawn side by side behind one prompt, which goes in once.
 * All that is decided of them is decided by a {@link org.exeunt.StopRule}: with {@code FIRST} whoever
 * comes to an end first is the answer and ends the others (First Finish Search), else all go on to
 * their end and the best one is. Where none comes to an end, it is the first sample.
 */
public final class SampledAnswer implements Answer {
  private final Decoder decoder;
  private final Draws draws;
  private final int samples;
  private final int budget;
  private int[] answer; // null: not drawn yet
  private int shown;

  /**
   * @param decoder closed with this; keeps its logits, has as many sequences as there are samples
   * @param ends tokens that end an answer
   * @param budget the most tokens of a sample
   */
  public SampledAnswer(Decoder decoder, Sampling sampling, int[] ends, int budget) {
    this.decoder = decoder;
    this.budget = budget;
    samples = sampling.samples();
    draws = new Draws(decoder, sampling, ends, ends,
        rule -> rule.finish(sampling.finish()).choice(sampling.choice()).budget(budget));
  }

  @Override
  public void begin(int... prompt) {
    decoder.prefill(0, prompt);
    if (samples > 1) {
      decoder.fork(0, IntStream.range(1, samples).toArray());
    }
    answer = null;
    shown = 0;
  }

  @Override
  public int next() {
    if (answer == null) {
      answer = drawn();
    }
    return answer[shown++];
  }

  /** The winner's tokens, or a -1. */
  private int[] drawn() {
    int[][] tokens = new int[samples][budget];
    int[] counts = new int[samples];
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
        int winner = Math.max(0, draws.winner());
        return Arrays.copyOf(tokens[winner], counts[winner]);
      }
      decoder.step(draws.going());
      draws.look();
    }
  }

  @Override
  public void goOn() {
    // The samples have gone on already.
  }

  @Override
  public int position() {
    return IntStream.range(0, samples).map(decoder::position).max().orElse(0);
  }

  @Override
  public DecodeWork work() {
    return decoder.work();
  }

  @Override
  public void close() {
    draws.close();
    decoder.close();
  }
}
