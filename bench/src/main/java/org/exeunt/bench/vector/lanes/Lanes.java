// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector.lanes;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.ShortVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;
import org.openjdk.jmh.annotations.CompilerControl;

/**
 * The widest vectors of this machine and what the kernels share.
 *
 * <p>Vector code is fast only where every vector stays in registers, so helpers are forced into
 * their callers and loops are kept out of theirs: left alone, the compiler's inlining budget
 * decides, and a hot loop may lose half its speed when its caller is compiled.
 */
public final class Lanes {
  public static final VectorSpecies<Float> FLOATS = FloatVector.SPECIES_PREFERRED;
  public static final VectorSpecies<Integer> INTS = IntVector.SPECIES_PREFERRED;
  public static final int COUNT = FLOATS.length();
  /** As many bf16 elements as there are floats in a vector. */
  static final VectorSpecies<Short> HALVES =
      VectorSpecies.of(short.class, VectorShape.forBitSize(Short.SIZE* COUNT));

  private static final float LOG2_E = 1.44269504f;
  private static final float LN2_HIGH = 0.693359375f;
  private static final float LN2_LOW = -2.12194440e-4f;
  /** Adding 1.5 * 2^23 leaves the nearest integer in the low mantissa bits. */
  private static final float TO_INTEGER = 12582912f;
  /** Below this the result is subnormal; it is kept at about 1e-38. */
  private static final float LOWEST = -87f;

  private Lanes() {}

  /** e^x for x <= 0, to about two units in the last place. */
  @CompilerControl(CompilerControl.Mode.INLINE)
  public static FloatVector exp(FloatVector argument) {
    FloatVector x = argument.max(LOWEST);
    FloatVector shifted =
        x.fma(FloatVector.broadcast(FLOATS, LOG2_E), FloatVector.broadcast(FLOATS, TO_INTEGER));
    FloatVector n = shifted.sub(TO_INTEGER);
    FloatVector r = n.fma(FloatVector.broadcast(FLOATS, -LN2_HIGH), x);
    r = n.fma(FloatVector.broadcast(FLOATS, -LN2_LOW), r);
    FloatVector p = FloatVector.broadcast(FLOATS, 1.9875691500e-4f);
    p = p.fma(r, FloatVector.broadcast(FLOATS, 1.3981999507e-3f));
    p = p.fma(r, FloatVector.broadcast(FLOATS, 8.3334519073e-3f));
    p = p.fma(r, FloatVector.broadcast(FLOATS, 4.1665795894e-2f));
    p = p.fma(r, FloatVector.broadcast(FLOATS, 1.6666665459e-1f));
    p = p.fma(r, FloatVector.broadcast(FLOATS, 5.0000001201e-1f));
    FloatVector y = p.mul(r).fma(r, r).add(1f);
    IntVector exponent = shifted.reinterpretAsInts().lanewise(VectorOperators.LSHL, 23);
    return y.reinterpretAsInts().add(exponent).reinterpretAsFloats();
  }

  /** The even elements of packed bf16 pairs. */
  @CompilerControl(CompilerControl.Mode.INLINE)
  public static FloatVector low(IntVector pairs) {
    return pairs.lanewise(VectorOperators.LSHL, 16).reinterpretAsFloats();
  }

  /** The odd elements of packed bf16 pairs. */
  @CompilerControl(CompilerControl.Mode.INLINE)
  public static FloatVector high(IntVector pairs) {
    return pairs.lanewise(VectorOperators.AND, 0xffff0000).reinterpretAsFloats();
  }

  /** Packs finite values as bf16 pairs, rounded to nearest even. */
  @CompilerControl(CompilerControl.Mode.INLINE)
  public static IntVector pack(FloatVector even, FloatVector odd) {
    IntVector low = rounded(even).lanewise(VectorOperators.LSHR, 16);
    return rounded(odd).lanewise(VectorOperators.AND, 0xffff0000).or(low);
  }

  @CompilerControl(CompilerControl.Mode.INLINE)
  private static IntVector rounded(FloatVector values) {
    IntVector bits = values.reinterpretAsInts();
    IntVector last = bits.lanewise(VectorOperators.LSHR, 16).lanewise(VectorOperators.AND, 1);
    return bits.add(last).add(0x7fff);
  }

  /** The floats that bf16 elements are, in their order. */
  @CompilerControl(CompilerControl.Mode.INLINE)
  static FloatVector widened(short[] halves, int from) {
    IntVector bits =
        (IntVector) ShortVector.fromArray(HALVES, halves, from)
            .convertShape(VectorOperators.S2I, INTS, 0);
    return bits.lanewise(VectorOperators.LSHL, 16).reinterpretAsFloats();
  }

  /** Stores finite floats as bf16 elements in their order, rounded to nearest even. */
  @CompilerControl(CompilerControl.Mode.INLINE)
  public static void narrow(FloatVector values, short[] halves, int to) {
    IntVector bits = rounded(values).lanewise(VectorOperators.LSHR, 16);
    ((ShortVector) bits.convertShape(VectorOperators.I2S, HALVES, 0)).intoArray(halves, to);
  }

  /** So many floats of a tensor of one of the two types; the other array is null. */
  @CompilerControl(CompilerControl.Mode.INLINE)
  public static FloatVector load(float[] floats, short[] halves, int from) {
    return halves == null ? FloatVector.fromArray(FLOATS, floats, from) : widened(halves, from);
  }

  /** Largest index that is a multiple of {@code unit} not above {@code count}. */
  public static int whole(int count, int unit) {
    return count - count % unit;
  }
}
