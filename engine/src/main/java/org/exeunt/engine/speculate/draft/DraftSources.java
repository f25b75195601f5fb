// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate.draft;

import java.util.List;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.RowHead;

/**
 * Those who draft for a decoder. Where there are several, each sequence's draft of a round comes
 * from the one of which its rule expects most; one that has not been asked for long has its turn,
 * too, as nothing else would tell whether it has become better.
 */
public final class DraftSources implements AutoCloseable {
  private final List<DraftSource> sources;
  private final PassTimes times;
  private final int[] kinds; // of the sequence that is at it

  /** @param sources closed with this */
  public DraftSources(List<DraftSource> sources, PassTimes times) {
    this.sources = List.copyOf(sources);
    this.times = times;
    kinds = new int[sources.size()];
  }

  public int count() {
    return sources.size();
  }

  public DraftSource get(int source) {
    return sources.get(source);
  }

  public void restart(int sequence) {
    sources.forEach(source -> source.restart(sequence));
  }

  /** Drafts for every sequence that goes on. */
  public void draft(Drafts drafts) {
    for (int s = 0; s < drafts.sequences() && count() > 1; s++) {
      if (drafts.going(s)) {
        drafts.choose(s, choose(drafts, s));
      }
    }
    for (int source = 0; source < count(); source++) {
      long begin = System.nanoTime();
      drafts.turn(source);
      sources.get(source).draft(drafts);
      times.drafted(source, drafts.longest(source), System.nanoTime() - begin);
    }
  }

  /** Who drafts for a sequence; -1 if none is worth the time. */
  private int choose(Drafts drafts, int sequence) {
    int best = -1;
    double most = 0;
    for (int source = 0; source < count(); source++) {
      kinds[source] = sources.get(source).kind(drafts, sequence);
      if (kinds[source] >= 0) {
        double gain = drafts.rule(source, sequence).gain(kinds[source], drafts.most(sequence));
        if (gain > most) {
          most = gain;
          best = source;
        }
      }
    }
    for (int source = 0; source < count(); source++) {
      if (source != best && kinds[source] >= 0 && drafts.rule(source, sequence).isDue()) {
        return source;
      }
    }
    return best;
  }

  /**
   * Makes the newest token of each sequence that goes on, and its draft after it, the decoder's
   * rows.
   *
   * @return how many layers they have run
   */
  public int enter(Decoder decoder, Drafts drafts) {
    for (DraftSource source : sources) {
      if (source instanceof SelfDraft self) {
        return self.enter(drafts);
      }
    }
    DraftSource.addRows(decoder, drafts, sequence -> true);
    decoder.embedRows();
    return 0;
  }

  public void verified(Drafts drafts, Decision decision, RowHead head) {
    sources.forEach(source -> source.verified(drafts, decision, head));
  }

  public void settle(int sequence, int accepted) {
    sources.forEach(source -> source.settle(sequence, accepted));
  }

  /** Bytes of weights that drafting has read and that the decoder does not count. */
  public long bytes() {
    return sources.stream().mapToLong(DraftSource::bytes).sum();
  }

  @Override
  public void close() {
    sources.forEach(DraftSource::close);
  }
}
