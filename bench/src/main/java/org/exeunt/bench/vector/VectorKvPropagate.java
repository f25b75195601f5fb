// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import java.util.Arrays;
import org.exeunt.KvCache;
import org.exeunt.Tensor;
import org.exeunt.bench.contenders.Matrix;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.vector.lanes.VectorPeer;
import org.exeunt.cases.Facade;
import org.exeunt.jni.exn_kv_layer;
import org.exeunt.jni.exn_kv_propagate_params;
import org.exeunt.jni.global.exeunt;

/** Layer after layer: RMSNorm, both projections shared out among the workers, rotated keys. */
final class VectorKvPropagate extends VectorPeer {
  private final exn_kv_propagate_params params;
  private final float[] hidden;
  private final int[] position;
  private final float[] table;
  private final int pairs;
  private final int heads;
  private final boolean interleaved;
  private final int rows;
  private final int dim;
  private final int width;
  private final VectorGemv[] kWeights;
  private final VectorGemv[] vWeights;
  private final float[][] normWeights;
  private final float[] normed;
  private final float[] x;
  private final float[][][] products;
  private final float[] out;
  private int layer;

  VectorKvPropagate(Problem problem, int threads) {
    super(threads);
    params = problem.params(exn_kv_propagate_params::new);
    Matrix states = Matrix.of(params.hidden());
    Tensor angles = Facade.tensor(params.rope_table());
    hidden = states.values();
    rows = states.rows();
    dim = states.cols();
    position = Facade.tensor(params, "position").toIntArray();
    table = angles.toFloatArray();
    pairs = (int) angles.size(1);
    heads = (int) Facade.cache(params.layers().cache()).heads();
    interleaved = params.rope_style() == exeunt.EXN_ROPE_INTERLEAVED;
    int count = params.layer_count();
    kWeights = new VectorGemv[count];
    vWeights = new VectorGemv[count];
    normWeights = new float[count][];
    for (int j = 0; j < count; j++) {
      exn_kv_layer owed = params.layers().getPointer(j);
      kWeights[j] = new VectorGemv(Matrix.of(owed.k_weight()));
      vWeights[j] = new VectorGemv(Matrix.of(owed.v_weight()));
      normWeights[j] = Matrix.of(owed.norm_weight()).values();
    }
    width = kWeights[0].rows();
    normed = new float[rows * dim];
    x = new float[rows * dim];
    products = new float[threads][rows][width];
    out = new float[count * rows * 2 * width];
  }

  /** Where a result keeps the key of a row; the value follows it. */
  private int at(int layer, int row) {
    return (layer * rows + row) * 2 * width;
  }

  @Override
  public Object run() {
    for (layer = 0; layer < kWeights.length; layer++) {
      for (int r = 0; r < rows; r++) {
        VectorNorm.normalise(hidden, r * dim, normWeights[layer], dim, params.norm_eps(), normed);
        kWeights[layer].arrange(normed, r * dim, x, r * dim);
      }
      workers.run(this::project);
      for (int r = 0; r < rows; r++) {
        rotate(at(layer, r), position[r]);
      }
    }
    return out;
  }

  private void project(int thread) {
    int from = workers.begin(thread, width);
    int to = workers.begin(thread + 1, width);
    kWeights[layer].multiply(x, rows, from, to, products[thread]);
    store(thread, from, to, 0);
    vWeights[layer].multiply(x, rows, from, to, products[thread]);
    store(thread, from, to, width);
  }

  private void store(int thread, int from, int to, int offset) {
    for (int r = 0; r < rows; r++) {
      System.arraycopy(products[thread][r], 0, out, at(layer, r) + offset + from, to - from);
    }
  }

  private void rotate(int key, int position) {
    int dimOfHead = width / heads;
    for (int h = 0; h < heads; h++) {
      for (int i = 0; i < pairs; i++) {
        int a = key + h * dimOfHead + (interleaved ? 2 * i : i);
        int b = interleaved ? a + 1 : a + pairs;
        float cos = table[position * 2 * pairs + 2 * i];
        float sin = table[position * 2 * pairs + 2 * i + 1];
        float turned = out[a] * cos - out[b] * sin;
        out[b] = out[b] * cos + out[a] * sin;
        out[a] = turned;
      }
    }
  }

  @Override
  public void deliver() {
    int[] slots = Facade.tensor(params.slot()).toIntArray();
    for (int j = 0; j < kWeights.length; j++) {
      KvCache cache = Facade.cache(params.layers().getPointer(j).cache());
      for (int r = 0; r < rows; r++) {
        store(cache.k(), cache.capacity(), slots[r], at(j, r));
        store(cache.v(), cache.capacity(), slots[r], at(j, r) + width);
      }
    }
  }

  /** Normalised rows are not rounded to bf16 as exeunt's are, which moves sums of about 2 so far. */
  @Override
  public double more() {
    return 16e-3;
  }

  /** A token of a head-major cache of one sequence. */
  private void store(Tensor cache, long capacity, int slot, int from) {
    int head = width / heads;
    Tensor tokens = cache.reshape(cache.elements() / head, head);
    for (int h = 0; h < heads; h++) {
      tokens.row(h * capacity + slot)
          .copyFrom(Arrays.copyOfRange(out, from + h * head, from + (h + 1) * head));
    }
  }
}
