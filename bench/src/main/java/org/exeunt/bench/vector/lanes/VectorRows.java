// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector.lanes;

import static org.exeunt.bench.vector.lanes.Lanes.COUNT;
import static org.exeunt.bench.vector.lanes.Lanes.FLOATS;
import static org.exeunt.bench.vector.lanes.Lanes.INTS;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;
import org.exeunt.DType;
import org.openjdk.jmh.annotations.CompilerControl;

/** Loops over pieces of rows that softmax, StableMax and their losses are made of. */
public final class VectorRows {
  private VectorRows() {}

  /** s(z) of StableMax: z + 1 for z >= 0, 1 / (1 - z) below. */
  @CompilerControl(CompilerControl.Mode.INLINE)
  public static FloatVector stableScore(FloatVector z) {
    FloatVector above = z.add(1f);
    FloatVector below =
        FloatVector.broadcast(FLOATS, 1f).div(FloatVector.broadcast(FLOATS, 1f).sub(z));
    VectorMask<Float> negative = z.compare(VectorOperators.LT, 0f);
    return above.blend(below, negative);
  }

  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  public static float max(float[] z, int from, int to) {
    FloatVector max0 = FloatVector.broadcast(FLOATS, Float.NEGATIVE_INFINITY);
    FloatVector max1 = max0;
    FloatVector max2 = max0;
    FloatVector max3 = max0;
    int whole = from + Lanes.whole(to - from, 4 * COUNT);
    for (int i = from; i < whole; i += 4 * COUNT) {
      max0 = max0.max(FloatVector.fromArray(FLOATS, z, i));
      max1 = max1.max(FloatVector.fromArray(FLOATS, z, i + COUNT));
      max2 = max2.max(FloatVector.fromArray(FLOATS, z, i + 2 * COUNT));
      max3 = max3.max(FloatVector.fromArray(FLOATS, z, i + 3 * COUNT));
    }
    float max = max0.max(max1).max(max2.max(max3)).reduceLanes(VectorOperators.MAX);
    for (int i = whole; i < to; i++) {
      max = Math.max(max, z[i]);
    }
    return max;
  }

  /** out = exp(z - max); returns the sum. */
  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  public static double exponentials(
      float[] z, int from, int to, float max, float[] out, int outFrom) {
    FloatVector sum0 = FloatVector.zero(FLOATS);
    FloatVector sum1 = sum0;
    int whole = Lanes.whole(to - from, 2 * COUNT);
    for (int i = 0; i < whole; i += 2 * COUNT) {
      FloatVector a = Lanes.exp(FloatVector.fromArray(FLOATS, z, from + i).sub(max));
      FloatVector b = Lanes.exp(FloatVector.fromArray(FLOATS, z, from + i + COUNT).sub(max));
      a.intoArray(out, outFrom + i);
      b.intoArray(out, outFrom + i + COUNT);
      sum0 = sum0.add(a);
      sum1 = sum1.add(b);
    }
    double sum = sum0.add(sum1).reduceLanes(VectorOperators.ADD);
    for (int i = whole; i < to - from; i++) {
      float e = (float) Math.exp((double) z[from + i] - max);
      out[outFrom + i] = e;
      sum += e;
    }
    return sum;
  }

  /** out = s(z); returns the sum. */
  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  public static double stableScores(float[] z, int from, int to, float[] out, int outFrom) {
    FloatVector sums = FloatVector.zero(FLOATS);
    int whole = Lanes.whole(to - from, COUNT);
    for (int i = 0; i < whole; i += COUNT) {
      FloatVector s = stableScore(FloatVector.fromArray(FLOATS, z, from + i));
      s.intoArray(out, outFrom + i);
      sums = sums.add(s);
    }
    double sum = sums.reduceLanes(VectorOperators.ADD);
    for (int i = whole; i < to - from; i++) {
      float s = z[from + i] >= 0 ? z[from + i] + 1 : 1 / (1 - z[from + i]);
      out[outFrom + i] = s;
      sum += s;
    }
    return sum;
  }

  /** out *= factor. */
  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  public static void scale(float[] out, int from, int to, float factor) {
    int whole = from + Lanes.whole(to - from, COUNT);
    for (int i = from; i < whole; i += COUNT) {
      FloatVector.fromArray(FLOATS, out, i).mul(factor).intoArray(out, i);
    }
    for (int i = whole; i < to; i++) {
      out[i] *= factor;
    }
  }

  /** out *= factor / (1 + |z|), the slope of ln s. */
  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  public static void scaleBySlope(
      float[] z, int zFrom, float[] out, int from, int to, float factor) {
    int whole = Lanes.whole(to - from, COUNT);
    for (int i = 0; i < whole; i += COUNT) {
      FloatVector slope = FloatVector.fromArray(FLOATS, z, zFrom + i).abs().add(1f);
      FloatVector.fromArray(FLOATS, out, from + i).mul(factor).div(slope).intoArray(out, from + i);
    }
    for (int i = whole; i < to - from; i++) {
      out[from + i] *= factor / (1 + Math.abs(z[zFrom + i]));
    }
  }

  /** Widens {@code count} packed pairs: even elements to out, odd ones {@code count} further on. */
  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  public static void unpack(int[] pairs, int from, int count, float[] out) {
    int whole = Lanes.whole(count, COUNT);
    for (int i = 0; i < whole; i += COUNT) {
      IntVector packed = IntVector.fromArray(INTS, pairs, from + i);
      Lanes.low(packed).intoArray(out, i);
      Lanes.high(packed).intoArray(out, count + i);
    }
    for (int i = whole; i < count; i++) {
      out[i] = Float.intBitsToFloat(pairs[from + i] << 16);
      out[count + i] = Float.intBitsToFloat(pairs[from + i] & 0xffff0000);
    }
  }

  /** The inverse of {@link #unpack}, with rounding. */
  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  public static void pack(float[] values, int count, int[] pairs, int from) {
    int whole = Lanes.whole(count, COUNT);
    for (int i = 0; i < whole; i += COUNT) {
      FloatVector even = FloatVector.fromArray(FLOATS, values, i);
      FloatVector odd = FloatVector.fromArray(FLOATS, values, count + i);
      Lanes.pack(even, odd).intoArray(pairs, from + i);
    }
    for (int i = whole; i < count; i++) {
      int low = DType.floatToBf16(values[i]) & 0xffff;
      pairs[from + i] = low | DType.floatToBf16(values[count + i]) << 16;
    }
  }

  /** All elements of packed pairs in order. */
  public static float[] widen(int[] pairs) {
    float[] values = new float[2 * pairs.length];
    for (int i = 0; i < pairs.length; i++) {
      values[2 * i] = Float.intBitsToFloat(pairs[i] << 16);
      values[2 * i + 1] = Float.intBitsToFloat(pairs[i] & 0xffff0000);
    }
    return values;
  }
}
