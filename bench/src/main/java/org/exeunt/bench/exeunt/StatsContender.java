// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.exeunt;

import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import org.exeunt.Scope;
import org.exeunt.Statistics;
import org.exeunt.Tensor;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.reference.RowStats;

/** The decision is made in Java, so a run includes handing the statistics over. */
final class StatsContender implements Contender<RowStats> {
  private final Scope scope;
  private final Turns turns;
  private final RowStats stats;
  private final IntBuffer argmax;
  private final FloatBuffer[] sources;
  private final float[][] targets;

  StatsContender(Scope scope, Turns turns, Statistics out, int rows, boolean all) {
    this.scope = scope;
    this.turns = turns;
    stats = new RowStats(rows, all);
    argmax = out.argmax().intBuffer();
    if (all) {
      sources = buffers(out.p1(), out.margin(), out.entropy(), out.maxLogit(), out.lse(), out.p2(),
          out.pow2Entropy(), out.meanLogP());
      targets = new float[][] {stats.p1, stats.margin, stats.entropy, stats.maxLogit, stats.lse,
          stats.p2, stats.pow2Entropy, stats.meanLogP};
    } else {
      sources = buffers(out.p1(), out.margin(), out.entropy());
      targets = new float[][] {stats.p1, stats.margin, stats.entropy};
    }
  }

  private static FloatBuffer[] buffers(Tensor... tensors) {
    FloatBuffer[] buffers = new FloatBuffer[tensors.length];
    for (int i = 0; i < tensors.length; i++) {
      buffers[i] = tensors[i].floatBuffer();
    }
    return buffers;
  }

  @Override
  public Object run() {
    turns.run();
    argmax.get(0, stats.argmax);
    for (int i = 0; i < sources.length; i++) {
      sources[i].get(0, targets[i]);
    }
    return stats;
  }

  @Override
  public RowStats result() {
    return stats;
  }

  @Override
  public void close() {
    scope.close();
  }
}
