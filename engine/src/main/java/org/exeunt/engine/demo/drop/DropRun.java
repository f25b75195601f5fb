// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.demo.drop;

import java.nio.FloatBuffer;
import java.util.Arrays;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.decode.RowHead;
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
      argmax[0] = decoder.argmax(0);
      nll += lse.get(0) - logits.get(ids[prompt]);
      for (int done = 1; done < steps;) {
        int rows = Math.min(steps - done, decoder.mostRows());
        nll += given(decoder, ids, prompt + done, argmax, done, rows);
        done += rows;
      }
      return new DropRun(argmax, nll / steps, nanos, bytes, kept);
    }
  }

  /**
   * Appends {@code rows} tokens in one pass, up to that before {@code next}, of each of which comes
   * out what a step of its own would give, and returns how unlikely those that came were.
   */
  private static double given(
      Decoder decoder, int[] ids, int next, int[] argmax, int first, int rows) {
    int layers = decoder.weights().config().layers();
    decoder.beginPass();
    for (int r = 0; r < rows; r++) {
      decoder.addRow(0, ids[next - 1 + r], r);
    }
    decoder.embedRows();
    decoder.runRows(0, layers);
    RowHead head = decoder.readRows();
    FloatBuffer lse = head.head().statistics().lse().floatBuffer();
    double nll = 0;
    for (int r = 0; r < rows; r++) {
      argmax[first + r] = head.argmax(r);
      nll += lse.get(r) - head.logits(r).get(ids[next + r]);
    }
    decoder.keepTokens(0, rows, rows);
    return nll;
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
