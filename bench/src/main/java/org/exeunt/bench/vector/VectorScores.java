// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import static org.exeunt.bench.vector.Lanes.COUNT;
import static org.exeunt.bench.vector.Lanes.FLOATS;

import java.util.Arrays;
import jdk.incubator.vector.FloatVector;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.reference.AttentionScoresProblem;
import org.exeunt.bench.reference.ScoresResult;
import org.openjdk.jmh.annotations.CompilerControl;

/**
 * One row's scores, averaged over the heads: cached heads are shared out among the workers, each of
 * which adds its own up.
 */
final class VectorScores implements Contender<ScoresResult> {
  private final int heads;
  private final int group;
  private final int slots;
  private final int dim;
  private final float scale;
  private final boolean softmax;
  private final boolean handedOut;
  private final VectorGemv[] keys;
  private final float[] query;
  private final Workers workers;
  private final float[][][] scores;
  private final float[][] sums;
  private final JavaSelect select;

  VectorScores(AttentionScoresProblem problem, int threads) {
    heads = problem.layout.heads;
    group = problem.queryHeads / heads;
    slots = problem.layout.slots;
    dim = problem.layout.dim;
    scale = problem.scale;
    softmax = problem.softmax;
    handedOut = problem.scores;
    keys = new VectorGemv[heads];
    for (int h = 0; h < heads; h++) {
      keys[h] = new VectorGemv(problem.k.columns(h * dim, (h + 1) * dim));
    }
    query = keys[0].arranged(problem.query.values(), problem.queryHeads);
    workers = new Workers(Math.min(threads, heads));
    scores = new float[workers.parts()][group][slots];
    sums = new float[workers.parts()][slots];
    select =
        problem.choice == null ? null : new JavaSelect(sums[0], 1, 1, slots, problem.choice.k());
  }

  @Override
  public Object run() {
    workers.run(this::runPart);
    for (int part = 1; part < sums.length; part++) {
      add(sums[part], 1, sums[0]);
    }
    if (select != null) {
      select.run();
    }
    return sums;
  }

  private void runPart(int part) {
    Arrays.fill(sums[part], 0);
    float[] queries = new float[group * dim];
    for (int h = workers.begin(part, heads); h < workers.begin(part + 1, heads); h++) {
      System.arraycopy(query, h * group * dim, queries, 0, queries.length);
      keys[h].multiply(queries, group, 0, slots, scores[part]);
      for (int g = 0; g < group; g++) {
        float[] row = scores[part][g];
        float factor = softmax ? 1 / VectorAttention.exponentials(row, slots, scale) : scale;
        add(row, factor / (heads * group), sums[part]);
      }
    }
  }

  /** to += factor * row. */
  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  private static void add(float[] row, float factor, float[] to) {
    int whole = Lanes.whole(to.length, COUNT);
    for (int i = 0; i < whole; i += COUNT) {
      FloatVector.fromArray(FLOATS, row, i)
          .fma(FloatVector.broadcast(FLOATS, factor), FloatVector.fromArray(FLOATS, to, i))
          .intoArray(to, i);
    }
    for (int i = whole; i < to.length; i++) {
      to[i] += factor * row[i];
    }
  }

  @Override
  public ScoresResult result() {
    return new ScoresResult(handedOut ? sums[0] : null, select == null ? null : select.result());
  }

  @Override
  public void close() {
    workers.close();
  }
}
