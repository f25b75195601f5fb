// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import org.exeunt.bench.Contender;
import org.exeunt.bench.reference.Bfloat16;
import org.exeunt.bench.reference.CacheLayout;
import org.exeunt.bench.reference.KvCopyProblem;
import org.exeunt.bench.reference.RowCompactionProblem;

/** Moving rows of 16-bit elements in Java: {@code System.arraycopy}, which is vectorised. */
final class JavaMoves implements Contender<float[]> {
  private final short[][] sources;
  private final short[][] targets;
  private final int[] from;
  private final int[] to;
  private final int size;

  JavaMoves(KvCopyProblem problem) {
    CacheLayout layout = problem.layout;
    sources = new short[][] {problem.k.halves(), problem.v.halves()};
    targets = problem.inPlace
        ? sources : new short[2][layout.elements()];
    size = layout.dim;
    from = new int[problem.from.length * layout.heads];
    to = new int[from.length];
    for (int i = 0; i < from.length; i++) {
      int entry = i / layout.heads;
      from[i] = layout.at(0, problem.from[entry], i % layout.heads);
      to[i] = layout.at(0, problem.to[entry], i % layout.heads);
    }
  }

  JavaMoves(RowCompactionProblem problem) {
    sources = new short[][] {problem.input.halves()};
    targets = new short[1][sources[0].length];
    size = problem.input.cols();
    int listed = 0;
    while (listed < problem.list.length && problem.list[listed] >= 0) {
      listed++;
    }
    from = new int[listed];
    to = new int[listed];
    for (int i = 0; i < listed; i++) {
      from[i] = (problem.gather ? problem.list[i] : i) * size;
      to[i] = (problem.gather ? i : problem.list[i]) * size;
    }
  }

  @Override
  public Object run() {
    for (int side = 0; side < sources.length; side++) {
      for (int i = 0; i < from.length; i++) {
        System.arraycopy(sources[side], from[i], targets[side], to[i], size);
      }
    }
    return targets;
  }

  @Override
  public float[] result() {
    float[] values = new float[targets[0].length];
    for (int i = 0; i < values.length; i++) {
      values[i] = Bfloat16.widen(targets[0][i]);
    }
    return values;
  }
}
