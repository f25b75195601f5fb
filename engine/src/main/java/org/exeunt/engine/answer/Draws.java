// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.answer;

import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.util.Arrays;
import java.util.BitSet;
import java.util.function.UnaryOperator;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.RowStats;
import org.exeunt.Scope;
import org.exeunt.Statistic;
import org.exeunt.Statistics;
import org.exeunt.StopRule;
import org.exeunt.Tensor;
import org.exeunt.TokenBias;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.Sampler;

/**
 * Draws the next tokens of samples, and asks a rule which of them go on. Each is a sequence of the
 * decoder, until one with fewer sequences is looked at instead.
 */
final class Draws implements AutoCloseable {
  private static final int NONE = -1;
  /** Below this a row that takes no part abstains, where no other does. */
  private static final float HALF = .5f;

  private final Scope scope = Scope.open();
  private final Sampling sampling;
  private final int[] ends;
  private final BitSet stops = new BitSet();
  private final int budget;
  private final Sampler[] samplers;
  private final StopRule rule;
  private final IntBuffer tokens;
  private final IntBuffer reasons;
  private final IntBuffer trials;
  private final IntBuffer winner;
  private final IntBuffer active;
  private final FloatBuffer scores;
  private final FloatBuffer logP;
  private final FloatBuffer meanLogP;
  private final FloatBuffer entropy;
  private final FloatBuffer confidence; // 0: takes no part; NaN: not known
  private final double[] sums; // of ln p
  private final int[] counts; // of tokens
  private View view;

  /** The logits of a decoder, and what is measured of them. */
  private static final class View implements AutoCloseable {
    private final Scope scope = Scope.open();
    private final int[] samples; // of each sequence
    private final FloatBuffer[] logits;
    private final TokenBias bias; // null: none
    private final RowStats measure;
    private final FloatBuffer lse;
    private final FloatBuffer meanLogP;
    private final FloatBuffer entropy;
    private final ByteBuffer valid;
    private final int[] rows; // of each sample

    View(Tensor rows, Sampling sampling, int[] ends, int... samples) {
      this.samples = samples;
      this.rows = new int[sampling.samples()];
      for (int row = 0; row < samples.length; row++) {
        this.rows[samples[row]] = row;
      }
      logits = new FloatBuffer[samples.length];
      Arrays.setAll(logits, row -> rows.row(row).floatBuffer());
      bias = sampling.endBias() == 0
          ? null
          : TokenBias.builder()
                .logits(rows)
                .ids(integers(scope, ends))
                .add(sampling.endBias())
                .build(scope);
      Statistics found = Statistics.allocate(scope, Device.CPU, samples.length, Statistic.LSE,
          Statistic.ENTROPY, Statistic.MEAN_LOG_P, Statistic.VALID);
      measure =
          RowStats.builder()
              .logits(rows)
              .temperature(sampling.temperature())
              .out(found)
              .build(scope);
      lse = found.lse().floatBuffer();
      meanLogP = found.meanLogP().floatBuffer();
      entropy = found.entropy().floatBuffer();
      valid = found.valid().byteBuffer();
    }

    @Override
    public void close() {
      scope.close();
    }
  }

  /**
   * @param decoder keeps its logits; has as many sequences as there are samples
   * @param ends tokens that end an answer
   * @param stops tokens that end a sample
   * @param budget the most tokens of a sample
   * @param settings what else the rule is to know
   */
  Draws(Decoder decoder, Sampling sampling, int[] ends, int[] stops, int budget,
      UnaryOperator<StopRule.Builder> settings) {
    int count = sampling.samples();
    this.sampling = sampling;
    this.ends = ends;
    this.budget = budget;
    IntStream.of(stops).forEach(this.stops::set);
    int vocabulary = (int) decoder.logits().size(1);
    samplers = new Sampler[count];
    for (int s = 0; s < count; s++) {
      samplers[s] =
          new Sampler(vocabulary, sampling.temperature(), sampling.topP(), sampling.seed(s));
    }
    sums = new double[count];
    counts = new int[count];
    Tensor token = scope.allocate(Device.CPU, DType.I32, count);
    Tensor reason = scope.allocate(Device.CPU, DType.I32, count);
    Tensor wanted = scope.allocate(Device.CPU, DType.I32, count);
    Tensor best = scope.allocate(Device.CPU, DType.I32, 1);
    Tensor going = scope.allocate(Device.CPU, DType.I32, 1);
    Tensor[] floats = new Tensor[5];
    Arrays.setAll(floats, i -> scope.allocate(Device.CPU, DType.F32, count));
    rule =
        settings
            .apply(StopRule.builder()
                    .vocabulary(vocabulary)
                    .stopIds(integers(scope, stops))
                    .token(token)
                    .logP(floats[0])
                    .meanLogP(floats[1])
                    .entropy(floats[2])
                    .confidence(
                        floats[3], 0, sampling.abstainBelow() > 0 ? sampling.abstainBelow() : HALF)
                    .score(floats[4])
                    .state(StopRule.allocateState(scope, Device.CPU, count))
                    .budget(budget)
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
    logP = floats[0].floatBuffer();
    meanLogP = floats[1].floatBuffer();
    entropy = floats[2].floatBuffer();
    confidence = floats[3].floatBuffer();
    scores = floats[4].floatBuffer();
    view = new View(decoder.logits(), sampling, ends, IntStream.range(0, count).toArray());
  }

  private static Tensor integers(Scope scope, int... values) {
    return scope.allocate(Device.CPU, DType.I32, values.length).copyFrom(values);
  }

  /** From now on {@code decoder} is looked at, whose sequences are these samples. */
  void follow(Decoder decoder, int... samples) {
    view.close();
    view = new View(decoder.logits(), sampling, ends, samples);
  }

  /** The decoder has new logits. */
  void look() {
    if (view.bias != null) {
      view.bias.run();
    }
    lookAgain();
  }

  /** Sequences have become what others are. */
  void lookAgain() {
    view.measure.run();
    for (int row = 0; row < view.samples.length; row++) {
      meanLogP.put(view.samples[row], view.meanLogP.get(row));
      entropy.put(view.samples[row], view.entropy.get(row));
    }
  }

  /** Whether a sample's logits are numbers. */
  boolean valid(int sample) {
    return view.valid.get(view.rows[sample]) != 0;
  }

  /** How many branches the next token of a sample is worth. */
  int trials(int sample) {
    only(sample);
    forgetTokens();
    rule.run(true);
    return trials.get(sample);
  }

  /** From now on these alone are drawn for. */
  void only(int... samples) {
    for (int s = 0; s < samplers.length; s++) {
      confidence.put(s, 0);
    }
    for (int s : samples) {
      confidence.put(s, Float.NaN);
    }
  }

  /** A token that no rule is asked about. */
  int draw(int sample) {
    return samplers[sample].draw(view.logits[view.rows[sample]]);
  }

  /**
   * Draws a token for each sample that goes on.
   *
   * @param first whether these are the first ones
   * @return how many go on after it; -1 if somebody's logits are not numbers
   */
  int next(boolean first) {
    if (first) {
      Arrays.fill(sums, 0);
      Arrays.fill(counts, 0);
    }
    for (int s = 0; s < samplers.length; s++) {
      boolean draws = Float.isNaN(confidence.get(s)) && (first || isRunning(s));
      if (draws && !valid(s)) {
        return -1;
      }
      tokens.put(s, draws ? draw(s) : NONE);
      if (draws) {
        int row = view.rows[s];
        float z = view.logits[row].get(tokens.get(s));
        logP.put(s, z / sampling.temperature() - view.lse.get(row));
        sums[s] += logP.get(s);
        counts[s]++;
      }
    }
    boolean fresh = first;
    if (sampling.abstainBelow() > 0) {
      letAbstain(first);
      fresh = false;
      if (active.get(0) == 0) {
        return 0;
      }
    }
    rule.run(fresh);
    return active.get(0);
  }

  /** Asks the rule, before it hears of their last tokens, whether samples that end are sure enough. */
  private void letAbstain(boolean first) {
    int[] drawn = new int[samplers.length];
    for (int s = 0; s < drawn.length; s++) {
      drawn[s] = tokens.get(s);
      if (drawn[s] >= 0 && (stops.get(drawn[s]) || counts[s] == budget)) {
        confidence.put(s, (float) Math.exp(sums[s] / counts[s]));
      }
    }
    forgetTokens();
    rule.run(first);
    for (int s = 0; s < drawn.length; s++) {
      if (drawn[s] >= 0) {
        confidence.put(s, Float.NaN);
        tokens.put(s, isRunning(s) ? drawn[s] : NONE);
      }
    }
  }

  private boolean isRunning(int sample) {
    return reasons.get(sample) == StopRule.Reason.RUNNING.ordinal();
  }

  /** What a sample has just drawn; negative: nothing. */
  int token(int sample) {
    return tokens.get(sample);
  }

  /** The samples that go on. */
  int[] running() {
    return IntStream.range(0, samplers.length).filter(this::isRunning).toArray();
  }

  /** Where in the decoder a sample that goes on is. */
  int sequenceOf(int sample) {
    return view.rows[sample];
  }

  /** What each sequence is to take in: a negative number where it has ended. */
  int[] going() {
    return IntStream.of(view.samples).map(s -> isRunning(s) ? tokens.get(s) : NONE).toArray();
  }

  /** Which sample won; -1: none. */
  int winner() {
    return winner.get(0);
  }

  /** Why a sample ended. */
  StopRule.Reason reason(int sample) {
    return StopRule.Reason.values()[reasons.get(sample)];
  }

  /** What the rule chooses by, of each sample. */
  float[] scores() {
    float[] all = new float[samplers.length];
    scores.get(0, all);
    return all;
  }

  private void forgetTokens() {
    for (int s = 0; s < samplers.length; s++) {
      tokens.put(s, NONE);
    }
  }

  @Override
  public void close() {
    view.close();
    scope.close();
  }
}
