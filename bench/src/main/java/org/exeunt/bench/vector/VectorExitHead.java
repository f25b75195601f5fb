// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import org.exeunt.Normalizer;
import org.exeunt.bench.contenders.Matrix;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.contenders.RowStats;
import org.exeunt.bench.vector.lanes.VectorPeer;
import org.exeunt.jni.exn_exit_head_params;
import org.exeunt.jni.exn_stats;

/** LM head and statistics: each worker takes a stretch of the vocabulary, tile by tile. */
final class VectorExitHead extends VectorPeer {
  private final exn_stats target;
  private final int rows;
  private final VectorGemv weight;
  private final float[] hidden;
  private final StatsPart[] parts;
  private final float[][][] logits;
  private final RowStats stats;

  VectorExitHead(Problem problem, int threads) {
    super(threads);
    exn_exit_head_params p = problem.params(exn_exit_head_params::new);
    Matrix states = Matrix.of(p.hidden());
    target = p.out();
    rows = states.rows();
    int width = states.cols();
    weight = new VectorGemv(Matrix.of(p.weight()));
    hidden = new float[rows * width];
    for (int r = 0; r < rows; r++) {
      weight.arrange(states.values(), r * width, hidden, r * width);
    }
    parts = VectorStats.parts(Normalizer.SOFTMAX, rows * threads);
    logits = new float[threads][rows][StatsPart.BLOCK];
    stats = new RowStats(rows);
  }

  @Override
  public Object run() {
    workers.run(this::runPart);
    VectorStats.finish(parts, workers.threads(), stats);
    return stats;
  }

  private void runPart(int thread) {
    for (int r = 0; r < rows; r++) {
      parts[r * workers.threads() + thread].clear();
    }
    int end = workers.begin(thread + 1, weight.rows());
    for (int v = workers.begin(thread, weight.rows()); v < end; v += StatsPart.BLOCK) {
      int count = Math.min(StatsPart.BLOCK, end - v);
      weight.multiply(hidden, rows, v, v + count, logits[thread]);
      for (int r = 0; r < rows; r++) {
        StatsPart target = parts[r * workers.threads() + thread];
        float[] z = logits[thread][r];
        if (target.add(z, 0, count)) {
          target.setArgmax(v + target.find(z, 0, count));
        }
      }
    }
  }

  @Override
  public void deliver() {
    stats.deliver(target);
  }
}
