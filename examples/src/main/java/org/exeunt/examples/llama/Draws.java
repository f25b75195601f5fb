// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.util.Arrays;
import java.util.function.UnaryOperator;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.RowStats;
import org.exeunt.Scope;
import org.exeunt.Statistic;
import org.exeunt.Statistics;
import org.exeunt.StopRule;
import org.exeunt.Tensor;
import org.exeunt.TokenBias;

/** Draws the next tokens of a decoder's sequences, and asks a rule which of them go on. */
final class Draws implements AutoCloseable {
  private static final int NONE = -1;
  /** Seeds of other sequences lie apart. */
  private static final long GOLDEN = 0x9e3779b97f4a7c15L;

  private final Scope scope = Scope.open();
  private final Sampler[] samplers;
  private final FloatBuffer[] logits;
  private final TokenBias bias; // null: none
  private final RowStats measure;
  private final StopRule rule;
  private final ByteBuffer valid;
  private final IntBuffer tokens;
  private final IntBuffer reasons;
  private final IntBuffer trials;
  private final IntBuffer winner;
  private final IntBuffer active;
  private final FloatBuffer takesPart;

  /**
   * @param decoder keeps its logits; has as many sequences as there are samples
   * @param ends tokens that end an answer
   * @param stops tokens that end a sample
   * @param settings what else the rule is to know
   */
  Draws(Decoder decoder, Sampling sampling, int[] ends, int[] stops,
      UnaryOperator<StopRule.Builder> settings) {
    int count = sampling.samples();
    Tensor rows = decoder.logits();
    int vocabulary = (int) rows.size(1);
    samplers = new Sampler[count];
    logits = new FloatBuffer[count];
    for (int s = 0; s < count; s++) {
      samplers[s] = new Sampler(
          vocabulary, sampling.temperature(), sampling.topP(), sampling.seed() + s * GOLDEN);
      logits[s] = rows.row(s).floatBuffer();
    }
    bias = sampling.endBias() == 0
        ? null
        : TokenBias.builder().logits(rows).ids(integers(ends)).add(sampling.endBias()).build(scope);
    Statistics found = Statistics.allocate(scope, Device.CPU, count, Statistic.LSE,
        Statistic.ENTROPY, Statistic.MEAN_LOG_P, Statistic.VALID);
    measure =
        RowStats.builder().logits(rows).temperature(sampling.temperature()).out(found).build(scope);
    valid = found.valid().byteBuffer();
    Tensor token = scope.allocate(Device.CPU, DType.I32, count);
    Tensor reason = scope.allocate(Device.CPU, DType.I32, count);
    Tensor wanted = scope.allocate(Device.CPU, DType.I32, count);
    Tensor best = scope.allocate(Device.CPU, DType.I32, 1);
    Tensor going = scope.allocate(Device.CPU, DType.I32, 1);
    Tensor confidence = scope.allocate(Device.CPU, DType.F32, count);
    rule =
        settings
            .apply(StopRule.builder()
                    .vocabulary(vocabulary)
                    .stopIds(integers(stops))
                    .token(token)
                    .logits(rows, found.lse(), sampling.temperature())
                    .meanLogP(found.meanLogP())
                    .entropy(found.entropy())
                    // Whoever takes no part abstains.
                    .confidence(confidence, 0, .5f)
                    .state(StopRule.allocateState(scope, Device.CPU, count))
                    .reason(reason)
                    .trials(wanted)
                    .trialRange(.01f, 1.5f, count)
                    .activeCount(going)
                    .winner(best))
            .build(scope);
    tokens = token.intBuffer();
    reasons = reason.intBuffer();
    trials = wanted.intBuffer();
    winner = best.intBuffer();
    active = going.intBuffer();
    takesPart = confidence.floatBuffer();
  }

  private Tensor integers(int... values) {
    return scope.allocate(Device.CPU, DType.I32, values.length).copyFrom(values);
  }

  /** The decoder has new logits. */
  void look() {
    if (bias != null) {
      bias.run();
    }
    measure.run();
  }

  /** Sequences have become what others are. */
  void lookAgain() {
    measure.run();
  }

  /** Whether a sequence's logits are numbers. */
  boolean valid(int sequence) {
    return valid.get(sequence) != 0;
  }

  /** How many branches the next token of a sequence is worth. */
  int trials(int sequence) {
    only(sequence);
    forgetTokens();
    rule.run(true);
    return trials.get(sequence);
  }

  /** From now on these alone are drawn for. */
  void only(int... sequences) {
    for (int s = 0; s < samplers.length; s++) {
      takesPart.put(s, 0);
    }
    for (int s : sequences) {
      takesPart.put(s, Float.NaN);
    }
  }

  /** A token that nobody asks a rule about. */
  int draw(int sequence) {
    return samplers[sequence].draw(logits[sequence]);
  }

  /**
   * Draws a token for each sequence that goes on.
   *
   * @param first whether these are the first ones
   * @return how many go on behind it; -1 if somebody's logits are not numbers
   */
  int next(boolean first) {
    for (int s = 0; s < samplers.length; s++) {
      boolean draws = Float.isNaN(takesPart.get(s))
          && (first || reasons.get(s) == StopRule.Reason.RUNNING.ordinal());
      if (draws && !valid(s)) {
        return -1;
      }
      tokens.put(s, draws ? draw(s) : NONE);
    }
    rule.run(first);
    return active.get(0);
  }

  /** What a sequence has just drawn; negative: nothing. */
  int token(int sequence) {
    return tokens.get(sequence);
  }

  /** What each sequence is to take in: a negative number where it has ended. */
  int[] going() {
    int[] ids = new int[samplers.length];
    Arrays.setAll(
        ids, s -> reasons.get(s) == StopRule.Reason.RUNNING.ordinal() ? tokens.get(s) : NONE);
    return ids;
  }

  /** Which sequence won; -1: none. */
  int winner() {
    return winner.get(0);
  }

  private void forgetTokens() {
    for (int s = 0; s < samplers.length; s++) {
      tokens.put(s, NONE);
    }
  }

  @Override
  public void close() {
    scope.close();
  }
}
