// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

/** Who guesses the tokens that a decoder then verifies. */
interface DraftSource extends AutoCloseable {
  /** A sequence begins anew. */
  default void restart(int sequence) {}

  /** Drafts for every sequence that goes on. */
  void draft(Drafts drafts);

  /**
   * Makes the newest token of each sequence that goes on, and its draft behind it, the decoder's
   * rows.
   *
   * @return how many layers they have run
   */
  default int enter(Decoder decoder, Drafts drafts) {
    addRows(decoder, drafts);
    decoder.embedRows();
    return 0;
  }

  /** Adds those rows. */
  static void addRows(Decoder decoder, Drafts drafts) {
    decoder.beginPass();
    for (int s = 0; s < drafts.sequences(); s++) {
      for (int i = 0; drafts.going(s) && i <= drafts.count(s); i++) {
        decoder.addRow(s, drafts.row(s, i), i);
      }
    }
  }

  /** Of a sequence's draft so many tokens are right; its context has grown by one more. */
  default void settle(int sequence, int accepted) {}

  /** Bytes of weights that drafting has read and that the decoder does not count. */
  default long bytes() {
    return 0;
  }

  @Override
  default void close() {}
}
