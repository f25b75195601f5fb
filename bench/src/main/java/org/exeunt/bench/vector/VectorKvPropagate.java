// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.reference.KvPropagateProblem;

/** Layer after layer: RMSNorm, both projections shared out among the workers, rotated keys. */
final class VectorKvPropagate implements Contender<float[]> {
  private final KvPropagateProblem problem;
  private final int rows;
  private final int dim;
  private final int width;
  private final VectorGemv[] kWeights;
  private final VectorGemv[] vWeights;
  private final float[][] normWeights;
  private final Workers workers;
  private final float[] normed;
  private final float[] x;
  private final float[][][] products;
  private final float[] out;
  private int layer;

  VectorKvPropagate(KvPropagateProblem problem, int threads) {
    this.problem = problem;
    rows = problem.hidden.rows();
    dim = problem.hidden.cols();
    width = problem.width();
    int count = problem.layers.length;
    kWeights = new VectorGemv[count];
    vWeights = new VectorGemv[count];
    normWeights = new float[count][];
    for (int j = 0; j < count; j++) {
      kWeights[j] = new VectorGemv(problem.layers[j].kWeight());
      vWeights[j] = new VectorGemv(problem.layers[j].vWeight());
      normWeights[j] = problem.layers[j].normWeight().values();
    }
    workers = new Workers(threads);
    normed = new float[rows * dim];
    x = new float[rows * dim];
    products = new float[threads][rows][width];
    out = new float[count * rows * 2 * width];
  }

  @Override
  public Object run() {
    for (layer = 0; layer < kWeights.length; layer++) {
      for (int r = 0; r < rows; r++) {
        VectorNorm.normalise(
            problem.hidden.values(), r * dim, normWeights[layer], dim, problem.eps, normed);
        kWeights[layer].arrange(normed, r * dim, x, r * dim);
      }
      workers.run(this::project);
      for (int r = 0; r < rows; r++) {
        rotate(problem.at(layer, r), problem.position[r]);
      }
    }
    return out;
  }

  private void project(int part) {
    int from = workers.begin(part, width);
    int to = workers.begin(part + 1, width);
    kWeights[layer].multiply(x, rows, from, to, products[part]);
    store(part, from, to, 0);
    vWeights[layer].multiply(x, rows, from, to, products[part]);
    store(part, from, to, width);
  }

  private void store(int part, int from, int to, int offset) {
    for (int r = 0; r < rows; r++) {
      System.arraycopy(products[part][r], 0, out, problem.at(layer, r) + offset + from, to - from);
    }
  }

  private void rotate(int key, int position) {
    float[] table = problem.table.values();
    int pairs = problem.table.cols() / 2;
    int dimOfHead = width / problem.heads;
    for (int h = 0; h < problem.heads; h++) {
      for (int i = 0; i < pairs; i++) {
        int a = key + h * dimOfHead + (problem.interleaved ? 2 * i : i);
        int b = problem.interleaved ? a + 1 : a + pairs;
        float cos = table[position * 2 * pairs + 2 * i];
        float sin = table[position * 2 * pairs + 2 * i + 1];
        float turned = out[a] * cos - out[b] * sin;
        out[b] = out[b] * cos + out[a] * sin;
        out[a] = turned;
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
