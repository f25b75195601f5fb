// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate;

import org.exeunt.engine.decode.DecodeWork;

/**
 * Goes on with some sequences by rounds: in each, some tokens are drafted for every sequence, and
 * the model takes all of them in with one pass and keeps those that it would have chosen itself.
 */
public interface Rounds extends AutoCloseable {
  /**
   * Takes in the prompt of a sequence, which is new; its first token is then there.
   *
   * @throws IllegalArgumentException if there is no id, or no room for all of them
   */
  void prefill(int sequence, int... ids);

  /**
   * Takes in more of a sequence, after its first {@code kept} tokens; what drafts are made of is
   * read again. The first token that follows is then there.
   *
   * @throws IllegalArgumentException if there is no id, or no room for all of them
   * @throws UnsupportedOperationException if its sequences are prompts and answers
   */
  default void resume(int sequence, int kept, int... ids) {
    throw new UnsupportedOperationException("its sequences are prompts and answers");
  }

  /** Forgets a sequence, so that another prompt may begin it. */
  void restart(int sequence);

  /**
   * Finds at least one more token for each sequence that has not ended.
   *
   * @throws IllegalArgumentException if all have ended, or there is no room for one's newest token
   */
  void round();

  /** How many tokens of a sequence the last call has found. */
  int tokenCount(int sequence);

  /**
   * One of them. Where logits are no numbers there is a -1, and the sequence does not go on.
   *
   * @param index below {@link #tokenCount}
   */
  int token(int sequence, int index);

  /** Tokens that were drafted. */
  long drafted();

  /** Those of them that were right. */
  long accepted();

  /** Those of one source of drafts, where there are several. */
  default long drafted(int source) {
    return drafted();
  }

  /** Those of them that were right. */
  default long accepted(int source) {
    return accepted();
  }

  /** Passes that verified, one for all sequences. */
  long verifications();

  /** What the rounds have cost. */
  DecodeWork work();

  @Override void close();
}
