// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.contenders;

import java.util.HashMap;
import java.util.Map;
import org.exeunt.bench.cases.BenchCase;
import org.exeunt.bench.reference.Problem;

/** A library, or a way of writing it in Java, and how it sets up the ops that it offers. */
public abstract class Contenders {
  private final Map<String, Setup<?, ?>> setups = new HashMap<>();

  /** What a contender does with a problem of its op. */
  protected interface Setup<P, R> {
    Contender<R> on(P problem, int threads);
  }

  protected final <R, P extends Problem<R>> void offer(String op, Setup<P, R> setup) {
    setups.put(op, setup);
  }

  /** Whether this contender has something to time for a case. */
  public boolean offers(BenchCase benchCase) {
    return setups.containsKey(benchCase.op());
  }

  /** Set up on a problem of an op that is offered. */
  @SuppressWarnings("unchecked") // under its name an op has one kind of problem
  public final <R> Contender<R> on(Problem<R> problem, int threads) {
    Setup<Problem<R>, R> setup = (Setup<Problem<R>, R>) setups.get(problem.op());
    if (setup == null) {
      throw new UnsupportedOperationException(problem.op() + " is not offered");
    }
    return setup.on(problem, threads);
  }
}
