// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import org.exeunt.bench.contenders.Matrix;
import org.exeunt.bench.contenders.Problem;
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
    products = new float[threads][rows][cols];
    out = new float[rows * cols];
  }

  @Override
  public Object run() {
    workers.run(this::runPart);
    return out;
  }

  private void runPart(int part) {
    int from = workers.begin(part, cols);
    int to = workers.begin(part + 1, cols);
    weight.multiply(input, rows, from, to, products[part]);
    for (int r = 0; r < rows; r++) {
      for (int o = from; o < to; o++) {
        float added = residual == null ? 0 : residual[r * cols + o];
        out[r * cols + o] = products[part][r][o - from] + added;
      }
    }
  }

  @Override
  public void deliver() {
    Problem.put(target, out);
  }
}
