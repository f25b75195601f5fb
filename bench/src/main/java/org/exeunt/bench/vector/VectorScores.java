// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import static org.exeunt.bench.vector.lanes.Lanes.COUNT;
import static org.exeunt.bench.vector.lanes.Lanes.FLOATS;

import java.util.Arrays;
import jdk.incubator.vector.FloatVector;
import org.exeunt.KvCache;
import org.exeunt.bench.contenders.Matrix;
import org.exeunt.bench.contenders.Peer;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.vector.lanes.Lanes;
import org.exeunt.bench.vector.lanes.Workers;
import org.exeunt.cases.Facade;
import org.exeunt.jni.DLTensor;
import org.exeunt.jni.exn_attention_scores_params;
import org.exeunt.jni.exn_selection;
import org.exeunt.jni.global.exeunt;
import org.openjdk.jmh.annotations.CompilerControl;

/**
 * One row's scores, averaged over the heads: cached heads are shared out among the workers, each of
 * which adds its own up.
 */
final class VectorScores implements Peer {
  private final DLTensor target;
  private final int heads;
  private final int group;
  private final int slots;
  private final int dim;
  private final float scale;
  private final boolean softmax;
  private final VectorGemv[] keys;
  private final float[] query;
  private final Workers workers;
  private final float[][][] scores;
  private final float[][] sums;
  private final JavaSelect select;

  VectorScores(Problem problem, int threads) {
    exn_attention_scores_params p = problem.params(exn_attention_scores_params::new);
    KvCache cached = Facade.cache(p.keys());
    Matrix k = Matrix.of(p.keys().k());
    Matrix queries = Matrix.of(p.query());
    target = p.scores();
    exn_selection choice = p.selection();
    heads = (int) cached.heads();
    slots = (int) cached.capacity();
    dim = (int) cached.headDim();
    group = queries.values().length / dim / heads;
    scale = p.scale();
    softmax = p.kind() == exeunt.EXN_SCORE_SOFTMAX;
    keys = new VectorGemv[heads];
    for (int h = 0; h < heads; h++) {
      keys[h] = new VectorGemv(k.reshaped(dim).rows(h * slots, (h + 1) * slots));
    }
    query = keys[0].arranged(queries.values(), group * heads);
    workers = Workers.of(Math.min(threads, heads));
    scores = new float[workers.threads()][group][slots];
    sums = new float[workers.threads()][slots];
    select = choice.indices() == null ? null : new JavaSelect(sums[0], 1, 1, slots, choice);
  }

  @Override
  public Object run() {
    workers.run(this::runPart);
    for (int thread = 1; thread < sums.length; thread++) {
      add(sums[thread], 1, sums[0]);
    }
    if (select != null) {
      select.run();
    }
    return sums;
  }

  private void runPart(int thread) {
    Arrays.fill(sums[thread], 0);
    float[] queries = new float[group * dim];
    for (int h = workers.begin(thread, heads); h < workers.begin(thread + 1, heads); h++) {
      System.arraycopy(query, h * group * dim, queries, 0, queries.length);
      keys[h].multiply(queries, group, 0, slots, scores[thread]);
      for (int g = 0; g < group; g++) {
        float[] row = scores[thread][g];
        float factor = softmax ? 1 / VectorAttention.exponentials(row, slots, scale) : scale;
        add(row, factor / (heads * group), sums[thread]);
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
  public void deliver() {
    if (target != null) {
      Problem.put(target, sums[0]);
    }
    if (select != null) {
      select.deliver();
    }
  }
}
