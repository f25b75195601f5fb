// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests.fuzz;

import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.BitSet;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import org.exeunt.DType;
import org.exeunt.Device;

/** Faults that are put into a valid plan, one at a time. */
final class Hostile {
  static final long[] LONGS = {0, 1, -1, 2, 3, 7, 64, 65, 255, 256, 257, 65536, (1 << 20) + 1,
      1 << 30, Integer.MAX_VALUE - 1, Integer.MAX_VALUE, 1L << 31, (1L << 31) + 1, 1L << 32,
      (1L << 32) + 1, 1L << 33, 1L << 40, 1L << 52, 1L << 60, 1L << 61, (1L << 61) + 1, 1L << 62,
      (1L << 62) + 1, Long.MAX_VALUE / 3, Long.MAX_VALUE / 2 + 1, Long.MAX_VALUE - 1,
      Long.MAX_VALUE, Long.MIN_VALUE, Long.MIN_VALUE + 1, Integer.MIN_VALUE, -2, -64, -(1L << 32),
      -(1L << 62)};
  static final int[] INTS = {0, 1, -1, 2, 3, 5, 63, 64, 65, 127, 128, 129, 255, 256, 257, 65535,
      65536, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 1 << 29, 1 << 30, Integer.MAX_VALUE - 1,
      Integer.MAX_VALUE, Integer.MIN_VALUE, Integer.MIN_VALUE + 1, -2, -100};
  static final float[] FLOATS = {0, -0f, 1, -1, .5f, 2, Float.NaN, Float.POSITIVE_INFINITY,
      Float.NEGATIVE_INFINITY, Float.MIN_VALUE, -Float.MIN_VALUE, Float.MIN_NORMAL, Float.MAX_VALUE,
      -Float.MAX_VALUE, 1e-30f, 1e30f, 1.0000001f, .99999994f};
  static final double[] DOUBLES = {0, -0., 1, -1, .5, 2, Double.NaN, Double.POSITIVE_INFINITY,
      Double.NEGATIVE_INFINITY, Double.MIN_VALUE, Double.MIN_NORMAL, Double.MAX_VALUE,
      -Double.MAX_VALUE, 1e-300, 1e300, 1.0000000000000002, .9999999999999999, 1e9, 1e40};

  /**
   * What a fault was, and whether the call must be refused for it if it uses the tensors that this
   * is about, or must work all the same.
   */
  record Fault(String what, boolean fatal, boolean harmless, List<Spec> about) {
    Fault(String what, boolean fatal, boolean harmless) {
      this(what, fatal, harmless, List.of());
    }
  }

  private static final int MOST_PARTS = 4; // caches, layers and the like of a call

  private final Random random;
  private final Arena arena;

  Hostile(Random random, Arena arena) {
    this.random = random;
    this.arena = arena;
  }

  /** Puts a fault into a plan; null if chance found no place for one. */
  Fault spoil(Plan plan) {
    int draw = random.nextInt(20);
    int which = random.nextInt(64);
    if (draw == 0) {
      plan.faults.add(calls -> {
        if (!calls.isEmpty()) { // of few setters another fault may have left none
          calls.remove(which % calls.size());
        }
      });
      return new Fault("without setter " + which, false, false);
    }
    if (draw == 1) {
      plan.faults.add(calls -> {
        if (!calls.isEmpty()) {
          repeat(calls, which % calls.size());
        }
      });
      return new Fault("setter " + which + " is called twice", false, false);
    }
    if (draw == 2) {
      long seed = random.nextLong();
      plan.faults.add(calls -> Collections.shuffle(calls, new Random(seed)));
      return new Fault("setters in another order", false, false);
    }
    if (draw < 16 || plan.scalars.isEmpty()) {
      List<Spec> specs = plan.specs();
      Spec spec = specs.get(random.nextInt(specs.size()));
      Fault fault = spoil(spec, specs);
      return fault == null || !fault.about.isEmpty()
          ? fault
          : new Fault(fault.what, fault.fatal, fault.harmless, List.of(spec));
    }
    if (draw == 16) {
      plan.omitted = random.nextInt(MOST_PARTS);
      return new Fault("part " + plan.omitted + " is null", false, false);
    }
    return spoil(plan.scalars.get(random.nextInt(plan.scalars.size())));
  }

  private static <T> void repeat(List<T> calls, int which) {
    calls.add(calls.get(which));
  }

  private Fault spoil(Plan.Scalar scalar) {
    ByteBuffer memory = arena.memory();
    int at = scalar.offset();
    Object value;
    if (scalar.type() == int.class) {
      value = random.nextInt(3) == 0
          ? random.nextInt(6) - 1 // a constant or beside
          : other(int.class, memory.getInt(at));
      memory.putInt(at, (int) value);
    } else if (scalar.type() == long.class) {
      value = other(long.class, memory.getLong(at));
      memory.putLong(at, (long) value);
    } else if (scalar.type() == float.class) {
      value = other(float.class, null);
      memory.putFloat(at, (float) value);
    } else {
      value = other(double.class, null);
      memory.putDouble(at, (double) value);
    }
    return new Fault(scalar.name() + " is " + value, false, false);
  }

  /** Any value of a type, rather an extreme one. */
  Object other(Class<?> type, Object now) {
    if (type == int.class) {
      return random.nextInt(3) == 0 && now instanceof Integer n
          ? n + random.nextInt(3) - 1
          : INTS[random.nextInt(INTS.length)];
    } else if (type == long.class) {
      return random.nextInt(3) == 0 && now instanceof Long n
          ? n + random.nextInt(3) - 1
          : LONGS[random.nextInt(LONGS.length)];
    } else if (type == float.class) {
      return FLOATS[random.nextInt(FLOATS.length)];
    } else if (type == double.class) {
      return DOUBLES[random.nextInt(DOUBLES.length)];
    } else if (type == boolean.class) {
      return random.nextBoolean();
    } else if (type.isEnum()) {
      int pick = random.nextInt(type.getEnumConstants().length + 1);
      return pick == 0 ? null : type.getEnumConstants()[pick - 1];
    } else if (type == int[].class) {
      if (random.nextInt(5) == 0) {
        return null;
      }
      int[] values = random.ints(random.nextInt(4), 0, INTS.length).map(i -> INTS[i]).toArray();
      return values;
    }
    return null;
  }

  private Fault spoil(Spec spec, List<Spec> others) {
    if (spec.isArray()) {
      return otherContents(spec);
    }
    switch (random.nextInt(15)) {
      case 0:
        spec.owner = Spec.Owner.ABSENT;
        return new Fault(spec.name + " is null", !spec.optional, false);
      case 1:
        spec.owner = random.nextBoolean() ? Spec.Owner.CLOSED_SCOPE : Spec.Owner.CLOSED_POINTER;
        return new Fault(spec.name + " is of a " + spec.owner, true, false);
      case 2:
        spec.owner = Spec.Owner.READ_ONLY;
        spec.device = Device.CPU;
        return new Fault(spec.name + " is read-only", spec.written, !spec.written);
      case 3:
        spec.owner = random.nextBoolean() ? Spec.Owner.BUFFER : Spec.Owner.POINTER;
        spec.device = Device.CPU;
        return new Fault(spec.name + " is over a " + spec.owner, false, true);
      case 4:
        boolean scoped = random.nextBoolean();
        spec.owner = scoped ? Spec.Owner.SCOPE : Spec.Owner.OWN_POINTER;
        if (!scoped && !spec.honest()) {
          return null;
        }
        return new Fault(spec.name + " is of a " + spec.owner, false, false);
      case 5:
        spec.dtype = DType.values()[random.nextInt(DType.values().length)];
        return new Fault(spec.name + " is " + spec.dtype, false, false);
      case 6:
        return otherRank(spec);
      case 7, 8:
        return otherExtent(spec);
      case 9:
        return otherStrides(spec);
      case 10:
        spec.offset += 1 + random.nextInt(3);
        return new Fault(spec.name + " is misaligned", false, false);
      case 11:
        Spec over = others.get(random.nextInt(others.size()));
        spec.offset = over.offset + (random.nextInt(3) - 1) * over.dtype.bytes();
        return new Fault(
            spec.name + " lies over " + over.name, collide(spec, over), false, List.of(spec, over));
      case 12:
        spec.owner = Spec.Owner.ADDRESS;
        spec.device = Device.cuda(random.nextInt(2) * 7);
        return new Fault(spec.name + " is on " + spec.device, true, false);
      case 13:
        spec.nowhere = true;
        return new Fault(spec.name + " is nowhere", !spec.empty(), false);
      default:
        return otherContents(spec);
    }
  }

  /** Whether two tensors share bytes that are written, without being the same tensor. */
  private static boolean collide(Spec spec, Spec other) {
    boolean same = spec == other
        || spec.offset == other.offset && spec.dtype == other.dtype
            && Arrays.equals(spec.shape, other.shape) && Arrays.equals(spec.steps(), other.steps());
    BitSet bytes = new BitSet();
    BitSet others = new BitSet();
    spec.mark(bytes);
    other.mark(others);
    return !same && (spec.written || other.written) && bytes.intersects(others);
  }

  private Fault otherRank(Spec spec) {
    int rank = spec.shape.length;
    switch (random.nextInt(5)) {
      case 0:
        spec.shape = new long[0];
        break;
      case 1:
        spec.shape = Arrays.copyOf(spec.shape, rank + 1);
        spec.shape[rank] = 1;
        break;
      case 2:
        long[] deeper = new long[rank + 1];
        deeper[0] = 1;
        System.arraycopy(spec.shape, 0, deeper, 1, rank);
        spec.shape = deeper;
        break;
      case 3:
        spec.shape = Arrays.copyOf(spec.shape, Math.max(0, rank - 1));
        break;
      default:
        spec.shape = new long[random.nextInt(70)];
        Arrays.fill(spec.shape, 1);
    }
    spec.strides = null;
    boolean tooMany = spec.shape.length > 4 && !spec.anyRank;
    return new Fault(spec.name + " has rank " + spec.shape.length, tooMany, false);
  }

  private Fault otherExtent(Spec spec) {
    if (spec.shape.length == 0) {
      return null;
    }
    int d = random.nextInt(spec.shape.length);
    spec.shape = spec.shape.clone();
    spec.shape[d] = switch (random.nextInt(4)) {
      case 0 -> 0;
      case 1 -> Math.max(0, spec.shape[d] + random.nextInt(3) - 1);
      default -> LONGS[random.nextInt(LONGS.length)];
    };
    return new Fault(spec.name + " has shape " + Arrays.toString(spec.shape), false, false);
  }

  private Fault otherStrides(Spec spec) {
    if (spec.shape.length == 0) {
      return null;
    }
    spec.strides = spec.steps().clone();
    int d = random.nextInt(spec.shape.length);
    spec.strides[d] = switch (random.nextInt(6)) {
      case 0 -> 0;
      case 1 -> spec.strides[d] + 1;
      case 2 -> spec.strides[d] - 1;
      case 3 -> -spec.strides[d];
      case 4 -> 2 * spec.strides[d];
      default -> LONGS[random.nextInt(LONGS.length)];
    };
    return new Fault(spec.name + " has strides " + Arrays.toString(spec.strides), false, false);
  }

  private Fault otherContents(Spec spec) {
    long elements = Arrays.stream(spec.shape).reduce(1, (a, b) -> a * b);
    if (elements < 1 || elements > Arena.BYTES || !spec.honest() || spec.strides != null
        || spec.offset % 8 != 0) {
      return null;
    }
    ByteBuffer memory = arena.memory();
    for (int poisoned = 0; poisoned <= random.nextInt(3); poisoned++) {
      int at = (int) spec.offset + random.nextInt((int) elements) * spec.dtype.bytes();
      float value = FLOATS[random.nextInt(FLOATS.length)];
      switch (spec.dtype) {
        case F32 -> memory.putFloat(at, value);
        case F64 -> memory.putDouble(at, value);
        case F16 -> memory.putShort(at, DType.floatToF16(value));
        case BF16 -> memory.putShort(at, DType.floatToBf16(value));
        case U8 -> memory.put(at, (byte) random.nextInt());
        case I32 -> memory.putInt(at, INTS[random.nextInt(INTS.length)]);
        default -> memory.putLong(at, LONGS[random.nextInt(LONGS.length)]);
      }
    }
    return new Fault("contents of " + spec.name + " are poisoned", false, false);
  }
}
