// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import org.exeunt.bench.contenders.Matrix;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.vector.lanes.VectorPeer;
import org.exeunt.jni.DLTensor;
import org.exeunt.jni.exn_ffn_params;

/** A SwiGLU block after RMSNorm: two meetings of the workers, between the projections. */
final class VectorFfn extends VectorPeer {
  private final DLTensor target;
  private final int rows;
  private final int dim;
  private final int width;
  private final float eps;
  private final float[] hidden;
  private final float[] normWeight;
  private final VectorGemv gate;
  private final VectorGemv up;
  private final VectorGemv down;
  private final float[] normed;
  private final float[] x;
  private final float[] activated;
  private final float[] arranged;
  private final float[][][] first;
  private final float[][][] second;
  private final float[] out;

  VectorFfn(Problem problem, int threads) {
    super(threads);
    exn_ffn_params p = problem.params(exn_ffn_params::new);
    Matrix states = Matrix.of(p.hidden());
    Matrix upWeight = Matrix.of(p.up_weight());
    target = p.out();
    rows = states.rows();
    dim = states.cols();
    width = upWeight.rows();
    eps = p.norm_eps();
    hidden = states.values();
    normWeight = Matrix.of(p.norm_weight()).values();
    gate = new VectorGemv(Matrix.of(p.gate_weight()));
    up = new VectorGemv(upWeight);
    down = new VectorGemv(Matrix.of(p.down_weight()));
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

  private void activate(int thread) {
    int from = workers.begin(thread, width);
    int to = workers.begin(thread + 1, width);
    gate.multiply(x, rows, from, to, first[thread]);
    up.multiply(x, rows, from, to, second[thread]);
    for (int r = 0; r < rows; r++) {
      for (int o = from; o < to; o++) {
        float g = first[thread][r][o - from];
        activated[r * width + o] = (float) (g / (1 + Math.exp(-g))) * second[thread][r][o - from];
      }
    }
  }

  private void project(int thread) {
    int from = workers.begin(thread, dim);
    int to = workers.begin(thread + 1, dim);
    down.multiply(arranged, rows, from, to, first[thread]);
    for (int r = 0; r < rows; r++) {
      for (int o = from; o < to; o++) {
        out[r * dim + o] = hidden[r * dim + o] + first[thread][r][o - from];
      }
    }
  }

  @Override
  public void deliver() {
    Problem.put(target, out);
  }
}
