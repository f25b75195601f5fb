// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import static org.exeunt.bench.vector.lanes.Lanes.COUNT;
import static org.exeunt.bench.vector.lanes.Lanes.FLOATS;

import java.util.Arrays;
import java.util.stream.IntStream;
import jdk.incubator.vector.FloatVector;
import org.exeunt.bench.contenders.Matrix;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.vector.lanes.Lanes;
import org.exeunt.bench.vector.lanes.VectorPeer;
import org.exeunt.cases.Facade;
import org.exeunt.jni.exn_column_norms_params;
import org.openjdk.jmh.annotations.CompilerControl;

/** Rows shared out among the workers, each of which adds four at a time to sums of its own. */
final class VectorColumnNorms extends VectorPeer {
  private static final int AT_ONCE = 4;

  private final exn_column_norms_params p;
  private final int rows;
  private final int cols;
  private final float root;
  private final float[] wide;
  private final short[] halves;
  private final int[] active; // null: all rows are
  private final float[][] sums; // of each thread
  private final float[] norms;

  VectorColumnNorms(Problem problem, int threads) {
    super(threads);
    p = problem.params(exn_column_norms_params::new);
    Matrix x = Matrix.of(p.x());
    rows = x.rows();
    cols = x.cols();
    root = (float) Math.sqrt(p.scale());
    halves = x.halves();
    wide = halves == null ? x.values() : null;
    active = p.active() == null ? null : Facade.tensor(p.active()).toIntArray();
    if (cols % COUNT != 0 || p.accumulate() != 0) {
      throw new UnsupportedOperationException("the Vector API peer begins whole vectors at 0");
    }
    sums = new float[workers.threads()][cols];
    norms = new float[cols];
  }

  @Override
  public Object run() {
    workers.run(this::addPart);
    for (int thread = 1; thread < sums.length; thread++) {
      for (int i = 0; i < cols; i += COUNT) {
        FloatVector.fromArray(FLOATS, sums[0], i)
            .add(FloatVector.fromArray(FLOATS, sums[thread], i))
            .intoArray(sums[0], i);
      }
    }
    for (int i = 0; i < cols; i += COUNT) {
      FloatVector.fromArray(FLOATS, sums[0], i).sqrt().mul(root).intoArray(norms, i);
    }
    return norms;
  }

  private void addPart(int thread) {
    Arrays.fill(sums[thread], 0);
    int[] next = new int[AT_ONCE]; // where rows begin that are added next
    int count = 0;
    for (int r = workers.begin(thread, rows); r < workers.begin(thread + 1, rows); r++) {
      if (active == null || active[r] != 0) {
        next[count++] = r * cols;
      }
      if (count == AT_ONCE) {
        add(next[0], next[1], next[2], next[3], sums[thread]);
        count = 0;
      }
    }
    IntStream.range(0, count).forEach(i -> add(next[i], sums[thread]));
  }

  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  private void add(int a, int b, int c, int d, float[] to) {
    for (int i = 0; i < cols; i += COUNT) {
      FloatVector first = Lanes.load(wide, halves, a + i);
      FloatVector second = Lanes.load(wide, halves, b + i);
      FloatVector third = Lanes.load(wide, halves, c + i);
      FloatVector fourth = Lanes.load(wide, halves, d + i);
      FloatVector sum = first.fma(first, FloatVector.fromArray(FLOATS, to, i));
      sum = third.fma(third, second.fma(second, sum));
      fourth.fma(fourth, sum).intoArray(to, i);
    }
  }

  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  private void add(int from, float[] to) {
    for (int i = 0; i < cols; i += COUNT) {
      FloatVector v = Lanes.load(wide, halves, from + i);
      v.fma(v, FloatVector.fromArray(FLOATS, to, i)).intoArray(to, i);
    }
  }

  @Override
  public void deliver() {
    Problem.put(p.sums(), sums[0]);
    Problem.put(p.norms(), norms);
  }
}
