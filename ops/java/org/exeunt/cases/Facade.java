// SPDX-License-Identifier: Apache-2.0
package org.exeunt.cases;

import java.util.Objects;
import java.util.Set;
import java.util.function.Supplier;
import java.util.stream.Stream;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.Pointer;
import org.exeunt.BlockFormat;
import org.exeunt.KvCache;
import org.exeunt.Op;
import org.exeunt.Selection;
import org.exeunt.Statistics;
import org.exeunt.Tensor;
import org.exeunt.jni.DLTensor;
import org.exeunt.jni.exn_kv_cache;
import org.exeunt.jni.exn_selection;
import org.exeunt.jni.exn_stats;
import org.exeunt.jni.global.exeunt;

/**
 * The call that a C params struct describes, as a user of the facade would write it: for each op,
 * its builder with every argument that the struct gives.
 */
public final class Facade {
  /** Makes tensors of DLTensors, by their addresses, and says which arguments made of them to omit. */
  public interface Hook {
    Tensor tensor(long dl);

    /** Whether a cache, a selection, statistics or a layer shall be null. */
    default boolean omits() {
      return false;
    }
  }

  private static final ThreadLocal<Hook> HOOK = ThreadLocal.withInitial(() -> Tensor::ofDlpack);

  private Facade() {}

  /** The ops that this class knows. */
  public static Set<String> ops() {
    return Calls.ALL.keySet();
  }

  /** A builder with what the params struct of {@code op} at {@code params} says. */
  public static Op.Builder<?> builder(String op, long params) {
    return steps(op, params).fill();
  }

  /** What fills such a builder, call by call. */
  public static Steps<?> steps(String op, long params) {
    return Calls.ALL.get(op).apply(params);
  }

  /** What {@code made} returns when tensors are made by {@code hook}. */
  public static <T> T with(Hook hook, Supplier<T> made) {
    HOOK.set(hook);
    try {
      return made.get();
    } finally {
      HOOK.remove();
    }
  }

  // ---- pieces -----------------------------------------------------------------------------------

  private static final class Address extends Pointer {
    Address(long address) {
      this.address = address;
    }
  }

  /** The struct at an address, for the constructor of its binding. */
  public static Pointer at(long address) {
    return new Address(address);
  }

  /** The tensor that a field of a struct points at; null if at none. */
  public static Tensor tensor(DLTensor dl) {
    return dl == null || dl.isNull() ? null : HOOK.get().tensor(dl.address());
  }

  static int[] integers(Tensor tensor) {
    return tensor == null ? null : tensor.toIntArray();
  }

  static long word(Pointer struct, String field) {
    return new LongPointer(at(struct.address() + struct.offsetof(field))).get();
  }

  /** Of a field that has the name of a method of every JavaCPP pointer. */
  public static Tensor tensor(Pointer struct, String field) {
    long dl = word(struct, field);
    return dl == 0 ? null : HOOK.get().tensor(dl);
  }

  /** Constants are declared in the order of their codes; null if none has this one. */
  static <E extends Enum<E>> E constant(Class<E> type, int code) {
    E[] constants = type.getEnumConstants();
    return code >= 0 && code < constants.length ? constants[code] : null;
  }

  static BlockFormat blocks(int tag) {
    return Stream.of(BlockFormat.values()).filter(f -> f.tag() == tag).findAny().orElse(null);
  }

  static <T> T unlessOmitted(T made) {
    return HOOK.get().omits() ? null : made;
  }

  /** The cache that a struct describes. */
  public static KvCache cache(exn_kv_cache c) {
    Tensor k = tensor(c.k());
    Tensor v = tensor(c.v());
    switch (c.layout()) {
      case exeunt.EXN_KV_HEAD_MAJOR:
        return unlessOmitted(KvCache.ofHeadMajor(k, v));
      case exeunt.EXN_KV_TOKEN_MAJOR:
        return unlessOmitted(KvCache.ofTokenMajor(k, v));
      default:
        return unlessOmitted(KvCache.ofPages(k, v, tensor(c.block_table())));
    }
  }

  static Statistics statistics(exn_stats s) {
    return unlessOmitted(new Statistics(tensor(s.argmax()), tensor(s.max_logit()), tensor(s.lse()),
        tensor(s.p1()), tensor(s.p2()), tensor(s.margin()), tensor(s.entropy()),
        tensor(s.pow2_entropy()), tensor(s.mean_log_p()), tensor(s.valid()),
        tensor(s.label_log_p()), tensor(s.draw())));
  }

  /** Null if the struct asks for none. */
  static Selection selection(exn_selection s) {
    Tensor indices = tensor(s.indices());
    Tensor count = tensor(s.count());
    Tensor valid = tensor(s.valid());
    Tensor budget = tensor(s.budget());
    Tensor segments = tensor(s.segments());
    Tensor keep = tensor(s.keep());
    Tensor drop = tensor(s.drop());
    return Stream.of(indices, count, valid, budget, segments, keep, drop).allMatch(Objects::isNull)
        ? null
        : unlessOmitted(new Selection(indices, count, valid, budget, segments, keep, drop, s.k()));
  }
}
