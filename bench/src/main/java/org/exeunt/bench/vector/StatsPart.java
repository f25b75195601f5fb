// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import static org.exeunt.bench.vector.lanes.Lanes.COUNT;
import static org.exeunt.bench.vector.lanes.Lanes.FLOATS;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;
import org.exeunt.Normalizer;
import org.exeunt.bench.contenders.RowStats;
import org.exeunt.bench.vector.lanes.Lanes;
import org.exeunt.bench.vector.lanes.VectorRows;
import org.openjdk.jmh.annotations.CompilerControl;

/**
 * Running statistics of a slice of a row. Blocks that fit the first-level cache are added one
 * after another: the block's two largest values first, then the sums relative to the running
 * maximum, so memory is read once.
 */
final class StatsPart {
  /** Elements per block: 8 KiB of f32. */
  static final int BLOCK = 2048;

  private final Normalizer normalizer;
  private float max;
  private float second;
  private int argmax;
  /** Softmax: sum e and sum e (z - max), e = exp(z - max). StableMax: sum s and sum s ln s. */
  private double sum;
  private double weighted;

  StatsPart(Normalizer normalizer) {
    this.normalizer = normalizer;
  }

  void clear() {
    max = Float.NEGATIVE_INFINITY;
    second = Float.NEGATIVE_INFINITY;
    argmax = -1;
    sum = 0;
    weighted = 0;
  }

  /** Adds a block of at most BLOCK logits; returns true if it holds a new maximum. */
  boolean add(float[] z, int from, int count) {
    boolean newMax = addTopTwo(z, from, count);
    if (normalizer == Normalizer.SOFTMAX) {
      addExponentials(z, from, count);
    } else {
      addStableScores(z, from, count);
    }
    return newMax;
  }

  /** Tells where the maximum that the last added block brought is in the row. */
  void setArgmax(int index) {
    argmax = index;
  }

  /** Index within the block of the first element that equals the running maximum, or count. */
  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  int find(float[] z, int from, int count) {
    int whole = Lanes.whole(count, COUNT);
    for (int i = 0; i < whole; i += COUNT) {
      VectorMask<Float> hit =
          FloatVector.fromArray(FLOATS, z, from + i).compare(VectorOperators.EQ, max);
      if (hit.anyTrue()) {
        return i + hit.firstTrue();
      }
    }
    for (int i = whole; i < count; i++) {
      if (z[from + i] == max) {
        return i;
      }
    }
    return count;
  }

  /** Adds the statistics of a later slice of the same row. */
  void merge(StatsPart later) {
    float oldMax = max;
    float laterMax = later.max;
    second = Math.max(Math.min(max, later.max), Math.max(second, later.second));
    if (later.max > max) {
      max = later.max;
      argmax = later.argmax;
    }
    if (normalizer == Normalizer.SOFTMAX) {
      rescale(oldMax);
      later.rescaleTo(laterMax, max);
    }
    sum += later.sum;
    weighted += later.weighted;
  }

  /** Writes the finished statistics of row {@code row}. */
  void finish(RowStats stats, int row) {
    double p1;
    double p2;
    double entropy;
    if (normalizer == Normalizer.SOFTMAX) {
      p1 = 1 / sum;
      p2 = Math.exp((double) second - max) / sum;
      entropy = Math.log(sum) - weighted / sum;
    } else {
      p1 = stableScore(max) / sum;
      p2 = stableScore(second) / sum;
      entropy = Math.log(sum) - weighted / sum;
    }
    stats.argmax[row] = argmax;
    stats.p1[row] = (float) p1;
    stats.margin[row] = (float) (p1 - p2);
    stats.entropy[row] = (float) entropy;
  }

  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  private boolean addTopTwo(float[] z, int from, int count) {
    FloatVector high0 = FloatVector.broadcast(FLOATS, Float.NEGATIVE_INFINITY);
    FloatVector high1 = high0;
    FloatVector next0 = high0;
    FloatVector next1 = high0;
    int whole = Lanes.whole(count, 2 * COUNT);
    for (int i = from; i < from + whole; i += 2 * COUNT) {
      FloatVector a = FloatVector.fromArray(FLOATS, z, i);
      FloatVector b = FloatVector.fromArray(FLOATS, z, i + COUNT);
      next0 = next0.max(high0.min(a));
      next1 = next1.max(high1.min(b));
      high0 = high0.max(a);
      high1 = high1.max(b);
    }
    FloatVector next = next0.max(next1).max(high0.min(high1));
    FloatVector high = high0.max(high1);
    float oldMax = max;
    float blockMax = high.reduceLanes(VectorOperators.MAX);
    // The second largest is the second of the best lane or the best of the other lanes.
    VectorMask<Float> best = high.compare(VectorOperators.EQ, blockMax);
    float others = best.trueCount() > 1
        ? blockMax
        : high.blend(Float.NEGATIVE_INFINITY, best).reduceLanes(VectorOperators.MAX);
    insert(blockMax);
    second = Math.max(second, Math.max(others, next.reduceLanes(VectorOperators.MAX)));
    for (int i = from + whole; i < from + count; i++) {
      insert(z[i]);
    }
    if (normalizer == Normalizer.SOFTMAX) {
      rescale(oldMax);
    }
    return max > oldMax;
  }

  private void insert(float value) {
    if (value > max) {
      second = max;
      max = value;
    } else if (value > second) {
      second = value;
    }
  }

  private void rescale(float oldMax) {
    rescaleTo(oldMax, max);
  }

  private void rescaleTo(float oldMax, float newMax) {
    if (oldMax == Float.NEGATIVE_INFINITY || oldMax == newMax) {
      return;
    }
    double distance = (double) oldMax - newMax;
    double factor = Math.exp(distance);
    weighted = factor * (weighted + distance * sum);
    sum *= factor;
  }

  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  private void addExponentials(float[] z, int from, int count) {
    FloatVector sum0 = FloatVector.zero(FLOATS);
    FloatVector sum1 = sum0;
    FloatVector weighted0 = sum0;
    FloatVector weighted1 = sum0;
    int whole = Lanes.whole(count, 2 * COUNT);
    for (int i = from; i < from + whole; i += 2 * COUNT) {
      FloatVector a = FloatVector.fromArray(FLOATS, z, i).sub(max);
      FloatVector b = FloatVector.fromArray(FLOATS, z, i + COUNT).sub(max);
      FloatVector ea = Lanes.exp(a);
      FloatVector eb = Lanes.exp(b);
      sum0 = sum0.add(ea);
      sum1 = sum1.add(eb);
      weighted0 = ea.fma(a, weighted0);
      weighted1 = eb.fma(b, weighted1);
    }
    sum += sum0.add(sum1).reduceLanes(VectorOperators.ADD);
    weighted += weighted0.add(weighted1).reduceLanes(VectorOperators.ADD);
    for (int i = from + whole; i < from + count; i++) {
      double distance = (double) z[i] - max;
      double e = Math.exp(distance);
      sum += e;
      weighted += e * distance;
    }
  }

  @CompilerControl(CompilerControl.Mode.DONT_INLINE)
  private void addStableScores(float[] z, int from, int count) {
    FloatVector sums = FloatVector.zero(FLOATS);
    FloatVector weights = sums;
    int whole = Lanes.whole(count, COUNT);
    for (int i = from; i < from + whole; i += COUNT) {
      FloatVector s = VectorRows.stableScore(FloatVector.fromArray(FLOATS, z, i));
      sums = sums.add(s);
      weights = s.fma(s.lanewise(VectorOperators.LOG), weights);
    }
    sum += sums.reduceLanes(VectorOperators.ADD);
    weighted += weights.reduceLanes(VectorOperators.ADD);
    for (int i = from + whole; i < from + count; i++) {
      double s = stableScore(z[i]);
      sum += s;
      weighted += s * Math.log(s);
    }
  }

  private static double stableScore(double z) {
    return z >= 0 ? z + 1 : 1 / (1 - z);
  }
}
