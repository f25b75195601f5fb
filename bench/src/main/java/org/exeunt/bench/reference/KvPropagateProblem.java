// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

import java.util.stream.IntStream;

/**
 * Rows that left owe keys and values to the layers above: RMSNorm, two projections, rotated keys.
 * The result has for each listed layer and row the key, then the value; zeros where nothing is
 * owed.
 */
public final class KvPropagateProblem extends Problem<float[]> {
  /** One layer that rows may owe. */
  public record Layer(int index, Matrix normWeight, Matrix kWeight, Matrix vWeight) {}

  /** For keys and values of rows that were rounded to bf16 between the norm and the products. */
  private static final double ROUNDED_TOLERANCE = 2e-2;

  public final Matrix hidden;
  public final Layer[] layers;
  public final int modelLayers;
  public final int heads;
  public final float eps;
  public final Matrix table;
  public final int[] position;
  public final boolean interleaved;
  public final int[] exitLayer;
  public final int slots;

  /** Slots of a page; 0: the caches are not paged. */
  public final int page;

  /** The first listed layer and their number; the rest as in the case tables. */
  public KvPropagateProblem(Matrix hidden, int first, int count, int modelLayers, int heads,
      int dim, Storage storage, float scale, float eps, int positions, int pairs,
      boolean interleaved, boolean mixed, int slots, int page, int seed) {
    super("kv_propagate");
    this.hidden = hidden;
    this.modelLayers = modelLayers;
    this.heads = heads;
    this.eps = eps;
    this.interleaved = interleaved;
    this.slots = slots;
    this.page = page;
    table = RopeProblem.table(positions, pairs, seed);
    position = RopeProblem.positions(hidden.rows(), positions, false, seed, 12);
    layers =
        IntStream.range(0, count)
            .mapToObj(k -> {
              int stream = 128 + 16 * k;
              return new Layer(first + k, NormProblem.weight(hidden.cols(), seed, stream + 4),
                  Matrix.normal(heads * dim, hidden.cols(), storage, scale, seed, stream),
                  Matrix.normal(heads * dim, hidden.cols(), storage, scale, seed, stream + 1));
            })
            .toArray(Layer[] ::new);
    Words exits = new Words(seed, 10);
    exitLayer =
        IntStream.range(0, hidden.rows())
            .map(r
                -> !mixed        ? 0
                    : r % 4 == 3 ? -1
                                 : exits.pick(r, modelLayers + 1))
            .toArray();
  }

  /** Where a row's token lies, in every layer. */
  public int slot(int row) {
    return (row * 5 + 3) % slots;
  }

  /** Elements of a key, all heads. */
  public int width() {
    return layers[0].kWeight.rows();
  }

  private boolean owes(int layer, int row) {
    return exitLayer[row] >= 0 && exitLayer[row] <= layers[layer].index;
  }

  private long owing(int layer) {
    return IntStream.range(0, hidden.rows()).filter(r -> owes(layer, r)).count();
  }

  /** Bytes that must move: the weights of each owed layer, and the keys and values. */
  @Override
  public long bytes() {
    long bytes = hidden.bytes();
    for (int j = 0; j < layers.length; j++) {
      long owing = owing(j);
      bytes += (owing + 63) / 64 * 2 * layers[j].kWeight.bytes();
      bytes += owing * 2 * width() * layers[j].kWeight.storage().bytes();
    }
    return bytes;
  }

  /** Multiply-adds of the projections that are owed. */
  @Override
  public long multiplyAdds() {
    long projections = IntStream.range(0, layers.length).mapToLong(this::owing).sum() * 2;
    return projections * width() * hidden.cols();
  }

  /** Where a result keeps the key of a row in a layer; the value follows it. */
  public int at(int layer, int row) {
    return (layer * hidden.rows() + row) * 2 * width();
  }

  @Override
  public void check(float[] result) {
    Check.length("elements", layers.length * hidden.rows() * 2 * width(), result.length);
    Storage weights = layers[0].kWeight.storage();
    boolean rounded = hidden.storage() == Storage.BF16 && weights == Storage.BF16;
    double tolerance = rounded ? ROUNDED_TOLERANCE : Check.tolerance(weights);
    IntStream.range(0, layers.length).parallel().forEach(j -> {
      for (int r = 0; r < hidden.rows(); r++) {
        double[] k = new double[width()];
        double[] v = k;
        if (owes(j, r)) {
          double[] x = NormProblem.normed(Rows.row(hidden, r), layers[j].normWeight, null, eps);
          k = LinearProblem.times(layers[j].kWeight, x);
          v = LinearProblem.times(layers[j].vWeight, x);
          RopeProblem.rotate(k, heads, table, position[r], interleaved);
        }
        for (int i = 0; i < k.length; i++) {
          Check.close("k", at(j, r) + i, k[i], result[at(j, r) + i], tolerance, 1);
          int value = at(j, r) + k.length + i;
          Check.close("v", value, v[i], result[value], tolerance, 1);
        }
      }
    });
  }
}
