// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.policy;

/**
 * When a token may pass a feed-forward block (FFN-SkipLLM). None of these has a known good value:
 * calibrate them for each model, see {@code FfnCalibration}.
 *
 * @param coldStart first layer that may be passed
 * @param coldEnd first layer after those
 * @param warmUp tokens that run in full
 * @param threshold cosine of a block's input and output from which the following ones are passed
 * @param budget most blocks one token may pass; -1: no limit
 */
public record FfnSkip(int coldStart, int coldEnd, int warmUp, float threshold, int budget) {
  /** The form that {@link #parse} takes. */
  public static final String FORM = "COLD_START,COLD_END,WARM_UP,TAU[,BUDGET]";

  /** Reads an option; null for {@code none}. */
  public static FfnSkip parse(String text, int layers) {
    if (text.equals("none")) {
      return null;
    }
    Arguments numbers = new Arguments("--ffn-skip", text, 4, 5, FORM + " or none");
    int start = numbers.integer(0, "the cold start", 0, layers);
    return new FfnSkip(start, numbers.integer(1, "the cold end", start, layers),
        numbers.integer(2, "the warm-up", 0, Integer.MAX_VALUE), numbers.number(3, "the threshold"),
        numbers.count() < 5 ? -1 : numbers.integer(4, "the budget", -1, layers));
  }
}
