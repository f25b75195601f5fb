// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import java.util.Arrays;
import java.util.function.BooleanSupplier;
import org.exeunt.engine.layer.LayerObserver;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.model.LlamaWeights;

/** A text that a model reads, and what it goes on with: states to measure and to fit on. */
public final class OwnText {
  private static final int SEQUENCES = 8;
  private static final long SEED = 1;

  private OwnText() {}

  /**
   * Runs the text, each of {@value #SEQUENCES} sequences a piece of it, and then whatever the model
   * draws.
   *
   * @param states about how many are wanted
   * @param observer sees all of them
   * @param goesOn asked before each step
   * @param text tokens, at least {@value #SEQUENCES}
   */
  public static void run(LlamaWeights weights, int states, LayerObserver observer,
      BooleanSupplier goesOn, int... text) {
    LlamaConfig config = weights.config();
    int capacity = Math.min(config.context(), text.length / SEQUENCES + 2 + states / SEQUENCES);
    DecoderOptions options = DecoderOptions.FULL.withLogits().withObserver(observer);
    try (Decoder decoder = new Decoder(weights, options, SEQUENCES, capacity)) {
      int longest = Math.max(1, capacity - 2 - states / SEQUENCES); // of a model of little context
      for (int s = 0; s < SEQUENCES; s++) {
        int begin = text.length * s / SEQUENCES;
        int end = Math.min(text.length * (s + 1) / SEQUENCES, begin + longest);
        decoder.prefill(s, Arrays.copyOfRange(text, begin, end));
      }
      Sampler sampler = new Sampler(config.vocabulary(), 1, 1, SEED);
      int[] next = new int[SEQUENCES];
      while (goesOn.getAsBoolean() && decoder.position(0) + 1 < capacity) {
        for (int s = 0; s < SEQUENCES; s++) {
          next[s] = sampler.draw(decoder.logits().rows(s, s + 1).floatBuffer());
        }
        decoder.step(next);
      }
    }
  }
}
