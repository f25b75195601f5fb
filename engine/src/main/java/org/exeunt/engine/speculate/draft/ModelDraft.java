// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate.draft;

import org.exeunt.Scope;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.Head;
import org.exeunt.engine.decode.RowHead;
import org.exeunt.engine.model.LlamaWeights;

/** A second, smaller model with the same vocabulary and a cache of its own. */
public final class ModelDraft implements DraftSource {
  /** So many tokens, the newest among them, go in with the pass that drafts. */
  private static final int FEW = 4;

  private final Decoder decoder;
  private final DraftScore score;
  private final Scope scope = Scope.open();
  private final DraftHeads heads;
  private final boolean[] drafting;
  private final int[] known; // tokens of a sequence when it was drafted for

  /**
   * @param decoder of as many sequences; closed with this
   * @param score closed with this
   * @param shortlist tokens that are looked at; 0: all
   */
  public ModelDraft(Decoder decoder, DraftScore score, int shortlist) {
    this.decoder = decoder;
    this.score = score;
    try {
      heads = new DraftHeads(scope, decoder, null, shortlist);
    } catch (RuntimeException | Error e) {
      scope.close();
      throw e;
    }
    drafting = new boolean[decoder.sequences()];
    known = new int[decoder.sequences()];
  }

  /** What a drafted token costs, of a token of the model that verifies. */
  public static double cost(LlamaWeights drafting, LlamaWeights verifying, int shortlist) {
    long layers = drafting.bytesPerToken() - drafting.head().bytes();
    return (double) (layers + Head.bytes(drafting, shortlist)) / verifying.bytesPerToken();
  }

  @Override
  public void restart(int sequence) {
    heads.restart(sequence);
    decoder.restart(sequence);
  }

  @Override
  public int kind(Drafts drafts, int sequence) {
    return drafts.context(sequence).size() <= decoder.capacity() ? 0 : -1;
  }

  @Override
  public void draft(Drafts drafts) {
    heads.begin(drafts);
    int going = 0;
    for (int s = 0; s < drafts.sequences(); s++) {
      known[s] = drafts.context(s).size();
      // The last token that is drafted need not go in.
      drafting[s] = drafts.going(s) && drafts.plan(s, 0, decoder.capacity() - known[s] + 1) > 0;
      going += drafting[s] ? 1 : 0;
      if (drafting[s] && unseen(drafts, s) > FEW) {
        decoder.prefill(
            s, drafts.context(s).range(decoder.position(s), drafts.context(s).size() - 1));
      }
    }
    while (going > 0) {
      decoder.beginPass();
      for (int s = 0; s < drafts.sequences(); s++) {
        for (int i = unseen(drafts, s); drafting[s] && i > 0; i--) {
          decoder.addRow(s, drafts.row(s, drafts.count(s) + 1 - i), unseen(drafts, s) - i);
        }
      }
      decoder.embedRows();
      decoder.runRows(0, decoder.weights().config().layers());
      RowHead head = heads.read(0);
      score.read(decoder, head);
      int row = -1;
      for (int s = 0; s < drafts.sequences(); s++) {
        if (drafting[s]) {
          int rows = unseen(drafts, s);
          row += rows;
          decoder.keepTokens(s, rows, rows);
          drafting[s] = drafts.add(s, Math.max(0, head.argmax(row)), score.of(row));
          going -= drafting[s] ? 0 : 1;
        }
      }
    }
  }

  /** How many tokens of a sequence and its draft the model has not taken in. */
  private int unseen(Drafts drafts, int sequence) {
    return known[sequence] + drafts.count(sequence) - decoder.position(sequence);
  }

  @Override
  public void settle(int sequence, int accepted) {
    int right = known[sequence] + accepted;
    decoder.forget(sequence, Math.max(0, decoder.position(sequence) - right));
  }

  @Override
  public long bytes() {
    return decoder.work().bytes();
  }

  @Override
  public void close() {
    score.close();
    scope.close();
    decoder.close();
  }
}
