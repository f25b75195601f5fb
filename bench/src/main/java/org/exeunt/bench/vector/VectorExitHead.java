// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.reference.ExitHeadProblem;
import org.exeunt.bench.reference.Normalizer;
import org.exeunt.bench.reference.RowStats;

/** LM head and statistics: each worker takes a stretch of the vocabulary, tile by tile. */
final class VectorExitHead implements Contender<RowStats> {
  private final int rows;
  private final VectorGemv weight;
  private final float[] hidden;
  private final Workers workers;
  private final StatsPart[] parts;
  private final float[][][] logits;
  private final RowStats stats;

  VectorExitHead(ExitHeadProblem problem, int threads) {
    rows = problem.hidden.rows();
    int width = problem.hidden.cols();
    weight = new VectorGemv(problem.weight);
    hidden = new float[rows * width];
    for (int r = 0; r < rows; r++) {
      weight.arrange(problem.hidden.values(), r * width, hidden, r * width);
    }
    workers = new Workers(threads);
    parts = VectorStats.parts(Normalizer.SOFTMAX, rows * threads);
    logits = new float[threads][rows][StatsPart.BLOCK];
    stats = new RowStats(rows, false);
  }

  @Override
  public Object run() {
    workers.run(this::runPart);
    VectorStats.finish(parts, workers.parts(), stats);
    return stats;
  }

  private void runPart(int part) {
    for (int r = 0; r < rows; r++) {
      parts[r * workers.parts() + part].clear();
    }
    int end = workers.begin(part + 1, weight.rows());
    for (int v = workers.begin(part, weight.rows()); v < end; v += StatsPart.BLOCK) {
      int count = Math.min(StatsPart.BLOCK, end - v);
      weight.multiply(hidden, rows, v, v + count, logits[part]);
      for (int r = 0; r < rows; r++) {
        StatsPart target = parts[r * workers.parts() + part];
        float[] z = logits[part][r];
        if (target.add(z, 0, count)) {
          target.setArgmax(v + target.find(z, 0, count));
        }
      }
    }
  }

  @Override
  public RowStats result() {
    return stats;
  }

  @Override
  public void close() {
    workers.close();
  }
}
