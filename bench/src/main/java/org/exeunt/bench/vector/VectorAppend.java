// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.ShortVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.reference.Bfloat16;
import org.exeunt.bench.reference.CacheLayout;
import org.exeunt.bench.reference.KvAppendProblem;
import org.exeunt.bench.reference.Storage;

/**
 * Rows written to their slots: {@code System.arraycopy}, or vectors that round f32 to bf16. Heads
 * that lie together in the cache go as one.
 */
final class VectorAppend implements Contender<float[]> {
  private static final VectorSpecies<Short> HALVES =
      VectorSpecies.of(short.class, VectorShape.forBitSize(Lanes.FLOATS.vectorBitSize() / 2));

  private final CacheLayout layout;
  private final int[] sequence;
  private final int[] slot;
  private final Object[] rows;
  private final Object[] caches;
  private final boolean rounded;
  private final int heads;
  private final int width;

  VectorAppend(KvAppendProblem problem) {
    layout = problem.layout;
    sequence = problem.sequence;
    slot = problem.slot;
    boolean wide = problem.k.storage() == Storage.F32;
    rounded = wide && problem.cache == Storage.BF16;
    if (!rounded && problem.k.storage() != problem.cache) {
      throw new UnsupportedOperationException("the Java peer rounds f32 to bf16 and no more");
    }
    rows = wide ? new Object[] {problem.k.values(), problem.v.values()}
                : new Object[] {problem.k.halves(), problem.v.halves()};
    int elements = layout.elements();
    caches = problem.cache == Storage.F32
        ? new Object[] {new float[elements], new float[elements]}
        : new Object[] {new short[elements], new short[elements]};
    heads = layout.kind == CacheLayout.Kind.HEAD ? layout.heads : 1;
    width = problem.k.cols() / heads;
  }

  @Override
  public Object run() {
    for (int r = 0; r < slot.length; r++) {
      for (int h = 0; h < heads; h++) {
        int from = (r * heads + h) * width;
        int to = layout.at(sequence[r], slot[r], h);
        for (int side = 0; side < 2; side++) {
          if (rounded) {
            round((float[]) rows[side], from, (short[]) caches[side], to, width);
          } else {
            System.arraycopy(rows[side], from, caches[side], to, width);
          }
        }
      }
    }
    return caches;
  }

  private static void round(float[] from, int first, short[] to, int start, int count) {
    int whole = Lanes.whole(count, Lanes.COUNT);
    for (int i = 0; i < whole; i += Lanes.COUNT) {
      IntVector bits = FloatVector.fromArray(Lanes.FLOATS, from, first + i).reinterpretAsInts();
      IntVector last = bits.lanewise(VectorOperators.LSHR, 16).lanewise(VectorOperators.AND, 1);
      IntVector high = bits.add(last).add(0x7fff).lanewise(VectorOperators.LSHR, 16);
      ShortVector halves = (ShortVector) high.convertShape(VectorOperators.I2S, HALVES, 0);
      halves.intoArray(to, start + i);
    }
    for (int i = whole; i < count; i++) {
      to[start + i] = Bfloat16.round(from[first + i]);
    }
  }

  @Override
  public float[] result() {
    int elements = layout.elements();
    float[] both = new float[2 * elements];
    for (int side = 0; side < 2; side++) {
      if (caches[side] instanceof float[] values) {
        System.arraycopy(values, 0, both, side * elements, elements);
      } else {
        short[] halves = (short[]) caches[side];
        for (int i = 0; i < elements; i++) {
          both[side * elements + i] = Bfloat16.widen(halves[i]);
        }
      }
    }
    return both;
  }
}
