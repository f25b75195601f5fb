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
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.vector.lanes.Lanes;
import org.exeunt.bench.vector.lanes.VectorPeer;
import org.exeunt.bench.vector.lanes.VectorRows;
import org.exeunt.jni.DLTensor;
import org.exeunt.jni.exn_perp_grad_params;
import org.openjdk.jmh.annotations.CompilerControl;

/** perpGrad with norm restored: one pass for the three dot products, one for the projection. */
final class VectorPerpGrad extends VectorPeer {
  /** Elements whose products are added in f32 before they join a double sum. */
  private static final int BLOCK = 4096;

  private final DLTensor target;
  private final boolean f32;
  private final int units;
  private final float[] wideW;
  private final float[] wideG;
  private final float[] wideOut;
  private final int[] packedW;
  private final int[] packedG;
  private final int[] packedOut;
  private final double[] sums;

  VectorPerpGrad(Problem problem, int threads) {
    super(threads);
    exn_perp_grad_params p = problem.params(exn_perp_grad_params::new);
    Matrix weight = Matrix.of(p.weight());
    Matrix grad = Matrix.of(p.grad());
    target = p.out();
    f32 = weight.storage() == DType.F32;
    int elements = weight.values().length;
    units = f32 ? elements : elements / 2;
    if (units % COUNT != 0) {
      throw new UnsupportedOperationException(
          "the Vector API peer needs whole vectors, not " + elements + " elements");
    }
    wideW = f32 ? weight.values() : null;
    wideG = f32 ? grad.values() : null;
    wideOut = f32 ? new float[elements] : null;
    packedW = f32 ? null : weight.packed();
    packedG = f32 ? null : grad.packed();
    packedOut = f32 ? null : new int[units];
    sums = new double[16 * threads];
  }

  @Override
  public Object run() {
    workers.run(this::dots);
    double wg = 0;
    double ww = 0;
    double gg = 0;
    for (int thread = 0; thread < workers.threads(); thread++) {
      wg += sums[16 * thread];
      ww += sums[16 * thread + 1];
      gg += sums[16 * thread + 2];
    }
    double projection = wg / (ww + 1e-30);
    double perp = Math.sqrt(Math.max(0, gg - projection * wg));
    double scale = Math.sqrt(gg) / (perp + 1e-30);
    workers.run(thread -> project(thread, (float) (-projection * scale), (float) scale));
    return f32 ? wideOut : packedOut;
  }

  private int begin(int thread) {
    return COUNT * workers.begin(thread, units / COUNT);
  }

  private void dots(int thread) {
    int at = 16 * thread;
    sums[at] = 0;
    sums[at + 1] = 0;
    sums[at + 2] = 0;
    int end = begin(thread + 1);
    for (int i = begin(thread); i < end; i += BLOCK) {
      int to = Math.min(i + BLOCK, end);
      if (f32) {
        wideDots(i, to, at);
      } else {
        packedDots(i, to, at);
      }
    }
  }

  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  private void wideDots(int from, int to, int at) {
    FloatVector wg = FloatVector.zero(FLOATS);
    FloatVector ww = wg;
    FloatVector gg = wg;
    for (int i = from; i < to; i += COUNT) {
      FloatVector w = FloatVector.fromArray(FLOATS, wideW, i);
      FloatVector g = FloatVector.fromArray(FLOATS, wideG, i);
      wg = w.fma(g, wg);
      ww = w.fma(w, ww);
      gg = g.fma(g, gg);
    }
    add(at, wg, ww, gg);
  }

  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  private void packedDots(int from, int to, int at) {
    FloatVector wg = FloatVector.zero(FLOATS);
    FloatVector ww = wg;
    FloatVector gg = wg;
    for (int i = from; i < to; i += COUNT) {
      IntVector pairsW = IntVector.fromArray(INTS, packedW, i);
      IntVector pairsG = IntVector.fromArray(INTS, packedG, i);
      FloatVector w0 = Lanes.low(pairsW);
      FloatVector g0 = Lanes.low(pairsG);
      FloatVector w1 = Lanes.high(pairsW);
      FloatVector g1 = Lanes.high(pairsG);
      wg = w1.fma(g1, w0.fma(g0, wg));
      ww = w1.fma(w1, w0.fma(w0, ww));
      gg = g1.fma(g1, g0.fma(g0, gg));
    }
    add(at, wg, ww, gg);
  }

  private void add(int at, FloatVector wg, FloatVector ww, FloatVector gg) {
    sums[at] += wg.reduceLanes(VectorOperators.ADD);
    sums[at + 1] += ww.reduceLanes(VectorOperators.ADD);
    sums[at + 2] += gg.reduceLanes(VectorOperators.ADD);
  }

  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  private void project(int thread, float ofWeight, float ofGrad) {
    int end = begin(thread + 1);
    if (f32) {
      for (int i = begin(thread); i < end; i += COUNT) {
        FloatVector w = FloatVector.fromArray(FLOATS, wideW, i).mul(ofWeight);
        FloatVector g = FloatVector.fromArray(FLOATS, wideG, i);
        g.fma(FloatVector.broadcast(FLOATS, ofGrad), w).intoArray(wideOut, i);
      }
      return;
    }
    FloatVector scale = FloatVector.broadcast(FLOATS, ofGrad);
    for (int i = begin(thread); i < end; i += COUNT) {
      IntVector pairsW = IntVector.fromArray(INTS, packedW, i);
      IntVector pairsG = IntVector.fromArray(INTS, packedG, i);
      FloatVector even = Lanes.low(pairsG).fma(scale, Lanes.low(pairsW).mul(ofWeight));
      FloatVector odd = Lanes.high(pairsG).fma(scale, Lanes.high(pairsW).mul(ofWeight));
      Lanes.pack(even, odd).intoArray(packedOut, i);
    }
  }

  @Override
  public void deliver() {
    Problem.put(target, f32 ? wideOut : VectorRows.widen(packedOut));
  }
}
