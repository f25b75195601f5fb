// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import java.nio.FloatBuffer;
import java.util.Arrays;
import org.exeunt.engine.model.LlamaWeights;

/**
 * A text read token by token after a prompt, each token given whatever the model would have said:
 * what a method predicts, and what it computes and leaves out.
 *
 * @param argmax the most probable token after each step
 * @param meanNll mean negative log-likelihood of the tokens that came
 * @param nanos time of all steps
 * @param work what the steps computed
 */
public record TextRun(int[] argmax, double meanNll, long nanos, DecodeWork work) {
  /** Reads {@code ids}, of which the first {@code prompt} go in at once. */
  public static TextRun of(LlamaWeights weights, DecoderOptions options, int[] ids, int prompt) {
    int steps = ids.length - prompt;
    int[] argmax = new int[steps];
    double nll = 0;
    long nanos = 0;
    int[] token = new int[1];
    try (Decoder decoder = new Decoder(weights, options.withLogits(), 1, ids.length)) {
      FloatBuffer logits = decoder.logits().floatBuffer();
      FloatBuffer lse = decoder.statistics().lse().floatBuffer();
      decoder.prefill(0, Arrays.copyOf(ids, prompt));
      for (int i = 0; i < steps; i++) {
        token[0] = ids[prompt + i];
        long start = System.nanoTime();
        decoder.step(token);
        nanos += System.nanoTime() - start;
        argmax[i] = decoder.argmax(0);
        if (i + 1 < steps) {
          nll += lse.get(0) - logits.get(ids[prompt + i + 1]);
        }
      }
      return new TextRun(argmax, nll / Math.max(1, steps - 1), nanos, decoder.work());
    }
  }

  public double tokensPerSecond() {
    return 1e9 * argmax.length / nanos;
  }

  /** Share of the steps that predict the same token as {@code other}. */
  public double agreement(TextRun other) {
    int same = 0;
    for (int i = 0; i < argmax.length; i++) {
      same += argmax[i] == other.argmax[i] ? 1 : 0;
    }
    return (double) same / argmax.length;
  }

  public double perplexity() {
    return Math.exp(meanNll);
  }

  /** Share of the weights of a full-depth run that were not read. */
  public double notRead() {
    return 1 - (double) work.bytes() / work.bytesAtFullDepth();
  }

  public double layersSkipped() {
    return 1 - (double) work.layers() / work.layersAtFullDepth();
  }

  public double feedForwardsSkipped() {
    return 1 - (double) work.feedForwards() / work.layersAtFullDepth();
  }
}
