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
import org.exeunt.bench.vector.lanes.VectorRows;
import org.exeunt.bench.vector.lanes.Workers;
import org.exeunt.jni.DLTensor;
import org.exeunt.jni.exn_norm_params;
import org.openjdk.jmh.annotations.CompilerControl;

/** RMSNorm, rows shared out among the workers; bf16 rows as packed pairs, in and out. */
final class VectorNorm implements Peer {
  private final DLTensor target;
  private final int rows;
  private final int width;
  private final float eps;
  private final float[] wide;
  private final int[] packed;
  private final float[] weight;
  private final float[] wideOut;
  private final int[] packedOut;
  private final Workers workers;

  VectorNorm(Problem problem, int threads) {
    exn_norm_params p = problem.params(exn_norm_params::new);
    Matrix input = Matrix.of(p.input());
    Matrix factors = Matrix.of(p.weight());
    target = p.out();
    rows = input.rows();
    width = input.cols();
    eps = p.eps();
    boolean f32 = input.storage() == DType.F32;
    if (p.bias() != null || !f32 && width % (2 * COUNT) != 0) {
      throw new UnsupportedOperationException("the Vector API peer norms whole vectors by RMS");
    }
    wide = f32 ? input.values() : null;
    packed = f32 ? null : input.packed();
    weight = f32 ? factors.values() : VectorGemv.evenOdd(factors.values(), 0, width);
    wideOut = f32 ? new float[rows * width] : null;
    packedOut = f32 ? null : new int[rows * width / 2];
    workers = Workers.of(rows == 1 ? 1 : threads);
  }

  @Override
  public Object run() {
    workers.run(this::runPart);
    return wide != null ? wideOut : packedOut;
  }

  private void runPart(int thread) {
    int end = workers.begin(thread + 1, rows);
    for (int r = workers.begin(thread, rows); r < end; r++) {
      if (wide != null) {
        normalise(wide, r * width, weight, width, eps, wideOut);
      } else {
        normalisePacked(packed, r * (width / 2), weight, width / 2, eps, packedOut);
      }
    }
  }

  /** Writes the norm of the row at {@code from} to the same place of {@code out}. */
  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  static void normalise(float[] x, int from, float[] weight, int width, float eps, float[] out) {
    int whole = Lanes.whole(width, COUNT);
    FloatVector sums = FloatVector.zero(FLOATS);
    for (int i = 0; i < whole; i += COUNT) {
      FloatVector v = FloatVector.fromArray(FLOATS, x, from + i);
      sums = v.fma(v, sums);
    }
    float square = sums.reduceLanes(VectorOperators.ADD);
    for (int i = whole; i < width; i++) {
      square += x[from + i] * x[from + i];
    }
    float scale = (float) (1 / Math.sqrt(square / width + eps));
    for (int i = 0; i < whole; i += COUNT) {
      FloatVector.fromArray(FLOATS, x, from + i)
          .mul(scale)
          .mul(FloatVector.fromArray(FLOATS, weight, i))
          .intoArray(out, from + i);
    }
    for (int i = whole; i < width; i++) {
      out[from + i] = x[from + i] * scale * weight[i];
    }
  }

  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  private static void normalisePacked(
      int[] x, int from, float[] weight, int pairs, float eps, int[] out) {
    FloatVector even = FloatVector.zero(FLOATS);
    FloatVector odd = even;
    for (int i = 0; i < pairs; i += COUNT) {
      IntVector v = IntVector.fromArray(INTS, x, from + i);
      FloatVector a = Lanes.low(v);
      FloatVector b = Lanes.high(v);
      even = a.fma(a, even);
      odd = b.fma(b, odd);
    }
    float square = even.add(odd).reduceLanes(VectorOperators.ADD);
    float scale = (float) (1 / Math.sqrt(square / (2 * pairs) + eps));
    for (int i = 0; i < pairs; i += COUNT) {
      IntVector v = IntVector.fromArray(INTS, x, from + i);
      FloatVector a = Lanes.low(v).mul(scale).mul(FloatVector.fromArray(FLOATS, weight, i));
      FloatVector b =
          Lanes.high(v).mul(scale).mul(FloatVector.fromArray(FLOATS, weight, pairs + i));
      Lanes.pack(a, b).intoArray(out, from + i);
    }
  }

  @Override
  public void deliver() {
    Problem.put(target, wideOut != null ? wideOut : VectorRows.widen(packedOut));
  }
}
