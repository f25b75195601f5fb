// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.reference.Bfloat16;
import org.exeunt.bench.reference.GatherProblem;
import org.exeunt.bench.reference.KvCompactProblem;
import org.exeunt.bench.reference.Matrix;
import org.exeunt.bench.reference.Storage;

/**
 * Entries of [outer, N, inner] tensors moved by {@code System.arraycopy}, which is vectorised;
 * entries are shared out among the workers.
 */
final class JavaGather implements Contender<float[]> {
  private final Object[] sources;
  private final Object[] targets;
  private final int outer;
  private final int entries;
  private final int inner;
  private final int room;
  private final JavaSelect select;
  private final Workers workers;
  private int[] list;

  JavaGather(GatherProblem problem, int threads) {
    this(problem.tensors, problem.outer, problem.entries, problem.inner, problem.list,
        problem.scores == null
            ? null
            : new JavaSelect(problem.scores.values(), 1, problem.scores.rows(), problem.entries,
                  problem.list.length),
        threads);
  }

  JavaGather(KvCompactProblem problem, int threads) {
    this(new Matrix[] {problem.k, problem.v}, problem.layout.heads, problem.layout.slots,
        problem.layout.dim, problem.lists[0], null, threads);
    if (problem.perHead || problem.destination.slots != list.length) {
      throw new UnsupportedOperationException("the Java peer keeps the same slots of every head");
    }
  }

  private JavaGather(Matrix[] tensors, int outer, int entries, int inner, int[] list,
      JavaSelect select, int threads) {
    this.outer = outer;
    this.entries = entries;
    this.inner = inner;
    this.list = list;
    this.select = select;
    room = list.length;
    sources = new Object[tensors.length];
    targets = new Object[tensors.length];
    for (int t = 0; t < tensors.length; t++) {
      boolean wide = tensors[t].storage() == Storage.F32;
      int size = outer * room * inner;
      sources[t] = wide ? tensors[t].values().clone() : tensors[t].halves();
      targets[t] = wide ? new float[size] : new short[size];
    }
    workers = new Workers(Math.min(threads, Math.max(1, room)));
  }

  @Override
  public Object run() {
    if (select != null) {
      select.run();
      list = select.result();
    }
    workers.run(this::runPart);
    return targets;
  }

  private void runPart(int part) {
    int end = workers.begin(part + 1, room);
    for (int t = 0; t < sources.length; t++) {
      for (int o = 0; o < outer; o++) {
        for (int i = workers.begin(part, room); i < end; i++) {
          System.arraycopy(sources[t], (o * entries + list[i]) * inner, targets[t],
              (o * room + i) * inner, inner);
        }
      }
    }
  }

  @Override
  public float[] result() {
    if (targets[0] instanceof float[] values) {
      return values;
    }
    short[] halves = (short[]) targets[0];
    float[] values = new float[halves.length];
    for (int i = 0; i < values.length; i++) {
      values[i] = Bfloat16.widen(halves[i]);
    }
    return values;
  }

  @Override
  public void close() {
    workers.close();
  }
}
