// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate.draft;

import java.util.function.IntPredicate;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.RowHead;

/** Who guesses the tokens that a decoder then verifies. */
public interface DraftSource extends AutoCloseable {
  /** The rule of a sequence, for a source with rules of its own; null: it has none. */
  default DraftPolicy rule(int sequence) {
    return null;
  }

  /** A sequence begins anew. */
  default void restart(int sequence) {}

  /** How it would come by a draft for a sequence, which its rule is told; -1: it has none. */
  default int kind(Drafts drafts, int sequence) {
    return 0;
  }

  /** Drafts for every sequence that wants it to. */
  void draft(Drafts drafts);

  /**
   * Makes the newest token of each sequence that goes on and is meant, and its draft after it, the
   * decoder's rows.
   */
  static void addRows(Decoder decoder, Drafts drafts, IntPredicate which) {
    decoder.beginPass();
    for (int s = 0; s < drafts.sequences(); s++) {
      for (int i = 0; drafts.going(s) && which.test(s) && i <= drafts.count(s); i++) {
        decoder.addRow(s, drafts.row(s, i), i);
      }
    }
  }

  /**
   * All rows of a round have run the whole model, and what it keeps is decided, but not yet done.
   *
   * @param head what it found in the rows
   */
  default void verified(Drafts drafts, Decision decision, RowHead head) {}

  /** Of a sequence's draft so many tokens are right; its context has grown by one more. */
  default void settle(int sequence, int accepted) {}

  /** Bytes of weights that drafting has read and that the decoder does not count. */
  default long bytes() {
    return 0;
  }

  @Override
  default void close() {}
}
