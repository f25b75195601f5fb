// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

/**
 * What a decoder leaves out, and what it lets one see.
 *
 * @param exit when a token may leave early
 * @param kv what then becomes of its keys and values
 * @param schedule layers by position; null: all
 * @param ffnSkip when feed-forward blocks are passed; null: never
 * @param keepLogits whether logits are written, as sampling needs them; statistics do not
 * @param observer looks on at every layer; null: nobody
 */
public record DecoderOptions(ExitPolicy exit, KvPolicy kv, Schedule schedule, FfnSkip ffnSkip,
    boolean keepLogits, LayerObserver observer) {

  /** Everything is computed. */
  public static final DecoderOptions FULL =
      new DecoderOptions(ExitPolicy.NONE, KvPolicy.PROPAGATE, null, null, false, null);

  public DecoderOptions withExit(ExitPolicy policy, KvPolicy keysAndValues) {
    return new DecoderOptions(policy, keysAndValues, schedule, ffnSkip, keepLogits, observer);
  }

  public DecoderOptions withSchedule(Schedule value) {
    return new DecoderOptions(exit, kv, value, ffnSkip, keepLogits, observer);
  }

  public DecoderOptions withFfnSkip(FfnSkip value) {
    return new DecoderOptions(exit, kv, schedule, value, keepLogits, observer);
  }

  public DecoderOptions withLogits() {
    return new DecoderOptions(exit, kv, schedule, ffnSkip, true, observer);
  }

  public DecoderOptions withObserver(LayerObserver value) {
    return new DecoderOptions(exit, kv, schedule, ffnSkip, keepLogits, value);
  }

  /** Refuses, with an {@link IllegalArgumentException}, what cannot go together. */
  public void check() {
    if (exit.mayLeave() && schedule != null) {
      throw new IllegalArgumentException("an exit rule and a schedule cannot be used together: "
          + "both say which layers run");
    }
    if (ffnSkip != null && schedule != null) {
      throw new IllegalArgumentException("skipping feed-forward blocks and a schedule cannot be "
          + "used together: the rule looks at each layer in turn");
    }
    if (ffnSkip != null && exit.mayLeave() && kv == KvPolicy.RECOMPUTE) {
      throw new IllegalArgumentException("skipping feed-forward blocks cannot be used with "
          + "recomputed keys and values: they would not be exact");
    }
  }
}
