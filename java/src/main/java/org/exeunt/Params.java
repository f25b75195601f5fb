// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.IntStream;
import org.bytedeco.javacpp.Pointer;
import org.exeunt.jni.DLDataType;
import org.exeunt.jni.DLDevice;
import org.exeunt.jni.DLTensor;
import org.exeunt.presets.Direct;

/**
 * Collects an op's arguments and lays them out as the C struct, the structs it points at, its
 * tensors, their shapes and strides in one block of native memory. Field offsets come from the
 * compiled binding.
 *
 * <p>One object stands for one struct of the block: the op's own, one inside another ({@link
 * #inside}) or one of an array ({@link #array}).
 */
final class Params {
  private static final Map<Class<?>, Map<String, Integer>> OFFSETS = new ConcurrentHashMap<>();

  private record Argument(int fieldOffset, Tensor tensor) {}

  /** A pointer to a part of the block, which has no address yet. */
  private record Link(int fieldOffset, int target) {}

  /** What all structs of one op share. */
  private static final class Block {
    ByteBuffer structs = ByteBuffer.allocate(0);
    final List<Argument> arguments = new ArrayList<>();
    final List<Link> links = new ArrayList<>();
    final Class<? extends Pointer> type; // the op's own struct

    Block(Class<? extends Pointer> type) {
      this.type = type;
    }

    /** What messages call the op. */
    String op() {
      return Status.className(type.getSimpleName().replaceAll("^exn_|_params$", ""));
    }

    /** Makes room for zeroed structs at the end; returns where. */
    int append(int bytes) {
      int at = align(structs.capacity());
      structs =
          ByteBuffer.allocate(at + bytes).order(ByteOrder.nativeOrder()).put(0, structs.array());
      return at;
    }
  }

  private final Class<? extends Pointer> type;
  private final Block block;
  private final int base;
  private final String path; // of this struct's fields, for messages

  Params(Class<? extends Pointer> type) {
    this.type = type;
    block = new Block(type);
    base = block.append(sizeof(type));
    path = "";
    int64("struct_size", sizeof(type));
  }

  private Params(Class<? extends Pointer> type, Block block, int base, String path) {
    this.type = type;
    this.block = block;
    this.base = base;
    this.path = path;
  }

  static int offset(Class<? extends Pointer> type, String field) {
    Map<String, Integer> offsets = OFFSETS.get(type);
    if (offsets == null) {
      OFFSETS.put(type, offsets = new ConcurrentHashMap<>());
    }
    Integer offset = offsets.get(field);
    if (offset == null) {
      offset = Direct.offset(type.getName().replace('.', '/'), field);
      if (offset < 0) {
        throw new IllegalArgumentException(type.getName() + " has no field " + field);
      }
      offsets.put(field, offset);
    }
    return offset;
  }

  private static int sizeof(Class<? extends Pointer> type) {
    return offset(type, "sizeof");
  }

  /** The struct that a field of this one holds. */
  Params inside(String field, Class<? extends Pointer> inner) {
    return new Params(inner, block, at(field), path + field + ".");
  }

  /** Structs in a row, which a field of this one points at. */
  List<Params> array(String field, Class<? extends Pointer> element, int count) {
    int bytes = sizeof(element);
    int first = block.append(count * bytes);
    block.links.add(new Link(at(field), first));
    return IntStream.range(0, count)
        .mapToObj(i -> new Params(element, block, first + i * bytes, path + field + "[" + i + "]."))
        .toList();
  }

  /** A tensor that the op writes; null leaves the field null. */
  Params written(String field, Tensor tensor) {
    return tensor(field, tensor, true);
  }

  /** A tensor of the op, which writes it or does not; null leaves the field null. */
  Params tensor(String field, Tensor tensor, boolean written) {
    if (written && tensor != null && tensor.isReadOnly()) {
      throw new IllegalArgumentException(
          block.op() + ": " + path + field + " is written, but " + tensor + " is read-only");
    }
    return tensor(field, tensor);
  }

  /** A tensor that the op only reads; null leaves the field null. */
  Params tensor(String field, Tensor tensor) {
    if (tensor != null) {
      block.arguments.add(new Argument(at(field), tensor));
    }
    return this;
  }

  Params int32(String field, int value) {
    block.structs.putInt(at(field), value);
    return this;
  }

  Params int64(String field, long value) {
    block.structs.putLong(at(field), value);
    return this;
  }

  Params float32(String field, float value) {
    block.structs.putFloat(at(field), value);
    return this;
  }

  Params float64(String field, double value) {
    block.structs.putDouble(at(field), value);
    return this;
  }

  private int at(String field) {
    return base + offset(type, field);
  }

  List<Tensor> tensors() {
    List<Tensor> tensors = new ArrayList<>(); // a lambda would take a new JVM long
    for (Argument argument : block.arguments) {
      tensors.add(argument.tensor());
    }
    return tensors;
  }

  /** The device of the first tensor; the native library checks that the others agree. */
  Device device() {
    return block.arguments.isEmpty() ? Device.CPU : block.arguments.get(0).tensor().device();
  }

  int blockBytes() {
    int bytes = align(block.structs.capacity());
    for (Argument argument : block.arguments) {
      bytes += tensorBytes() + 2 * Long.BYTES * argument.tensor().rank();
    }
    return bytes;
  }

  /** Writes everything to {@code memory}, which lies at {@code address}. */
  void write(ByteBuffer memory, long address) {
    memory.put(0, block.structs.array());
    for (Link link : block.links) {
      memory.putLong(link.fieldOffset(), address + link.target());
    }
    int at = align(block.structs.capacity());
    for (Argument argument : block.arguments) {
      memory.putLong(argument.fieldOffset(), address + at);
      writeTensor(memory, address, at, argument.tensor());
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
    return align(sizeof(DLTensor.class));
  }

  private static int align(int bytes) {
    return (bytes + 7) & -8;
  }
}
