// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.answer;

import java.nio.FloatBuffer;
import org.exeunt.engine.decode.DecodeWork;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.Sampler;

/** An answer by a {@link Decoder} of one sequence. */
public class HostAnswer implements Answer {
  final Decoder decoder;
  private final Sampler sampler;
  private final FloatBuffer logits;
  private final int[] token = new int[1];

  /**
   * @param decoder closed with this
   * @param sampler draws from logits, which the decoder has to keep; null: the most probable token
   */
  public HostAnswer(Decoder decoder, Sampler sampler) {
    this.decoder = decoder;
    this.sampler = sampler;
    logits = sampler == null ? null : decoder.logits().floatBuffer();
  }

  /** Takes a prompt in; what was before is forgotten. */
  @Override
  public void begin(int... prompt) {
    decoder.restart(0);
    decoder.prefill(0, prompt);
  }

  @Override
  public void resume(int... more) {
    decoder.prefill(0, more);
  }

  @Override
  public int next() {
    token[0] = decoder.argmax(0);
    if (token[0] >= 0 && sampler != null) {
      token[0] = sampler.draw(logits);
    }
    return token[0];
  }

  @Override
  public void goOn() {
    decoder.step(token);
  }

  @Override
  public int position() {
    return decoder.position(0);
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
