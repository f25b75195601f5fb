// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate;

import org.exeunt.engine.answer.Answer;
import org.exeunt.engine.decode.DecodeWork;

/** An answer by the {@link Rounds} of one sequence. */
public final class SpeculativeAnswer implements Answer {
  private final Rounds decoder;
  private int next; // of the tokens that the decoder has found
  private int prompt;
  private int taken;

  /** @param decoder closed with this */
  public SpeculativeAnswer(Rounds decoder) {
    this.decoder = decoder;
  }

  /** Takes a prompt in; what was before is forgotten. */
  @Override
  public void begin(int... ids) {
    decoder.restart(0);
    decoder.prefill(0, ids);
    next = 0;
    taken = 0;
    prompt = ids.length;
  }

  @Override
  public void resume(int... more) {
    int before = position();
    decoder.resume(0, before, more);
    next = 0;
    taken = 0;
    prompt = before + more.length;
  }

  @Override
  public int next() {
    return decoder.token(0, next++);
  }

  @Override
  public void goOn() {
    if (next == decoder.tokenCount(0)) {
      decoder.round();
      next = 0;
    }
    taken++;
  }

  @Override
  public int position() {
    return prompt + taken;
  }

  @Override
  public DecodeWork work() {
    return decoder.work();
  }

  @Override
  public void close() {
    decoder.close();
  }
}
