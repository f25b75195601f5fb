// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

/** The tokens that follow a prompt, one after the other. */
public interface Answer extends AutoCloseable {
  /**
   * Takes a prompt in.
   *
   * @throws IllegalArgumentException if it is empty, or there is no room for all of it
   */
  void begin(int... prompt);

  /** The token that follows, to be asked for once; -1 if its logits are not numbers. */
  int next();

  /**
   * Takes in the token that {@link #next} gave.
   *
   * @throws IllegalArgumentException if there is no room for it
   */
  void goOn();

  /** Tokens that were taken in. */
  int position();

  /** What the tokens since the prompt have cost. */
  DecodeWork work();

  @Override void close();
}
