// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.contenders;

import java.util.HashMap;
import java.util.Map;
import org.exeunt.cases.Cases;

/** A library, or a way of writing it in Java, and how it sets up the ops that it offers. */
public abstract class Contenders {
  private final Map<String, Setup> setups = new HashMap<>();

  /** What a contender does with a problem of its op. */
  protected interface Setup {
    Contender on(Problem problem, int threads);
  }

  protected final void offer(String op, Setup setup) {
    setups.put(op, setup);
  }

  /** Whether this contender has something to time for a case. */
  public boolean offers(Cases.Listed benchCase) {
    return setups.containsKey(benchCase.op()) && Peers.offer(benchCase);
  }

  /** Set up on a problem of an op that is offered. */
  public Contender on(Problem problem, int threads) {
    if (!offers(problem.listed())) {
      throw new UnsupportedOperationException(problem.listed().name() + " is not offered");
    }
    return setups.get(problem.listed().op()).on(problem, threads);
  }
}
