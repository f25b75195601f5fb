// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

import java.util.stream.IntStream;

/** Grouped-query attention of rows over a cache; the result is [R, heads * dim]. */
public final class AttentionProblem extends Problem<float[]> {
  public final CacheLayout layout;
  public final int queryHeads;

  /** [R, heads * dim]. */
  public final Matrix query;

  /** All slots of all sequences, [S * T, cached heads * dim]. */
  public final Matrix k;

  public final Matrix v;
  public final int[] sequence;
  public final int[] visible;
  public final float scale;

  /** Whether the scores before the softmax are wanted too. */
  public final boolean scores;

  /** Causal rows see one slot more than the row before, the last one all; others see all. */
  public AttentionProblem(CacheLayout layout, int rows, int queryHeads, Storage storage,
      boolean causal, float scale, boolean scores, int seed) {
    super("attention");
    this.layout = layout;
    this.queryHeads = queryHeads;
    this.scale = scale;
    this.scores = scores;
    int slots = layout.sequences * layout.slots;
    int width = layout.heads * layout.dim;
    query = Matrix.normal(rows, queryHeads * layout.dim, storage, 1, seed, 0);
    k = Matrix.normal(slots, width, storage, 1, seed, 1);
    v = Matrix.normal(slots, width, storage, 1, seed, 2);
    sequence = IntStream.range(0, rows).map(r -> r % layout.sequences).toArray();
    visible =
        IntStream.range(0, rows)
            .map(r -> causal ? layout.slots - rows + 1 + r : layout.slots)
            .toArray();
  }

  /** Bytes that must move: the visible slots of each sequence, query, output, scores. */
  @Override
  public long bytes() {
    long seen = 0;
    for (int s = 0; s < layout.sequences; s++) {
      int of = s;
      seen +=
          IntStream.range(0, visible.length)
              .filter(r -> sequence[r] == of)
              .map(r -> visible[r])
              .max()
              .orElse(0);
    }
    long cache = 2 * seen * layout.heads * layout.dim * k.storage().bytes();
    long given = scores ? 4L * query.rows() * queryHeads * layout.slots : 0;
    return cache + 2 * query.bytes() + given;
  }

  /** Multiply-adds of queries with the keys that they see, and of weights with the values. */
  @Override
  public long multiplyAdds() {
    return 2L * IntStream.of(visible).asLongStream().sum() * queryHeads * layout.dim;
  }

  /** Throws unless {@code out} is right. */
  @Override
  public void check(float[] out) {
    Check.length("elements", query.values().length, out.length);
    int dim = layout.dim;
    IntStream.range(0, query.rows() * queryHeads).parallel().forEach(i -> {
      double[] expected = head(i / queryHeads, i % queryHeads);
      for (int d = 0; d < dim; d++) {
        Check.close(
            "out", i * dim + d, expected[d], out[i * dim + d], Check.tolerance(query.storage()), 1);
      }
    });
  }

  private double[] head(int row, int head) {
    int dim = layout.dim;
    int width = layout.heads * dim;
    int from = head / (queryHeads / layout.heads) * dim;
    int first = sequence[row] * layout.slots;
    double[] score = new double[visible[row]];
    double top = Double.NEGATIVE_INFINITY;
    for (int t = 0; t < score.length; t++) {
      for (int d = 0; d < dim; d++) {
        score[t] += (double) query.values()[row * query.cols() + head * dim + d]
            * k.values()[(first + t) * width + from + d] * scale;
      }
      top = Math.max(top, score[t]);
    }
    double total = 0;
    double[] out = new double[dim];
    for (int t = 0; t < score.length; t++) {
      double weight = Math.exp(score[t] - top);
      total += weight;
      for (int d = 0; d < dim; d++) {
        out[d] += weight * v.values()[(first + t) * width + from + d];
      }
    }
    for (int d = 0; d < dim; d++) {
      out[d] /= total;
    }
    return out;
  }
}
