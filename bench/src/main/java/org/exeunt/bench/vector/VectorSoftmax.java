// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import org.exeunt.DType;
import org.exeunt.Normalizer;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.contenders.Matrix;
import org.exeunt.bench.contenders.Peer;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.vector.lanes.VectorRows;
import org.exeunt.bench.vector.lanes.Workers;
import org.exeunt.cases.Facade;
import org.exeunt.jni.exn_cross_entropy_params;
import org.exeunt.jni.exn_stablemax_params;

/**
 * Softmax or StableMax of rows, or their cross-entropy with gradient. Many rows are shared out
 * among the workers; the elements of a single row are, with a meeting after each pass.
 */
final class VectorSoftmax {
  private final Normalizer normalizer;
  private final int rows;
  private final int cols;
  private final float[] wide;
  private final int[] packed;
  private final float[] out;
  private final int[] packedOut;
  private final int[] labels;
  private final Workers workers;
  private final float[][] in32;
  private final float[][] out32;
  private final double[] partial;
  private final double[] losses;
  private float loss;

  private VectorSoftmax(Normalizer normalizer, Matrix logits, int[] labels, int threads) {
    this.normalizer = normalizer;
    this.labels = labels;
    rows = logits.rows();
    cols = logits.cols();
    boolean f32 = logits.storage() == DType.F32;
    if (!f32 && cols % 2 != 0) {
      throw new UnsupportedOperationException("the Vector API peer needs an even bf16 row");
    }
    wide = f32 ? logits.values() : null;
    out = f32 ? new float[wide.length] : null;
    packed = f32 ? null : logits.packed();
    packedOut = f32 ? null : new int[packed.length];
    workers = Workers.of(threads);
    in32 = f32 ? null : new float[threads][cols];
    out32 = f32 ? null : new float[threads][cols];
    partial = new double[16 * threads];
    losses = new double[rows];
  }

  static Contender forward(Problem problem, int threads) {
    exn_stablemax_params p = problem.params(exn_stablemax_params::new);
    VectorSoftmax kernel = new VectorSoftmax(
        Normalizer.values()[p.normalizer()], Matrix.of(p.logits()), null, threads);
    return kernel.contender(() -> Problem.put(p.out(), kernel.widened()));
  }

  static Contender loss(Problem problem, int threads) {
    exn_cross_entropy_params p = problem.params(exn_cross_entropy_params::new);
    VectorSoftmax kernel = new VectorSoftmax(Normalizer.values()[p.normalizer()],
        Matrix.of(p.logits()), Facade.tensor(p.labels()).toIntArray(), threads);
    return kernel.contender(() -> {
      Problem.put(p.loss(), new float[] {kernel.loss});
      Problem.put(p.grad(), kernel.widened());
    });
  }

  private Contender contender(Runnable delivery) {
    return new Peer() {
      @Override
      public Object run() {
        return VectorSoftmax.this.run();
      }

      @Override
      public void deliver() {
        delivery.run();
      }
    };
  }

  private Object run() {
    if (rows == 1 && wide != null && labels == null && workers.threads() > 1) {
      runSplitRow();
    } else {
      workers.run(this::runRows);
    }
    if (labels != null) {
      double sum = 0;
      for (double rowLoss : losses) {
        sum += rowLoss;
      }
      loss = (float) (sum / rows);
    }
    return out;
  }

  private void runRows(int thread) {
    int end = workers.begin(thread + 1, rows);
    for (int r = workers.begin(thread, rows); r < end; r++) {
      if (wide != null) {
        row(wide, out, r * cols, r, labels == null ? -1 : labels[r]);
      } else {
        int half = cols / 2;
        VectorRows.unpack(packed, r * half, half, in32[thread]);
        row(in32[thread], out32[thread], 0, r, labels == null ? -1 : position(labels[r], half));
        VectorRows.pack(out32[thread], half, packedOut, r * half);
      }
    }
  }

  /** Where element {@code index} lies in an unpacked row. */
  private static int position(int index, int half) {
    return index % 2 == 0 ? index / 2 : half + index / 2;
  }

  private void row(float[] z, float[] target, int from, int row, int label) {
    int to = from + cols;
    double sum = scores(
        z, from, to, normalizer == Normalizer.SOFTMAX ? VectorRows.max(z, from, to) : 0, target);
    if (label < 0) {
      VectorRows.scale(target, from, to, (float) (1 / sum));
      return;
    }
    losses[row] = -Math.log(target[from + label] / sum);
    target[from + label] -= (float) sum;
    float factor = (float) (1 / (sum * rows));
    if (normalizer == Normalizer.SOFTMAX) {
      VectorRows.scale(target, from, to, factor);
    } else {
      VectorRows.scaleBySlope(z, from, target, from, to, factor);
    }
  }

  private double scores(float[] z, int from, int to, float max, float[] target) {
    return normalizer == Normalizer.SOFTMAX
        ? VectorRows.exponentials(z, from, to, max, target, from)
        : VectorRows.stableScores(z, from, to, target, from);
  }

  private void runSplitRow() {
    float max = normalizer == Normalizer.SOFTMAX ? splitMax() : 0;
    workers.run(thread
        -> partial[16 * thread] = scores(
               wide, workers.begin(thread, cols), workers.begin(thread + 1, cols), max, out));
    double sum = 0;
    for (int thread = 0; thread < workers.threads(); thread++) {
      sum += partial[16 * thread];
    }
    float factor = (float) (1 / sum);
    workers.run(thread
        -> VectorRows.scale(
            out, workers.begin(thread, cols), workers.begin(thread + 1, cols), factor));
  }

  private float splitMax() {
    workers.run(thread
        -> partial[16 * thread] =
               VectorRows.max(wide, workers.begin(thread, cols), workers.begin(thread + 1, cols)));
    double max = Double.NEGATIVE_INFINITY;
    for (int thread = 0; thread < workers.threads(); thread++) {
      max = Math.max(max, partial[16 * thread]);
    }
    return (float) max;
  }

  private float[] widened() {
    return wide != null ? out : VectorRows.widen(packedOut);
  }
}
