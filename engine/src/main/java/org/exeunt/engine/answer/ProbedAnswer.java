// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.answer;

import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.util.function.IntPredicate;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Scope;
import org.exeunt.StopRule;
import org.exeunt.Tensor;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.decode.Sampler;

/**
 * An answer that is over as soon as the model is sure of it (ConCISE; Qiao et al. 2025): every so
 * many tokens a {@link Probe} goes in after it, a {@link StopRule} decides by what comes out, and
 * the keys and values of the probe are forgotten, so that the tokens are those of an answer that
 * no one asks.
 */
public final class ProbedAnswer extends HostAnswer {
  private final Scope scope = Scope.open();
  private final Probe probe;
  private final IntPredicate ends;
  private final FloatBuffer logits;
  private final FloatBuffer lse;
  private final FloatBuffer confidence; // null: the rule reads it off the logits
  private final StopRule rule;
  private final IntBuffer reason;
  private int given;
  private int asked;
  private double surest;
  private StopRule.Reason state = StopRule.Reason.RUNNING;

  /**
   * @param decoder closed with this; of one sequence, keeps its logits
   * @param sampler draws from logits; null: the most probable token
   * @param ends which tokens end an answer
   */
  public ProbedAnswer(Decoder decoder, Sampler sampler, Probe probe, IntPredicate ends) {
    super(decoder, sampler);
    this.probe = probe;
    this.ends = ends;
    Tensor rows = decoder.logits();
    logits = rows.row(0).floatBuffer();
    lse = decoder.statistics().lse().floatBuffer();
    Tensor nothing = scope.allocate(Device.CPU, DType.I32, 1).copyFrom(new int[] {-1});
    Tensor why = scope.allocate(Device.CPU, DType.I32, 1);
    reason = why.intBuffer();
    StopRule.Builder builder =
        StopRule.builder()
            .vocabulary((int) rows.size(1))
            .token(nothing)
            .state(StopRule.allocateState(scope, Device.CPU, 1))
            .reason(why);
    if (probe.words().length > 0) {
      confidence = null;
      Tensor words = scope.allocate(Device.CPU, DType.I32, probe.words().length);
      builder.logits(rows, decoder.statistics().lse(), 1)
          .answer(words.copyFrom(probe.words()), probe.confidentAt(), probe.abstainBelow());
    } else {
      Tensor mean = scope.allocate(Device.CPU, DType.F32, 1);
      confidence = mean.floatBuffer();
      builder.confidence(mean, probe.confidentAt(), probe.abstainBelow());
    }
    rule = builder.build(scope);
  }

  /** Refuses what makes layers hold different tokens, of which none could be forgotten. */
  public static void check(DecoderOptions options) {
    if (options.exit().mayLeave() || options.schedule() != null || options.drop() != null) {
      throw new IllegalArgumentException(
          "a probe is forgotten by all layers alike, so it cannot be "
          + "used with "
          + (options.exit().mayLeave() ? "an exit rule"
                  : options.schedule() != null
                  ? "a schedule"
                  : "dropped tokens"));
    }
  }

  @Override
  public void begin(int... prompt) {
    super.begin(prompt);
    given = 0;
    asked = 0;
    surest = 0;
    state = StopRule.Reason.RUNNING;
  }

  @Override
  public void resume(int... more) {
    throw new UnsupportedOperationException("a probed answer is to one prompt");
  }

  @Override
  public int next() {
    int token = super.next();
    if (token >= 0 && !ends.test(token) && given > 0 && given % probe.every() == 0
        && probe.room() <= decoder.capacity() - decoder.position(0)) {
      ask();
      if (state != StopRule.Reason.RUNNING) {
        return ENDED;
      }
    }
    given++;
    return token;
  }

  private void ask() {
    int before = decoder.position(0);
    decoder.prefill(0, probe.question());
    double sure = confidence == null ? found() : answered();
    if (confidence != null) {
      confidence.put(0, (float) sure);
    }
    rule.run(asked == 0);
    asked++;
    surest = Math.max(surest, sure);
    state = StopRule.Reason.values()[reason.get(0)];
    decoder.forget(0, decoder.position(0) - before);
  }

  /** The probability of the words, which the rule finds as well. */
  private double found() {
    double sum = 0;
    for (int word : probe.words()) {
      sum += Math.exp(logits.get(word) - lse.get(0));
    }
    return sum;
  }

  /** The geometric mean of what the tokens are given that the model answers with. */
  private double answered() {
    double sum = 0;
    int count = 0;
    int[] next = new int[1];
    do {
      if (count > 0) {
        decoder.step(next);
      }
      next[0] = decoder.argmax(0);
      if (next[0] < 0) {
        return Double.NaN;
      }
      sum += logits.get(next[0]) - lse.get(0);
      count++;
    } while (count < probe.trial() && !ends.test(next[0]));
    return Math.exp(Math.min(0, sum / count));
  }

  /** How often the model was asked. */
  public int asked() {
    return asked;
  }

  /** How sure it was at most. */
  public double surest() {
    return surest;
  }

  /** Whether it is over because the model is sure of it. */
  public boolean isConfident() {
    return state == StopRule.Reason.CONFIDENT;
  }

  @Override
  public boolean abstained() {
    return state == StopRule.Reason.ABSTAINED;
  }

  @Override
  public void close() {
    scope.close();
    super.close();
  }
}
