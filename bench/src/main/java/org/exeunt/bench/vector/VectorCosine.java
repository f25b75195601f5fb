// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import static org.exeunt.bench.vector.lanes.Lanes.COUNT;
import static org.exeunt.bench.vector.lanes.Lanes.FLOATS;
import static org.exeunt.bench.vector.lanes.Lanes.INTS;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorOperators;
import org.exeunt.DType;
import org.exeunt.bench.contenders.Matrix;
import org.exeunt.bench.contenders.Peer;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.vector.lanes.Lanes;
import org.exeunt.bench.vector.lanes.Workers;
import org.exeunt.jni.DLTensor;
import org.exeunt.jni.exn_cosine_params;
import org.openjdk.jmh.annotations.CompilerControl;

/** Row-wise cosine similarity, rows shared out among the workers. */
final class VectorCosine implements Peer {
  private final DLTensor target;
  private final int rows;
  private final int width;
  private final float[] wideA;
  private final float[] wideB;
  private final int[] packedA;
  private final int[] packedB;
  private final Workers workers;
  private final float[] out;

  VectorCosine(Problem problem, int threads) {
    exn_cosine_params p = problem.params(exn_cosine_params::new);
    Matrix a = Matrix.of(p.a());
    Matrix b = Matrix.of(p.b());
    target = p.out();
    rows = a.rows();
    width = a.cols();
    boolean f32 = a.storage() == DType.F32;
    if (!f32 && width % 2 != 0) {
      throw new UnsupportedOperationException("the Vector API peer needs an even bf16 row");
    }
    wideA = f32 ? a.values() : null;
    wideB = f32 ? b.values() : null;
    packedA = f32 ? null : a.packed();
    packedB = f32 ? null : b.packed();
    // One row is less work than a meeting of two threads.
    workers = Workers.of(rows == 1 ? 1 : threads);
    out = new float[rows];
  }

  @Override
  public Object run() {
    workers.run(this::runPart);
    return out;
  }

  private void runPart(int thread) {
    int end = workers.begin(thread + 1, rows);
    for (int r = workers.begin(thread, rows); r < end; r++) {
      out[r] = wideA != null
          ? wide(wideA, wideB, r * width, width)
          : packed(packedA, packedB, r * (width / 2), width / 2);
    }
  }

  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  private static float wide(float[] a, float[] b, int from, int width) {
    FloatVector ab0 = FloatVector.zero(FLOATS);
    FloatVector ab1 = ab0;
    FloatVector aa0 = ab0;
    FloatVector aa1 = ab0;
    FloatVector bb0 = ab0;
    FloatVector bb1 = ab0;
    int end = from + width;
    int i = from;
    for (; i + 2 * COUNT <= end; i += 2 * COUNT) {
      FloatVector x0 = FloatVector.fromArray(FLOATS, a, i);
      FloatVector y0 = FloatVector.fromArray(FLOATS, b, i);
      FloatVector x1 = FloatVector.fromArray(FLOATS, a, i + COUNT);
      FloatVector y1 = FloatVector.fromArray(FLOATS, b, i + COUNT);
      ab0 = x0.fma(y0, ab0);
      aa0 = x0.fma(x0, aa0);
      bb0 = y0.fma(y0, bb0);
      ab1 = x1.fma(y1, ab1);
      aa1 = x1.fma(x1, aa1);
      bb1 = y1.fma(y1, bb1);
    }
    float ab = ab0.add(ab1).reduceLanes(VectorOperators.ADD);
    float aa = aa0.add(aa1).reduceLanes(VectorOperators.ADD);
    float bb = bb0.add(bb1).reduceLanes(VectorOperators.ADD);
    for (; i < end; i++) {
      ab += a[i] * b[i];
      aa += a[i] * a[i];
      bb += b[i] * b[i];
    }
    return cosine(ab, aa, bb);
  }

  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  private static float packed(int[] a, int[] b, int from, int pairs) {
    FloatVector ab0 = FloatVector.zero(FLOATS);
    FloatVector ab1 = ab0;
    FloatVector aa0 = ab0;
    FloatVector aa1 = ab0;
    FloatVector bb0 = ab0;
    FloatVector bb1 = ab0;
    int end = from + pairs;
    int i = from;
    for (; i + COUNT <= end; i += COUNT) {
      IntVector x = IntVector.fromArray(INTS, a, i);
      IntVector y = IntVector.fromArray(INTS, b, i);
      FloatVector x0 = Lanes.low(x);
      FloatVector y0 = Lanes.low(y);
      FloatVector x1 = Lanes.high(x);
      FloatVector y1 = Lanes.high(y);
      ab0 = x0.fma(y0, ab0);
      aa0 = x0.fma(x0, aa0);
      bb0 = y0.fma(y0, bb0);
      ab1 = x1.fma(y1, ab1);
      aa1 = x1.fma(x1, aa1);
      bb1 = y1.fma(y1, bb1);
    }
    float ab = ab0.add(ab1).reduceLanes(VectorOperators.ADD);
    float aa = aa0.add(aa1).reduceLanes(VectorOperators.ADD);
    float bb = bb0.add(bb1).reduceLanes(VectorOperators.ADD);
    for (; i < end; i++) {
      float x0 = Float.intBitsToFloat(a[i] << 16);
      float y0 = Float.intBitsToFloat(b[i] << 16);
      float x1 = Float.intBitsToFloat(a[i] & 0xffff0000);
      float y1 = Float.intBitsToFloat(b[i] & 0xffff0000);
      ab += x0 * y0 + x1 * y1;
      aa += x0 * x0 + x1 * x1;
      bb += y0 * y0 + y1 * y1;
    }
    return cosine(ab, aa, bb);
  }

  private static float cosine(float ab, float aa, float bb) {
    return aa == 0 || bb == 0 ? 0 : (float) (ab / Math.sqrt((double) aa * bb));
  }

  @Override
  public void deliver() {
    Problem.put(target, out);
  }
}
