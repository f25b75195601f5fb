// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.answer;

import org.exeunt.engine.decode.DecodeWork;

/** The tokens that follow a prompt, one after the other. */
public interface Answer extends AutoCloseable {
  /** What {@link #next} gives once the answer is over, where no token of the model says so. */
  int ENDED = -2;

  /**
   * Takes a prompt in.
   *
   * @throws IllegalArgumentException if it is empty, or there is no room for all of it
   */
  void begin(int... prompt);

  /**
   * Takes in more of a conversation, after the {@link #position} tokens that it has taken in.
   *
   * @throws IllegalArgumentException if there is none, or no room for all of it
   * @throws UnsupportedOperationException if this is an answer to one prompt
   */
  default void resume(int... more) {
    throw new UnsupportedOperationException("this answers one prompt");
  }

  /** The token that follows, to be asked for once; {@link #ENDED}, or -1: its logits are no numbers. */
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

  /** Whether it is over because the model is not sure enough of it. */
  default boolean abstained() {
    return false;
  }

  @Override void close();
}
