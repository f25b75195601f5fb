// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import static org.exeunt.bench.vector.lanes.Lanes.COUNT;
import static org.exeunt.bench.vector.lanes.Lanes.FLOATS;
import static org.exeunt.bench.vector.lanes.Lanes.INTS;

import java.util.Arrays;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorOperators;
import org.exeunt.DType;
import org.exeunt.KvCache;
import org.exeunt.bench.contenders.Matrix;
import org.exeunt.bench.contenders.Peer;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.vector.lanes.Lanes;
import org.exeunt.bench.vector.lanes.Workers;
import org.exeunt.cases.Facade;
import org.exeunt.jni.DLTensor;
import org.exeunt.jni.exn_attention_params;
import org.openjdk.jmh.annotations.CompilerControl;

/**
 * One query row over a head-major bf16 cache: cached heads are shared out among the workers, the
 * queries of a group share its keys and values.
 */
final class VectorAttention implements Peer {
  /** Slots whose values stay in the first-level cache while every query weighs them. */
  private static final int TILE = 64;

  private final DLTensor target;
  private final int heads;
  private final int group;
  private final int slots;
  private final int dim;
  private final float scale;
  private final VectorGemv[] keys;
  private final int[][] values;
  private final float[] query;
  private final Workers workers;
  private final float[][][] scores;
  private final float[][] totals;
  private final float[] out;

  VectorAttention(Problem problem, int threads) {
    exn_attention_params p = problem.params(exn_attention_params::new);
    Matrix k = Matrix.of(p.cache().k());
    Matrix v = Matrix.of(p.cache().v());
    KvCache cached = Facade.cache(p.cache());
    Matrix queries = Matrix.of(p.query());
    target = p.out();
    heads = (int) cached.heads();
    slots = (int) cached.capacity();
    dim = (int) cached.headDim();
    group = queries.values().length / dim / heads;
    scale = p.scale();
    if (k.storage() != DType.BF16 || dim % (4 * COUNT) != 0) {
      throw new UnsupportedOperationException("the Vector API peer attends over bf16 caches");
    }
    keys = new VectorGemv[heads];
    values = new int[heads][];
    for (int h = 0; h < heads; h++) {
      keys[h] = new VectorGemv(k.reshaped(dim).rows(h * slots, (h + 1) * slots));
      values[h] = v.reshaped(dim).rows(h * slots, (h + 1) * slots).packed();
    }
    query = keys[0].arranged(queries.values(), group * heads);
    workers = Workers.of(Math.min(threads, heads));
    scores = new float[workers.threads()][group][slots];
    totals = new float[workers.threads()][group];
    out = new float[group * heads * dim];
  }

  @Override
  public Object run() {
    workers.run(this::runPart);
    return out;
  }

  private void runPart(int thread) {
    float[] queries = new float[group * dim];
    for (int h = workers.begin(thread, heads); h < workers.begin(thread + 1, heads); h++) {
      System.arraycopy(query, h * group * dim, queries, 0, queries.length);
      keys[h].multiply(queries, group, 0, slots, scores[thread]);
      for (int g = 0; g < group; g++) {
        totals[thread][g] = exponentials(scores[thread][g], slots, scale);
      }
      int first = h * group * dim;
      Arrays.fill(out, first, first + group * dim, 0);
      for (int t = 0; t < slots; t += TILE) {
        int end = Math.min(slots, t + TILE);
        for (int g = 0; g < group; g++) {
          for (int d = 0; d < dim / 2; d += 2 * COUNT) {
            weigh(values[h], dim / 2, d, scores[thread][g], t, end, out, first + g * dim);
          }
        }
      }
      for (int i = 0; i < group * dim; i++) {
        out[first + i] /= totals[thread][i / dim];
      }
    }
  }

  /** Replaces scores by exp(scale (s - max)) and returns their sum. */
  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  static float exponentials(float[] s, int count, float scale) {
    int whole = Lanes.whole(count, COUNT);
    FloatVector tops = FloatVector.broadcast(FLOATS, s[0]);
    for (int i = 0; i < whole; i += COUNT) {
      tops = tops.max(FloatVector.fromArray(FLOATS, s, i));
    }
    float max = tops.reduceLanes(VectorOperators.MAX);
    for (int i = whole; i < count; i++) {
      max = Math.max(max, s[i]);
    }
    FloatVector sums = FloatVector.zero(FLOATS);
    for (int i = 0; i < whole; i += COUNT) {
      FloatVector e = Lanes.exp(FloatVector.fromArray(FLOATS, s, i).sub(max).mul(scale));
      e.intoArray(s, i);
      sums = sums.add(e);
    }
    float sum = sums.reduceLanes(VectorOperators.ADD);
    for (int i = whole; i < count; i++) {
      s[i] = (float) Math.exp((s[i] - max) * scale);
      sum += s[i];
    }
    return sum;
  }

  /** Adds two vectors of pairs, from pair {@code d} of each value on, to their place in out. */
  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  private static void weigh(
      int[] v, int pairs, int d, float[] p, int from, int to, float[] out, int head) {
    int even = head + d;
    int odd = even + pairs;
    FloatVector even0 = FloatVector.fromArray(FLOATS, out, even);
    FloatVector even1 = FloatVector.fromArray(FLOATS, out, even + COUNT);
    FloatVector odd0 = FloatVector.fromArray(FLOATS, out, odd);
    FloatVector odd1 = FloatVector.fromArray(FLOATS, out, odd + COUNT);
    for (int t = from; t < to; t++) {
      FloatVector w = FloatVector.broadcast(FLOATS, p[t]);
      IntVector a = IntVector.fromArray(INTS, v, t * pairs + d);
      IntVector b = IntVector.fromArray(INTS, v, t * pairs + d + COUNT);
      even0 = Lanes.low(a).fma(w, even0);
      odd0 = Lanes.high(a).fma(w, odd0);
      even1 = Lanes.low(b).fma(w, even1);
      odd1 = Lanes.high(b).fma(w, odd1);
    }
    even0.intoArray(out, even);
    even1.intoArray(out, even + COUNT);
    odd0.intoArray(out, odd);
    odd1.intoArray(out, odd + COUNT);
  }

  /** Even elements of a head lie before its odd ones. */
  @Override
  public void deliver() {
    float[] result = new float[out.length];
    for (int i = 0; i < out.length; i++) {
      int head = i / dim * dim;
      int at = i % dim;
      result[i] = out[head + at / 2 + (at % 2) * (dim / 2)];
    }
    Problem.put(target, result);
  }
}
