// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate.draft;

import java.util.Map;
import java.util.stream.IntStream;
import org.exeunt.Scope;
import org.exeunt.TranslatorFit.Translator;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.Head;
import org.exeunt.engine.decode.RowHead;
import org.exeunt.engine.layer.KeptStates;
import org.exeunt.engine.model.LlamaWeights;

/**
 * A model's own first layers, with its final norm and head (LayerSkip; Elhoushi et al. 2024). What
 * drafted tokens left those layers with is kept, so that verification runs the other layers alone;
 * only the last drafted token, which drafting does not take in, runs all of them.
 */
public class SelfDraft implements DraftSource {
  final Decoder decoder;
  final KeptStates kept;
  final Scope scope = Scope.open();
  final DraftHeads heads;
  private final DraftScore score;
  private final boolean[] drafting;
  private final boolean[] own; // whether the draft of a sequence is this one's

  /**
   * @param score closed with this
   * @param translators of the layers' depth; null: none
   * @param shortlist tokens that are looked at; 0: all
   */
  public SelfDraft(Decoder decoder, DraftScore score, Map<Integer, Translator> translators,
      int shortlist, int layers, int length) {
    this(decoder, score, translators, shortlist, length + 1, new int[] {layers}, layers);
  }

  /**
   * @param window newest tokens of each sequence that are kept
   * @param kept after how many layers they are
   * @param depths those of them where it drafts, the first ones
   */
  SelfDraft(Decoder decoder, DraftScore score, Map<Integer, Translator> translators, int shortlist,
      int window, int[] kept, int... depths) {
    this.decoder = decoder;
    this.score = score;
    this.kept = new KeptStates(decoder.weights().config(), decoder.sequences(), window, kept);
    drafting = new boolean[decoder.sequences()];
    own = new boolean[decoder.sequences()];
    try {
      heads = new DraftHeads(scope, decoder, translators, shortlist, depths);
    } catch (RuntimeException | Error e) {
      scope.close();
      throw e;
    }
    decoder.watch(this.kept);
  }

  /** What a drafted token costs, of a token at full depth. */
  public static double cost(LlamaWeights weights, int layers, int shortlist) {
    long bytes = Head.bytes(weights, shortlist);
    for (LlamaWeights.Layer layer : weights.layers().subList(0, layers)) {
      bytes += layer.attentionBytes() + layer.feedForwardBytes();
    }
    return (double) bytes / weights.bytesPerToken();
  }

  /** After which of the kept depths a sequence drafts. */
  int place(int sequence) {
    return 0;
  }

  @Override
  public void restart(int sequence) {
    heads.restart(sequence);
  }

  @Override
  public void draft(Drafts drafts) {
    heads.begin(drafts);
    int going = 0;
    for (int s = 0; s < drafts.sequences(); s++) {
      own[s] = drafts.wants(s);
      drafting[s] = drafts.going(s) && drafts.plan(s, 0, Integer.MAX_VALUE) > 0;
      going += drafting[s] ? 1 : 0;
    }
    while (going > 0) {
      for (int place = 0; place < kept.places(); place++) {
        going -= draft(drafts, place);
      }
    }
  }

  /**
   * Drafts a token for each sequence that still drafts, and does so at this place.
   *
   * @return how many of them are done
   */
  private int draft(Drafts drafts, int place) {
    if (!run(drafts, place)) {
      return 0;
    }
    RowHead head = heads.read(place);
    score.read(decoder, head);
    int done = 0;
    int row = 0;
    for (int s = 0; s < drafts.sequences(); s++) {
      if (drafting[s] && place(s) == place) {
        // Of what is no number, any token is a guess: verification sees that, too.
        drafting[s] = drafts.add(s, Math.max(0, head.argmax(row)), score.of(row));
        done += drafting[s] ? 0 : 1;
        row++;
      }
    }
    return done;
  }

  /**
   * Takes the last token of such sequences through the first layers, and those of a draft that is
   * another's; false if there are none.
   */
  private boolean run(Drafts drafts, int place) {
    decoder.beginPass();
    for (int s = 0; s < drafting.length; s++) {
      boolean here = drafting[s] && place(s) == place;
      for (int i = own[s] ? drafts.count(s) : 0; here && i <= drafts.count(s); i++) {
        decoder.addRow(s, drafts.row(s, i), i);
      }
    }
    if (decoder.rows().count() == 0) {
      return false;
    }
    decoder.embedRows();
    decoder.runRows(0, kept.depth(place));
    return true;
  }

  /**
   * As {@link DraftSources#enter}. Sequences join where they have drafted; the rows so far stay in
   * the order of sequences.
   */
  int enter(Drafts drafts) {
    for (int s = 0; s < drafting.length; s++) {
      drafting[s] = drafts.going(s);
    }
    for (int place = 0; place < kept.places(); place++) {
      run(drafts, place);
    }
    int depth = 0;
    for (int place = 0; place < kept.places(); place++) {
      int here = place;
      if (IntStream.range(0, drafting.length).noneMatch(s -> drafting[s] && place(s) == here)) {
        continue;
      }
      if (depth > 0) {
        decoder.runRows(depth, kept.depth(place));
      }
      DraftSource.addRows(decoder, drafts, s -> place(s) <= here);
      kept.restore(place, decoder.rows());
      depth = kept.depth(place);
    }
    return depth;
  }

  @Override
  public void close() {
    score.close();
    scope.close();
  }
}
