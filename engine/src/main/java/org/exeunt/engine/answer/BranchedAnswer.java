// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.answer;

import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.Deque;
import java.util.stream.IntStream;
import org.exeunt.StopRule;
import org.exeunt.engine.decode.DecodeWork;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.model.text.Tokenizer;

/**
 * Cautious next-token prediction (CNTP; Wang et al. 2025): where the model is unsure what comes next,
 * by the entropy of its distribution, several continuations are tried, each up to the next
 * punctuation, and the one of the lowest perplexity stays. Trials share what they have in common:
 * only the slots in which two of them differ are copied.
 */
public final class BranchedAnswer implements Answer {
  /** A trial ends here at the latest. */
  public static final int TRIAL_TOKENS = 32;

  private static final String[] MARKS = {".", ",", "\n", "?", "!", ":", ";", ")", "]", "}"};
  private static final int NONE = -1;

  private final Decoder decoder;
  private final Draws draws;
  private final int sequences;
  private final int capacity;
  private final Deque<Integer> tokens = new ArrayDeque<>();
  private int home; // the sequence that holds the answer so far
  private int pending = NONE; // its last token, which has not gone in
  private boolean fresh; // the decoder's logits have not been looked at

  /**
   * @param decoder closed with this; keeps its logits, has as many sequences as there may be trials
   * @param ends tokens that end an answer
   * @param marks tokens that end a trial as well; see {@link #marks}
   */
  public BranchedAnswer(Decoder decoder, Sampling sampling, int[] ends, int[] marks) {
    this.decoder = decoder;
    sequences = sampling.samples();
    capacity = decoder.kv().capacity();
    int[] stops = IntStream.concat(IntStream.of(ends), IntStream.of(marks)).distinct().toArray();
    draws = new Draws(decoder, sampling, ends, stops, TRIAL_TOKENS,
        rule -> rule.choice(StopRule.Choice.PERPLEXITY));
  }

  /** Tokens at which trials end: what the vocabulary begins each punctuation mark with. */
  public static int[] marks(Tokenizer tokenizer) {
    return Arrays.stream(MARKS)
        .map(tokenizer::encode)
        .filter(ids -> ids.length > 0)
        .mapToInt(ids -> ids[0])
        .distinct()
        .toArray();
  }

  @Override
  public void begin(int... prompt) {
    decoder.prefill(0, prompt);
    tokens.clear();
    home = 0;
    pending = NONE;
    fresh = true;
  }

  @Override
  public int next() {
    if (tokens.isEmpty()) {
      draw();
    }
    return tokens.remove();
  }

  /** At least one more token. */
  private void draw() {
    if (pending != NONE) {
      int[] ids = new int[sequences];
      Arrays.fill(ids, NONE);
      ids[home] = pending;
      decoder.step(ids);
      fresh = true;
    }
    if (fresh) {
      draws.look();
      fresh = false;
    }
    if (!draws.valid(home)) {
      tokens.add(NONE);
      return;
    }
    int trials = decoder.position(home) + TRIAL_TOKENS > capacity ? 1 : draws.trials(home);
    if (trials <= 1) {
      keep(draws.draw(home));
    } else {
      branch(trials);
    }
  }

  private void keep(int... more) {
    for (int token : more) {
      tokens.add(token);
      pending = token;
    }
  }

  private void branch(int trials) {
    int[] others = IntStream.range(0, sequences).filter(s -> s != home).limit(trials - 1).toArray();
    // In the order of their trials, so that ties go to the first.
    int[] all = IntStream.concat(IntStream.of(others), IntStream.of(home)).sorted().toArray();
    decoder.fork(home, others);
    draws.lookAgain();
    draws.only(all);
    int[][] drawn = new int[sequences][TRIAL_TOKENS];
    int[] counts = new int[sequences];
    for (boolean first = true;; first = false) {
      int going = draws.next(first);
      if (going < 0) {
        tokens.add(NONE);
        return;
      }
      for (int s : all) {
        if (draws.token(s) >= 0) {
          drawn[s][counts[s]++] = draws.token(s);
        }
      }
      if (going == 0) {
        home = draws.winner();
        keep(Arrays.copyOf(drawn[home], counts[home]));
        return;
      }
      decoder.step(draws.going());
      draws.look();
    }
  }

  @Override
  public void goOn() {
    // Tokens go in when the next ones are drawn.
  }

  @Override
  public int position() {
    return decoder.position(home);
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
