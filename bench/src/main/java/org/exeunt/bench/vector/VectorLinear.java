// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import org.exeunt.bench.contenders.Matrix;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.vector.lanes.VectorPeer;
import org.exeunt.jni.DLTensor;
import org.exeunt.jni.exn_linear_params;

/** A projection: each worker takes a stretch of the outputs. */
final class VectorLinear extends VectorPeer {
  private final DLTensor target;
  private final int rows;
  private final int cols;
  private final VectorGemv weight;
  private final float[] input;
  private final float[] residual;
  private final VectorGemv down; // of an adapter, or null
  private final float[] reducible; // the input, as it takes it
  private final float[][] reduced;
  private final float[] scale;
  private final float[] up;
  private final float[][][] products;
  private final float[] out;

  VectorLinear(Problem problem, int threads) {
    super(threads);
    exn_linear_params p = problem.params(exn_linear_params::new);
    Matrix rowsIn = Matrix.of(p.input());
    Matrix added = Matrix.of(p.residual());
    target = p.out();
    rows = rowsIn.rows();
    weight = new VectorGemv(Matrix.of(p.weight()));
    cols = weight.rows();
    input = weight.arranged(rowsIn.values(), rows);
    residual = added == null ? null : added.values();
    Matrix lower = Matrix.of(p.adapter_down());
    down = lower == null ? null : new VectorGemv(lower);
    reducible = down == null ? null : down.arranged(rowsIn.values(), rows);
    reduced = new float[rows][down == null ? 0 : down.rows()];
    Matrix factors = Matrix.of(p.adapter_scale());
    scale = factors == null ? null : factors.values();
    up = down == null ? null : Matrix.of(p.adapter_up()).values();
    products = new float[threads][rows][cols];
    out = new float[rows * cols];
  }

  @Override
  public Object run() {
    reduce();
    workers.run(this::runPart);
    return out;
  }

  private void reduce() {
    if (down == null) {
      return;
    }
    int rank = down.rows();
    down.multiply(reducible, rows, 0, rank, reduced);
    for (int i = 0; scale != null && i < scale.length; i++) {
      reduced[i / rank][i % rank] *= scale[i];
    }
  }

  private void adapt(float[] row, float[] t, int from, int to) {
    for (int k = 0; k < t.length; k++) {
      for (int o = from; o < to; o++) {
        row[o - from] += t[k] * up[k * cols + o];
      }
    }
  }

  private void runPart(int thread) {
    int from = workers.begin(thread, cols);
    int to = workers.begin(thread + 1, cols);
    weight.multiply(input, rows, from, to, products[thread]);
    for (int r = 0; r < rows; r++) {
      adapt(products[thread][r], reduced[r], from, to);
      for (int o = from; o < to; o++) {
        float added = residual == null ? 0 : residual[r * cols + o];
        out[r * cols + o] = products[thread][r][o - from] + added;
      }
    }
  }

  @Override
  public void deliver() {
    Problem.put(target, out);
  }
}
