// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.evaluate;

/**
 * What a method made of some prompts. A figure that would divide by nothing is no finite number.
 *
 * @param method its options; empty: none
 * @param group of prompts; empty: all of them
 * @param prompts that it answered
 * @param differing of them, whose answers are not those without a method
 * @param tokens that were decoded after the first of each answer, in all turns
 * @param speed how fast
 * @param verdict what that says
 * @param perPass tokens for each pass through the layers
 * @param acceptance of what was drafted, the share that was right
 * @param bytes of weights read per token
 * @param agreement share of the tokens that are those without a method
 * @param perplexity of the answers without a method
 */
record Outcome(String method, Kind kind, String group, int prompts, int differing, long tokens,
    Speed speed, String verdict, double perPass, double acceptance, double bytes, double agreement,
    double perplexity) {
  /** The plain decoder is to be beside itself within so much where there is to be a verdict. */
  static final double NOISE = 0.1;

  /** What may become of an answer. */
  enum Kind {
    PLAIN,
    /** Nothing: drafts, and a certified head. */
    LOSSLESS,
    CHANGE;

    /** Whether the answer is that of the plain decoder, whatever the model. */
    boolean exact() {
      return this != CHANGE;
    }
  }

  /** How it is called where nothing would be too short. */
  String name() {
    return method.isEmpty() ? "plain" : method;
  }

  /** Whether it broke its promise. */
  boolean failed() {
    return kind.exact() && differing > 0;
  }

  /** Whether it has a place in a plot. */
  boolean hasPlace() {
    return Double.isFinite(speed.ratio()) && Double.isFinite(agreement);
  }
}
