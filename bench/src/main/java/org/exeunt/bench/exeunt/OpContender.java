// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.exeunt;

import java.util.function.Supplier;
import org.exeunt.Op;
import org.exeunt.Scope;
import org.exeunt.bench.contenders.Contender;

/** An op whose results stay in native memory. */
final class OpContender<R> implements Contender<R> {
  private final Scope scope;
  private final Turns turns;
  private final Supplier<R> result;

  OpContender(Scope scope, Op op, Supplier<R> result) {
    this(scope, new Turns(1, copy -> op), result);
  }

  OpContender(Scope scope, Turns turns, Supplier<R> result) {
    this.scope = scope;
    this.turns = turns;
    this.result = result;
  }

  @Override
  public Object run() {
    return turns.run();
  }

  @Override
  public R result() {
    return result.get();
  }

  @Override
  public void close() {
    scope.close();
  }
}
