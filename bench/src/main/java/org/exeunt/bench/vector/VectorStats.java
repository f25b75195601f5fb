// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import org.exeunt.DType;
import org.exeunt.Normalizer;
import org.exeunt.bench.contenders.Matrix;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.contenders.RowStats;
import org.exeunt.bench.vector.lanes.Lanes;
import org.exeunt.bench.vector.lanes.VectorPeer;
import org.exeunt.bench.vector.lanes.VectorRows;
import org.exeunt.jni.exn_row_stats_params;
import org.exeunt.jni.exn_stats;

/** One-pass row statistics; each row is split over the workers, since there may be only one. */
final class VectorStats extends VectorPeer {
  private final exn_stats target;
  private final int rows;
  private final int cols;
  private final float[] wide;
  private final int[] packed;
  private final StatsPart[] parts;
  private final float[][] scratch;
  private final RowStats stats;

  VectorStats(Problem problem, int threads) {
    super(threads);
    exn_row_stats_params p = problem.params(exn_row_stats_params::new);
    Matrix logits = Matrix.of(p.logits());
    target = p.out();
    rows = logits.rows();
    cols = logits.cols();
    boolean f32 = logits.storage() == DType.F32;
    wide = f32 ? logits.values() : null;
    packed = f32 ? null : logits.packed();
    parts = parts(Normalizer.values()[p.normalizer()], rows * threads);
    scratch = new float[threads][StatsPart.BLOCK];
    stats = new RowStats(rows);
  }

  static StatsPart[] parts(Normalizer normalizer, int count) {
    StatsPart[] parts = new StatsPart[count];
    for (int i = 0; i < count; i++) {
      parts[i] = new StatsPart(normalizer);
    }
    return parts;
  }

  /** Merges the parts of each row, which lie in order, and writes the statistics. */
  static void finish(StatsPart[] parts, int partsPerRow, RowStats stats) {
    for (int r = 0; r < stats.argmax.length; r++) {
      StatsPart first = parts[r * partsPerRow];
      for (int p = 1; p < partsPerRow; p++) {
        first.merge(parts[r * partsPerRow + p]);
      }
      first.finish(stats, r);
    }
  }

  @Override
  public Object run() {
    workers.run(this::runPart);
    finish(parts, workers.threads(), stats);
    return stats;
  }

  private void runPart(int thread) {
    int from = Lanes.whole(workers.begin(thread, cols), 2);
    int to =
        thread + 1 == workers.threads() ? cols : Lanes.whole(workers.begin(thread + 1, cols), 2);
    for (int r = 0; r < rows; r++) {
      StatsPart target = parts[r * workers.threads() + thread];
      target.clear();
      for (int c = from; c < to; c += StatsPart.BLOCK) {
        int count = Math.min(StatsPart.BLOCK, to - c);
        if (wide != null) {
          addWide(target, r, c, count);
        } else {
          addPacked(target, scratch[thread], r, c, count);
        }
      }
    }
  }

  private void addWide(StatsPart target, int row, int col, int count) {
    int from = row * cols + col;
    if (target.add(wide, from, count)) {
      target.setArgmax(col + target.find(wide, from, count));
    }
  }

  private void addPacked(StatsPart target, float[] block, int row, int col, int count) {
    int pairs = count / 2;
    VectorRows.unpack(packed, (row * cols + col) / 2, pairs, block);
    if (target.add(block, 0, count)) {
      int even = target.find(block, 0, pairs);
      int odd = target.find(block, pairs, pairs);
      target.setArgmax(col + (even <= odd ? 2 * even : 2 * odd + 1));
    }
  }

  @Override
  public void deliver() {
    stats.deliver(target);
  }
}
