// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.demo.drop;

import java.nio.FloatBuffer;
import java.util.Arrays;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.model.LlamaWeights;

/**
 * A long prompt and what follows it, each token given: what a method remembers and predicts.
 *
 * @param argmax the most probable token after the prompt, and after each token but the last
 * @param meanNll mean negative log-likelihood of the tokens that came
 * @param prefillNanos time from the prompt to the first token
 * @param cacheBytes keys and values that the prompt leaves
 * @param kept tokens that the topmost layer remembers
 */
record DropRun(int[] argmax, double meanNll, long prefillNanos, long cacheBytes, int kept) {
  /** How many predictions are compared. */
  static final int COMPARED = 32;

  /** Reads {@code ids}, of which the first {@code prompt} go in at once. */
  static DropRun of(LlamaWeights weights, DecoderOptions options, int[] ids, int prompt) {
    int steps = ids.length - prompt;
    int[] argmax = new int[steps];
    double nll = 0;
    try (Decoder decoder = new Decoder(weights, options.withLogits(), 1, ids.length)) {
      FloatBuffer logits = decoder.logits().floatBuffer();
      FloatBuffer lse = decoder.statistics().lse().floatBuffer();
      long start = System.nanoTime();
      decoder.prefill(0, Arrays.copyOf(ids, prompt));
      long nanos = System.nanoTime() - start;
      long bytes = decoder.kv().bytesInUse();
      int kept = decoder.kv().length(weights.config().layers() - 1, 0);
      for (int i = 0; i < steps; i++) {
        argmax[i] = decoder.argmax(0);
        nll += lse.get(0) - logits.get(ids[prompt + i]);
        if (i + 1 < steps) {
          decoder.step(ids[prompt + i]);
        }
      }
      return new DropRun(argmax, nll / steps, nanos, bytes, kept);
    }
  }

  double perplexity() {
    return Math.exp(meanNll);
  }

  /** Share of the first predictions that are the same as {@code other}'s. */
  double agreement(DropRun other) {
    int compared = Math.min(COMPARED, argmax.length);
    int same = 0;
    for (int i = 0; i < compared; i++) {
      same += argmax[i] == other.argmax[i] ? 1 : 0;
    }
    return (double) same / compared;
  }
}
