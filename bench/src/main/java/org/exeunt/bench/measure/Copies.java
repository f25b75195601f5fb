// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.measure;

import java.util.stream.IntStream;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.contenders.Contenders;
import org.exeunt.bench.contenders.Peer;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.cases.Cases;

/** A peer that is set up several times, each time in memory of its own; each run takes the next. */
public final class Copies extends Contenders {
  private final Contenders peers;
  private final int count;

  private Copies(Contenders peers, int count) {
    this.peers = peers;
    this.count = count;
  }

  public static Contenders of(Contenders peers, int count) {
    return count == 1 ? peers : new Copies(peers, count);
  }

  @Override
  public boolean offers(Cases.Listed benchCase) {
    return peers.offers(benchCase);
  }

  @Override
  public Contender on(Problem problem, int threads) {
    return new Round(IntStream.range(0, count)
            .mapToObj(i -> (Peer) peers.on(problem, threads))
            .toArray(Peer[] ::new));
  }

  private static final class Round implements Peer {
    private final Peer[] copies;
    private int last;

    Round(Peer[] copies) {
      this.copies = copies;
      last = copies.length - 1;
    }

    @Override
    public Object run() {
      last = last + 1 == copies.length ? 0 : last + 1;
      return copies[last].run();
    }

    @Override
    public void deliver() {
      copies[last].deliver();
    }

    @Override
    public double more() {
      return copies[last].more();
    }

    @Override
    public void close() {
      for (Peer copy : copies) {
        copy.close();
      }
    }
  }
}
