// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import org.exeunt.InputRounding;
import org.exeunt.Screen;
import org.exeunt.engine.drop.PromptDrop;
import org.exeunt.engine.layer.LayerObserver;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.policy.ExitPolicy;
import org.exeunt.engine.policy.FfnSkip;
import org.exeunt.engine.policy.KvPolicy;
import org.exeunt.engine.policy.Schedule;

/**
 * What a decoder leaves out, and what it lets one see.
 *
 * @param exit when a token may leave early
 * @param kv what then becomes of its keys and values
 * @param schedule layers by position; null: all
 * @param ffnSkip when feed-forward blocks are passed; null: never
 * @param drop which tokens of a prompt are dropped, and where; null: none
 * @param keepLogits whether logits are written, as sampling needs them; statistics do not
 * @param screen a form of the head that proves which token is the most probable one; null: the
 *     head itself is read
 * @param observer looks on at every layer; null: none
 * @param promptInputs how the rows of a prompt are rounded to meet the layers' quantised weights;
 *     those of steps and drafts, and what meets the head, always are to 16 bits
 */
public record DecoderOptions(ExitPolicy exit, KvPolicy kv, Schedule schedule, FfnSkip ffnSkip,
    PromptDrop drop, boolean keepLogits, Screen screen, LayerObserver observer,
    InputRounding promptInputs) {
  /** Everything is computed. */
  public static final DecoderOptions FULL = new DecoderOptions(ExitPolicy.NONE, KvPolicy.PROPAGATE,
      null, null, null, false, null, null, InputRounding.INT16);

  public DecoderOptions withExit(ExitPolicy policy, KvPolicy keysAndValues) {
    return new DecoderOptions(
        policy, keysAndValues, schedule, ffnSkip, drop, keepLogits, screen, observer, promptInputs);
  }

  public DecoderOptions withSchedule(Schedule value) {
    return new DecoderOptions(
        exit, kv, value, ffnSkip, drop, keepLogits, screen, observer, promptInputs);
  }

  public DecoderOptions withFfnSkip(FfnSkip value) {
    return new DecoderOptions(
        exit, kv, schedule, value, drop, keepLogits, screen, observer, promptInputs);
  }

  public DecoderOptions withDrop(PromptDrop value) {
    return new DecoderOptions(
        exit, kv, schedule, ffnSkip, value, keepLogits, screen, observer, promptInputs);
  }

  public DecoderOptions withLogits() {
    return new DecoderOptions(
        exit, kv, schedule, ffnSkip, drop, true, screen, observer, promptInputs);
  }

  public DecoderOptions withScreen(Screen value) {
    return new DecoderOptions(
        exit, kv, schedule, ffnSkip, drop, keepLogits, value, observer, promptInputs);
  }

  public DecoderOptions withObserver(LayerObserver value) {
    return new DecoderOptions(
        exit, kv, schedule, ffnSkip, drop, keepLogits, screen, value, promptInputs);
  }

  public DecoderOptions withPromptInputs(InputRounding value) {
    return new DecoderOptions(
        exit, kv, schedule, ffnSkip, drop, keepLogits, screen, observer, value);
  }

  /**
   * Refuses, with an {@link IllegalArgumentException}, what cannot go together, or with a model,
   * before anything is made.
   *
   * @param certified whether there will be a screen
   */
  public void check(LlamaConfig config, boolean certified) {
    check();
    if (certified) {
      checkCertified();
    }
    if (drop != null && config.localPeriod() > 1) {
      throw new IllegalArgumentException("dropping tokens cannot be used with a model whose "
          + "layers see a window: its methods go by what a layer sees of the whole prompt");
    }
  }

  /** Whether answers are the model's own. */
  public boolean leavesNothingOut() {
    return !exit.mayLeave() && schedule == null && ffnSkip == null && drop == null
        && promptInputs == InputRounding.INT16;
  }

  private void checkCertified() {
    if (keepLogits) {
      throw new IllegalArgumentException("a certified head and a temperature cannot be used "
          + "together: a draw needs all logits, of which such a head has a few");
    }
    if (exit.readsHead()) {
      throw new IllegalArgumentException("a certified head cannot be used with an exit rule that "
          + "reads the head: it is made for the states after the last layer");
    }
  }

  /** Refuses, with an {@link IllegalArgumentException}, what cannot go together. */
  public void check() {
    if (exit.mayLeave() && schedule != null) {
      throw new IllegalArgumentException("an exit rule and a schedule cannot be used together: "
          + "both say which layers run");
    }
    if (screen != null) {
      checkCertified();
    }
    if (ffnSkip != null && schedule != null) {
      throw new IllegalArgumentException("skipping feed-forward blocks and a schedule cannot be "
          + "used together: the rule looks at each layer in turn");
    }
    if (ffnSkip != null && exit.mayLeave() && kv == KvPolicy.RECOMPUTE) {
      throw new IllegalArgumentException("skipping feed-forward blocks cannot be used with "
          + "recomputed keys and values: they would not be exact");
    }
    if (drop != null && (schedule != null || ffnSkip != null)) {
      throw new IllegalArgumentException("dropping tokens cannot be used together with "
          + (schedule != null ? "a schedule: its methods name layers that run"
                              : "skipping "
                      + "feed-forward blocks: the rule follows each token through all layers"));
    }
  }
}
