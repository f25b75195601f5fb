// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.reference.LinearProblem;

/** A projection: each worker takes a stretch of the outputs. */
final class VectorLinear implements Contender<float[]> {
  private final int rows;
  private final int cols;
  private final VectorGemv weight;
  private final float[] input;
  private final float[] residual;
  private final Workers workers;
  private final float[][][] products;
  private final float[] out;

  VectorLinear(LinearProblem problem, int threads) {
    rows = problem.input.rows();
    cols = problem.weight.rows();
    weight = new VectorGemv(problem.weight);
    input = weight.arranged(problem.input.values(), rows);
    residual = problem.residual == null ? null : problem.residual.values();
    workers = new Workers(threads);
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
  public float[] result() {
    return out;
  }

  @Override
  public void close() {
    workers.close();
  }
}
