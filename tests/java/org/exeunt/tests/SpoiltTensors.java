// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import java.util.Arrays;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.ObjLongConsumer;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import org.bytedeco.javacpp.Loader;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.PointerScope;
import org.exeunt.DType;
import org.exeunt.Tensor;
import org.exeunt.jni.DLDataType;
import org.exeunt.jni.DLDevice;
import org.exeunt.jni.DLTensor;
import org.exeunt.jni.global.exeunt;

/** The descriptions of a tensor in which one thing is not as it was; they live until closed. */
final class SpoiltTensors implements AutoCloseable {
  private final PointerScope memory = new PointerScope();
  private final Map<String, DLTensor> all = new LinkedHashMap<>();
  private final Tensor good;

  /** {@code others}: the tensors of the same call. */
  SpoiltTensors(Tensor good, Collection<Structs.Place> others) {
    this.good = good;
    all.put("missing", null);
    for (DType type : DType.values()) {
      add("of " + type).dtype(dtype(type));
    }
    add("at no address").data(null).byte_offset(0);
    add("between elements").byte_offset(1);
    add("on another device").device(device(exeunt.kDLCUDA));
    for (Structs.Place other : others) {
      DLTensor there = new DLTensor(Structs.memory(other.dl(), Loader.sizeof(DLTensor.class)));
      add("at the place of " + other.field().name())
          .data(there.data())
          .byte_offset(there.byte_offset());
    }
    long[] shape = good.shape();
    addShape("with a dimension more",
        LongStream.concat(LongStream.of(1), LongStream.of(shape)).toArray());
    for (int i = 0; i < shape.length; i++) {
      int axis = i;
      String of = " in dimension " + i;
      addShape("longer" + of, with(shape, i, shape[i] + 1));
      addShape("shorter" + of, with(shape, i, Math.max(shape[i] - 1, 0)));
      addShape("empty" + of, with(shape, i, 0));
      addShape("without dimension " + i,
          IntStream.range(0, shape.length)
              .filter(j -> j != axis)
              .mapToLong(j -> shape[j])
              .toArray());
      long[] strides = good.strides();
      add("wider" + of).strides(longs(with(strides, i, 2 * strides[i])));
      add("narrower" + of).strides(longs(with(strides, i, strides[i] - 1)));
    }
  }

  /** Each by what is wrong with it; 0 stands for none. */
  void forEach(ObjLongConsumer<String> use) {
    all.forEach((what, dl) -> use.accept(what, dl == null ? 0 : dl.address()));
  }

  /** Sound, until something is changed. */
  private DLTensor add(String what) {
    DLTensor dl =
        new DLTensor()
            .data(Structs.memory(good.address(), good.byteSize()))
            .device(device(exeunt.kDLCPU))
            .ndim(good.rank())
            .dtype(dtype(good.dtype()))
            .shape(longs(good.shape()))
            .strides(longs(good.strides()))
            .byte_offset(0);
    all.put(what, dl);
    return dl;
  }

  /** Padded as it was, if it was. */
  private void addShape(String what, long[] shape) {
    DLTensor dl = add(what).ndim(shape.length).shape(longs(shape));
    if (good.isCompact() || shape.length != good.rank()) {
      dl.strides(null);
    }
  }

  private static long[] with(long[] values, int at, long value) {
    long[] changed = values.clone();
    changed[at] = value;
    return changed;
  }

  private static LongPointer longs(long[] values) {
    return new LongPointer(Arrays.copyOf(values, values.length + 1)).limit(values.length);
  }

  private static DLDevice device(int type) {
    return new DLDevice().device_type(type).device_id(0);
  }

  private static DLDataType dtype(DType type) {
    int ofInteger = type == DType.U8 ? exeunt.kDLUInt : exeunt.kDLInt;
    int code = type == DType.BF16 ? exeunt.kDLBfloat : type.isFloat() ? exeunt.kDLFloat : ofInteger;
    return new DLDataType().code((byte) code).bits((byte) (8 * type.bytes())).lanes((short) 1);
  }

  @Override
  public void close() {
    memory.close();
  }
}
