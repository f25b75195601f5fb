// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.evaluate;

/**
 * What a method made of some prompts.
 *
 * @param method its options; empty: none
 * @param group of prompts; empty: all of them
 * @param tokens that were decoded behind the first of each answer
 * @param perSecond of them; NaN, as all that goes by them, if there are none
 * @param speed the same, of what no method decoded in the same minutes
 * @param perPass tokens for each pass through the layers
 * @param acceptance of what was drafted, the share that was right; NaN: nothing was
 * @param bytes of weights read per token
 * @param agreement share of the tokens that are those without a method
 * @param perplexity of the answers without a method
 */
record Outcome(String method, String group, long tokens, double perSecond, double speed,
    double perPass, double acceptance, double bytes, double agreement, double perplexity) {
  /** How it is called where nothing would be too short. */
  String name() {
    return method.isEmpty() ? "plain" : method;
  }

  /** Whether the answer is that of the plain decoder whatever the model. */
  boolean exact() {
    return method.isEmpty() || method.contains("--speculate");
  }
}
