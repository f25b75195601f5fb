// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.device.speculate;

import org.exeunt.Stream;

/** Who drafts within a {@link DeviceRound}'s graph. */
interface DeviceDraft {
  /**
   * Queues the drafting of tokens for all sequences; the round's rows then have run {@link #depth}
   * layers.
   */
  void queue(Stream stream);

  /** How many layers the round's rows have run then; 0: they are tokens. */
  int depth();

  /** How often the head is read. */
  int readings();

  /**
   * A sequence begins.
   *
   * @param token the first one after its prompt
   */
  default void begin(int sequence, int token, int... prompt) {}
}
