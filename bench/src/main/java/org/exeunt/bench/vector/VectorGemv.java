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
import org.exeunt.bench.vector.lanes.Lanes;
import org.openjdk.jmh.annotations.CompilerControl;

/**
 * Products of a weight matrix with a few vectors. Weights are walked linearly; with four vectors
 * and more, two weight rows meet four vectors in registers (where the width is whole vectors).
 */
final class VectorGemv {
  private final int rows;
  private final int width;
  private final boolean tiled;
  private final float[] wide;
  private final int[] packed;

  VectorGemv(Matrix weight) {
    rows = weight.rows();
    width = weight.cols();
    boolean f32 = weight.storage() == DType.F32;
    if (!f32 && width % 2 != 0) {
      throw new UnsupportedOperationException("the Vector API peer needs an even bf16 row");
    }
    tiled = width % (f32 ? COUNT : 2 * COUNT) == 0;
    wide = f32 ? weight.values() : null;
    packed = f32 ? null : weight.packed();
  }

  int rows() {
    return rows;
  }

  /**
   * Lays a vector out as the products want it: as it is for f32 weights, even elements before odd
   * ones for packed weights.
   */
  void arrange(float[] x, int from, float[] out, int outFrom) {
    if (wide != null) {
      System.arraycopy(x, from, out, outFrom, width);
    } else {
      split(x, from, width, out, outFrom);
    }
  }

  /** Vectors one after another, each laid out as the products want it. */
  float[] arranged(float[] vectors, int count) {
    float[] out = new float[count * width];
    for (int r = 0; r < count; r++) {
      arrange(vectors, r * width, out, r * width);
    }
    return out;
  }

  /** The even elements of a vector before its odd ones. */
  static float[] evenOdd(float[] x, int from, int width) {
    float[] out = new float[width];
    split(x, from, width, out, 0);
    return out;
  }

  private static void split(float[] x, int from, int width, float[] out, int outFrom) {
    int half = width / 2;
    for (int i = 0; i < half; i++) {
      out[outFrom + i] = x[from + 2 * i];
      out[outFrom + half + i] = x[from + 2 * i + 1];
    }
  }

  /** out[r][v - from] = W_v . x_r for v in from..to-1, all arranged vectors in one array. */
  void multiply(float[] x, int count, int from, int to, float[][] out) {
    int v = from;
    // Weight rows outside: they come from memory, the vectors stay in the first-level cache.
    for (; tiled && count >= 4 && v + 2 <= to; v += 2) {
      for (int r = 0; r + 4 <= count; r += 4) {
        if (wide != null) {
          wideTile(x, r, v, from, out);
        } else {
          packedTile(x, r, v, from, out);
        }
      }
      for (int r = count - count % 4; r < count; r++) {
        out[r][v - from] = dot(x, r, v);
        out[r][v - from + 1] = dot(x, r, v + 1);
      }
    }
    for (; v < to; v++) {
      for (int r = 0; r < count; r++) {
        out[r][v - from] = dot(x, r, v);
      }
    }
  }

  private float dot(float[] x, int vector, int row) {
    return wide != null
        ? wideDot(wide, row * width, x, vector * width, width)
        : packedDot(packed, row * (width / 2), x, vector * width, width / 2);
  }

  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  private static float wideDot(float[] w, int row, float[] x, int vector, int width) {
    FloatVector sum0 = FloatVector.zero(FLOATS);
    FloatVector sum1 = sum0;
    FloatVector sum2 = sum0;
    FloatVector sum3 = sum0;
    int whole = Lanes.whole(width, 4 * COUNT);
    int i = 0;
    for (; i < whole; i += 4 * COUNT) {
      sum0 = FloatVector.fromArray(FLOATS, w, row + i)
                 .fma(FloatVector.fromArray(FLOATS, x, vector + i), sum0);
      sum1 = FloatVector.fromArray(FLOATS, w, row + i + COUNT)
                 .fma(FloatVector.fromArray(FLOATS, x, vector + i + COUNT), sum1);
      sum2 = FloatVector.fromArray(FLOATS, w, row + i + 2 * COUNT)
                 .fma(FloatVector.fromArray(FLOATS, x, vector + i + 2 * COUNT), sum2);
      sum3 = FloatVector.fromArray(FLOATS, w, row + i + 3 * COUNT)
                 .fma(FloatVector.fromArray(FLOATS, x, vector + i + 3 * COUNT), sum3);
    }
    for (; i + COUNT <= width; i += COUNT) {
      sum0 = FloatVector.fromArray(FLOATS, w, row + i)
                 .fma(FloatVector.fromArray(FLOATS, x, vector + i), sum0);
    }
    float sum = sum0.add(sum1).add(sum2.add(sum3)).reduceLanes(VectorOperators.ADD);
    for (; i < width; i++) {
      sum += w[row + i] * x[vector + i];
    }
    return sum;
  }

  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  private static float packedDot(int[] w, int row, float[] x, int vector, int half) {
    FloatVector sum0 = FloatVector.zero(FLOATS);
    FloatVector sum1 = sum0;
    FloatVector sum2 = sum0;
    FloatVector sum3 = sum0;
    int whole = Lanes.whole(half, 2 * COUNT);
    int i = 0;
    for (; i < whole; i += 2 * COUNT) {
      IntVector a = IntVector.fromArray(INTS, w, row + i);
      IntVector b = IntVector.fromArray(INTS, w, row + i + COUNT);
      sum0 = Lanes.low(a).fma(FloatVector.fromArray(FLOATS, x, vector + i), sum0);
      sum1 = Lanes.high(a).fma(FloatVector.fromArray(FLOATS, x, vector + half + i), sum1);
      sum2 = Lanes.low(b).fma(FloatVector.fromArray(FLOATS, x, vector + i + COUNT), sum2);
      sum3 = Lanes.high(b).fma(FloatVector.fromArray(FLOATS, x, vector + half + i + COUNT), sum3);
    }
    for (; i + COUNT <= half; i += COUNT) {
      IntVector a = IntVector.fromArray(INTS, w, row + i);
      sum0 = Lanes.low(a).fma(FloatVector.fromArray(FLOATS, x, vector + i), sum0);
      sum1 = Lanes.high(a).fma(FloatVector.fromArray(FLOATS, x, vector + half + i), sum1);
    }
    float sum = sum0.add(sum1).add(sum2.add(sum3)).reduceLanes(VectorOperators.ADD);
    for (; i < half; i++) {
      sum += Float.intBitsToFloat(w[row + i] << 16) * x[vector + i];
      sum += Float.intBitsToFloat(w[row + i] & 0xffff0000) * x[vector + half + i];
    }
    return sum;
  }

  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  private void wideTile(float[] x, int r, int v, int from, float[][] out) {
    FloatVector a0 = FloatVector.zero(FLOATS);
    FloatVector a1 = a0;
    FloatVector a2 = a0;
    FloatVector a3 = a0;
    FloatVector b0 = a0;
    FloatVector b1 = a0;
    FloatVector b2 = a0;
    FloatVector b3 = a0;
    int row = v * width;
    int vector = r * width;
    for (int i = 0; i < width; i += COUNT) {
      FloatVector wa = FloatVector.fromArray(FLOATS, wide, row + i);
      FloatVector wb = FloatVector.fromArray(FLOATS, wide, row + width + i);
      FloatVector x0 = FloatVector.fromArray(FLOATS, x, vector + i);
      a0 = wa.fma(x0, a0);
      b0 = wb.fma(x0, b0);
      FloatVector x1 = FloatVector.fromArray(FLOATS, x, vector + width + i);
      a1 = wa.fma(x1, a1);
      b1 = wb.fma(x1, b1);
      FloatVector x2 = FloatVector.fromArray(FLOATS, x, vector + 2 * width + i);
      a2 = wa.fma(x2, a2);
      b2 = wb.fma(x2, b2);
      FloatVector x3 = FloatVector.fromArray(FLOATS, x, vector + 3 * width + i);
      a3 = wa.fma(x3, a3);
      b3 = wb.fma(x3, b3);
    }
    store(out, r, v - from, a0, a1, a2, a3);
    store(out, r, v - from + 1, b0, b1, b2, b3);
  }

  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  private void packedTile(float[] x, int r, int v, int from, float[][] out) {
    FloatVector a0 = FloatVector.zero(FLOATS);
    FloatVector a1 = a0;
    FloatVector a2 = a0;
    FloatVector a3 = a0;
    FloatVector b0 = a0;
    FloatVector b1 = a0;
    FloatVector b2 = a0;
    FloatVector b3 = a0;
    int half = width / 2;
    int row = v * half;
    int vector = r * width;
    for (int i = 0; i < half; i += COUNT) {
      IntVector pairsA = IntVector.fromArray(INTS, packed, row + i);
      IntVector pairsB = IntVector.fromArray(INTS, packed, row + half + i);
      for (int side = 0; side < 2; side++) {
        FloatVector wa = side == 0 ? Lanes.low(pairsA) : Lanes.high(pairsA);
        FloatVector wb = side == 0 ? Lanes.low(pairsB) : Lanes.high(pairsB);
        int at = vector + side * half + i;
        FloatVector x0 = FloatVector.fromArray(FLOATS, x, at);
        a0 = wa.fma(x0, a0);
        b0 = wb.fma(x0, b0);
        FloatVector x1 = FloatVector.fromArray(FLOATS, x, at + width);
        a1 = wa.fma(x1, a1);
        b1 = wb.fma(x1, b1);
        FloatVector x2 = FloatVector.fromArray(FLOATS, x, at + 2 * width);
        a2 = wa.fma(x2, a2);
        b2 = wb.fma(x2, b2);
        FloatVector x3 = FloatVector.fromArray(FLOATS, x, at + 3 * width);
        a3 = wa.fma(x3, a3);
        b3 = wb.fma(x3, b3);
      }
    }
    store(out, r, v - from, a0, a1, a2, a3);
    store(out, r, v - from + 1, b0, b1, b2, b3);
  }

  @CompilerControl(CompilerControl.Mode.INLINE)
  private static void store(
      float[][] out, int r, int v, FloatVector s0, FloatVector s1, FloatVector s2, FloatVector s3) {
    out[r][v] = s0.reduceLanes(VectorOperators.ADD);
    out[r + 1][v] = s1.reduceLanes(VectorOperators.ADD);
    out[r + 2][v] = s2.reduceLanes(VectorOperators.ADD);
    out[r + 3][v] = s3.reduceLanes(VectorOperators.ADD);
  }
}
