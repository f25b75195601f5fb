// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

import java.util.stream.IntStream;

/** What a few queries pay to each token, and the tokens to keep for it. */
public final class AttentionScoresProblem extends Problem<ScoresResult> {
  /** What becomes of the query heads. */
  public enum Heads { EACH, SUM, MEAN, GROUP }

  /** How neighbours share their scores. */
  public enum Pool { NONE, AVG, MAX }

  /** Of N columns the k best are kept, and those from {@code keepFrom} on; room for K. */
  public record Choice(int k, int room, int keepFrom) {}

  public final CacheLayout layout;
  public final int window;
  public final int queryHeads;

  /** [S W, heads * dim]. */
  public final Matrix query;

  /** All slots of all sequences, [S * T, cached heads * dim]. */
  public final Matrix k;

  public final int[] visible;

  /** Columns of each prompt that are scored. */
  public final int limit;

  public final int columns;
  public final int first;
  public final float scale;
  public final boolean softmax;
  public final Heads heads;
  public final Pool pool;
  public final int poolWidth;

  /** Whether the scores are handed out. */
  public final boolean scores;

  /** Null if nothing is chosen. */
  public final Choice choice;

  public AttentionScoresProblem(CacheLayout layout, int window, int queryHeads, Storage storage,
      boolean causal, int limit, int columns, int first, float scale, boolean softmax, Heads heads,
      Pool pool, int poolWidth, boolean scores, Choice choice, int seed) {
    super("attention_scores");
    this.layout = layout;
    this.window = window;
    this.queryHeads = queryHeads;
    this.limit = limit;
    this.columns = columns;
    this.first = first;
    this.scale = scale;
    this.softmax = softmax;
    this.heads = heads;
    this.pool = pool;
    this.poolWidth = poolWidth;
    this.scores = scores;
    this.choice = choice;
    int rows = layout.sequences * window;
    query = Matrix.normal(rows, queryHeads * layout.dim, storage, 1, seed, 0);
    k = Matrix.normal(
        layout.sequences * layout.slots, layout.heads * layout.dim, storage, 1, seed, 1);
    visible =
        IntStream.range(0, rows)
            .map(r -> causal ? layout.slots - window + 1 + r % window : layout.slots)
            .toArray();
  }

  /** Rows of scores for each prompt. */
  public int scoreHeads() {
    return heads == Heads.EACH ? queryHeads : heads == Heads.GROUP ? layout.heads : 1;
  }

  /** Bytes that must move: keys once for 2^20 scores of rows, queries, scores and lists. */
  @Override
  public long bytes() {
    long rows = Math.max(1, (1L << 20) / ((long) queryHeads * layout.slots));
    long passes = (window + rows - 1) / rows;
    long given = 4L * layout.sequences * scoreHeads()
        * ((scores ? columns : 0) + (choice == null ? 0 : choice.room));
    return passes * k.bytes() + query.bytes() + given;
  }

  /** Multiply-adds of queries with the keys that they see. */
  @Override
  public long multiplyAdds() {
    return IntStream.of(visible).asLongStream().sum() * queryHeads * layout.dim;
  }

  /** Throws unless scores and lists are right. */
  @Override
  public void check(ScoresResult result) {
    int rows = layout.sequences * scoreHeads();
    // Sums of products may cancel, and a small weight is as good as none.
    double floor = softmax ? 1.0 / columns : 1;
    IntStream.range(0, rows).parallel().forEach(r -> {
      double[] expected = row(r / scoreHeads(), r % scoreHeads());
      for (int j = 0; scores && j < limit; j++) {
        int at = r * columns + j;
        Check.close("scores", at, expected[j], result.scores()[at], Check.F32_TOLERANCE, floor);
      }
      if (choice != null) {
        checkList(expected, r, result.indices(), floor);
      }
    });
  }

  /** Columns whose scores lie within the tolerance of the cut may go either way. */
  private void checkList(double[] expected, int row, int[] indices, double floor) {
    boolean[] has = new boolean[columns];
    int kept = 0;
    int before = -1;
    for (int i = row * choice.room; i < (row + 1) * choice.room && indices[i] >= 0; i++) {
      if (indices[i] <= before) {
        throw new IllegalStateException("indices[" + i + "] does not ascend");
      }
      before = indices[i];
      has[before] = true;
      kept++;
    }
    Check.same("count", row, Math.min(choice.k, limit) + columns - choice.keepFrom, kept);
    double lowest = Double.POSITIVE_INFINITY;
    double highest = Double.NEGATIVE_INFINITY;
    for (int j = 0; j < limit; j++) {
      lowest = has[j] ? Math.min(lowest, expected[j]) : lowest;
      highest = has[j] ? highest : Math.max(highest, expected[j]);
    }
    if (lowest < highest - Check.F32_TOLERANCE * Math.max(Math.abs(highest), floor)) {
      throw new IllegalStateException("row " + row + " keeps " + lowest + ", but not " + highest);
    }
  }

  private double[] row(int prompt, int head) {
    int count = queryHeads / scoreHeads();
    double[] sums = new double[limit];
    for (int h = head * count; h < (head + 1) * count; h++) {
      for (int i = 0; i < window; i++) {
        add(prompt * window + i, h, prompt * layout.slots, sums);
      }
    }
    for (int j = 0; heads == Heads.MEAN && j < limit; j++) {
      sums[j] /= queryHeads;
    }
    return pool == Pool.NONE ? sums : pooled(sums);
  }

  private void add(int row, int head, int firstSlot, double[] sums) {
    int dim = layout.dim;
    int width = layout.heads * dim;
    int from = head / (queryHeads / layout.heads) * dim;
    double[] z = new double[visible[row]];
    double top = Double.NEGATIVE_INFINITY;
    for (int t = 0; t < z.length; t++) {
      for (int d = 0; d < dim; d++) {
        z[t] += (double) query.values()[row * query.cols() + head * dim + d]
            * k.values()[(firstSlot + t) * width + from + d];
      }
      z[t] *= scale;
      top = Math.max(top, z[t]);
    }
    double total = 0;
    for (int t = 0; softmax && t < z.length; t++) {
      z[t] = Math.exp(z[t] - top);
      total += z[t];
    }
    for (int j = 0; j < Math.min(limit, z.length - first); j++) {
      sums[j] += z[first + j] / (softmax ? total : 1);
    }
  }

  private double[] pooled(double[] sums) {
    double[] result = new double[sums.length];
    for (int j = 0; j < sums.length; j++) {
      double value = pool == Pool.AVG ? 0 : Double.NEGATIVE_INFINITY;
      int last = Math.min(sums.length - 1, j + poolWidth / 2);
      for (int i = Math.max(0, j - poolWidth / 2); i <= last; i++) {
        value = pool == Pool.AVG ? value + sums[i] / poolWidth : Math.max(value, sums[i]);
      }
      result[j] = value;
    }
    return result;
  }
}
