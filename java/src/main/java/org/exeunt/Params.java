// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;
import org.bytedeco.javacpp.Loader;
import org.bytedeco.javacpp.Pointer;
import org.exeunt.jni.DLDataType;
import org.exeunt.jni.DLDevice;
import org.exeunt.jni.DLTensor;

/**
 * Collects an op's arguments and lays them out as the C struct, its tensors, their shapes and
 * strides in one block of native memory. Field offsets come from the compiled binding.
 */
final class Params {
  private record Argument(int fieldOffset, Tensor tensor) {}

  private final Class<? extends Pointer> type;
  private final ByteBuffer struct;
  private final List<Argument> arguments = new ArrayList<>();

  Params(Class<? extends Pointer> type) {
    this.type = type;
    this.struct = ByteBuffer.allocate(Loader.sizeof(type)).order(ByteOrder.nativeOrder());
    struct.putLong(offset(type, "struct_size"), struct.capacity());
  }

  static int offset(Class<? extends Pointer> type, String field) {
    return Loader.offsetof(type, field);
  }

  /** A tensor of the op; null leaves the field null. */
  Params tensor(String field, Tensor tensor) {
    return tensorAt(offset(type, field), tensor);
  }

  /** A tensor of a struct inside the params struct. */
  Params tensor(String outer, Class<? extends Pointer> inner, String field, Tensor tensor) {
    return tensorAt(offset(type, outer) + offset(inner, field), tensor);
  }

  private Params tensorAt(int fieldOffset, Tensor tensor) {
    if (tensor != null) {
      arguments.add(new Argument(fieldOffset, tensor));
    }
    return this;
  }

  Params int32(String field, int value) {
    struct.putInt(offset(type, field), value);
    return this;
  }

  Params int64(String field, long value) {
    struct.putLong(offset(type, field), value);
    return this;
  }

  Params float32(String field, float value) {
    struct.putFloat(offset(type, field), value);
    return this;
  }

  List<Tensor> tensors() {
    return arguments.stream().map(Argument::tensor).toList();
  }

  /** The device of the first tensor; the native library checks that the others agree. */
  Device device() {
    return arguments.isEmpty() ? Device.CPU : arguments.get(0).tensor().device();
  }

  int blockBytes() {
    int bytes = align(struct.capacity());
    for (Argument argument : arguments) {
      bytes += tensorBytes() + 2 * Long.BYTES * argument.tensor().rank();
    }
    return bytes;
  }

  /** Writes everything to {@code block}, which lies at {@code address}. */
  void write(ByteBuffer block, long address) {
    block.put(0, struct.array());
    int at = align(struct.capacity());
    for (Argument argument : arguments) {
      block.putLong(argument.fieldOffset(), address + at);
      writeTensor(block, address, at, argument.tensor());
      at += tensorBytes() + 2 * Long.BYTES * argument.tensor().rank();
    }
  }

  private static void writeTensor(ByteBuffer block, long address, int at, Tensor tensor) {
    int device = at + offset(DLTensor.class, "device");
    int dtype = at + offset(DLTensor.class, "dtype");
    int shape = at + tensorBytes();
    int strides = shape + Long.BYTES * tensor.rank();
    block.putLong(at + offset(DLTensor.class, "data"), tensor.address());
    block.putInt(
        device + offset(DLDevice.class, "device_type"), tensor.device().backend().dlpackCode());
    block.putInt(device + offset(DLDevice.class, "device_id"), tensor.device().id());
    block.putInt(at + offset(DLTensor.class, "ndim"), tensor.rank());
    block.put(dtype + offset(DLDataType.class, "code"), tensor.dtype().code);
    block.put(dtype + offset(DLDataType.class, "bits"), tensor.dtype().bits);
    block.putShort(dtype + offset(DLDataType.class, "lanes"), (short) 1);
    block.putLong(at + offset(DLTensor.class, "shape"), address + shape);
    block.putLong(
        at + offset(DLTensor.class, "strides"), tensor.isCompact() ? 0 : address + strides);
    block.putLong(at + offset(DLTensor.class, "byte_offset"), 0);
    for (int i = 0; i < tensor.rank(); i++) {
      block.putLong(shape + i * Long.BYTES, tensor.extents()[i]);
      block.putLong(strides + i * Long.BYTES, tensor.steps()[i]);
    }
  }

  private static int tensorBytes() {
    return align(Loader.sizeof(DLTensor.class));
  }

  private static int align(int bytes) {
    return (bytes + 7) & -8;
  }
}
