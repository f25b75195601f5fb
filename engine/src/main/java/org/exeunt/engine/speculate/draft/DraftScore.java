// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate.draft;

import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.RowHead;

/** What a rule is told of a drafted token. */
public interface DraftScore extends AutoCloseable {
  /** What the head gives a drafted token. */
  final class Probability implements DraftScore {
    private RowHead head;

    @Override
    public void read(Decoder decoder, RowHead found) {
      head = found;
    }

    @Override
    public float of(int row) {
      return head.probability(row);
    }
  }

  /**
   * A pass of who drafts has come to its end.
   *
   * @param decoder whose rows have run the layers that draft
   * @param found what the head says of them
   */
  void read(Decoder decoder, RowHead found);

  /** Of the token that is drafted after a row of that pass. */
  float of(int row);

  @Override
  default void close() {}
}
