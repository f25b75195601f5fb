// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.reference.FfnProblem;
import org.exeunt.bench.reference.FfnResult;

/** A SwiGLU block behind RMSNorm: two meetings of the workers, between the projections. */
final class VectorFfn implements Contender<FfnResult> {
  private final int rows;
  private final int dim;
  private final int width;
  private final float eps;
  private final float[] hidden;
  private final float[] normWeight;
  private final VectorGemv gate;
  private final VectorGemv up;
  private final VectorGemv down;
  private final Workers workers;
  private final float[] normed;
  private final float[] x;
  private final float[] activated;
  private final float[] arranged;
  private final float[][][] first;
  private final float[][][] second;
  private final float[] out;

  VectorFfn(FfnProblem problem, int threads) {
    rows = problem.hidden.rows();
    dim = problem.hidden.cols();
    width = problem.up.rows();
    eps = problem.eps;
    hidden = problem.hidden.values();
    normWeight = problem.normWeight.values();
    gate = new VectorGemv(problem.gate);
    up = new VectorGemv(problem.up);
    down = new VectorGemv(problem.down);
    workers = new Workers(threads);
    normed = new float[rows * dim];
    x = new float[rows * dim];
    activated = new float[rows * width];
    arranged = new float[rows * width];
    first = new float[threads][rows][Math.max(width, dim)];
    second = new float[threads][rows][width];
    out = new float[rows * dim];
  }

  @Override
  public Object run() {
    for (int r = 0; r < rows; r++) {
      VectorNorm.normalise(hidden, r * dim, normWeight, dim, eps, normed);
      up.arrange(normed, r * dim, x, r * dim);
    }
    workers.run(this::activate);
    for (int r = 0; r < rows; r++) {
      down.arrange(activated, r * width, arranged, r * width);
    }
    workers.run(this::project);
    return out;
  }

  private void activate(int part) {
    int from = workers.begin(part, width);
    int to = workers.begin(part + 1, width);
    gate.multiply(x, rows, from, to, first[part]);
    up.multiply(x, rows, from, to, second[part]);
    for (int r = 0; r < rows; r++) {
      for (int o = from; o < to; o++) {
        float g = first[part][r][o - from];
        activated[r * width + o] = (float) (g / (1 + Math.exp(-g))) * second[part][r][o - from];
      }
    }
  }

  private void project(int part) {
    int from = workers.begin(part, dim);
    int to = workers.begin(part + 1, dim);
    down.multiply(arranged, rows, from, to, first[part]);
    for (int r = 0; r < rows; r++) {
      for (int o = from; o < to; o++) {
        out[r * dim + o] = hidden[r * dim + o] + first[part][r][o - from];
      }
    }
  }

  @Override
  public FfnResult result() {
    return new FfnResult(out, null);
  }

  @Override
  public void close() {
    workers.close();
  }
}
