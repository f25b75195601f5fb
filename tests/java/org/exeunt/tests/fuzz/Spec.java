// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests.fuzz;

import java.util.Arrays;
import java.util.BitSet;
import java.util.List;
import org.bytedeco.javacpp.BytePointer;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** A tensor argument before it exists: what a fault may change of it. */
final class Spec {
  /** What keeps the tensor's memory. */
  enum Owner {
    ADDRESS,
    BUFFER,
    READ_ONLY,
    POINTER,
    SCOPE,
    OWN_POINTER,
    CLOSED_POINTER,
    CLOSED_SCOPE,
    ABSENT
  }

  DType dtype;
  long[] shape;
  long[] strides; // null: compact
  long offset; // in the arena
  boolean nowhere; // at address 0
  Owner owner = Owner.ADDRESS;
  Device device = Device.CPU;
  final String name;
  final boolean written;
  final boolean anyRank;
  boolean optional;
  boolean used; // by an op of the facade

  /** `what` holds of it, in the words of Cases.drawnFields. */
  Spec(String name, Tensor tensor, long offset, List<String> what) {
    this.name = name;
    this.offset = offset;
    dtype = tensor.dtype();
    shape = tensor.shape();
    nowhere = tensor.address() == 0;
    written = what.contains("written");
    optional = what.contains("optional");
    anyRank = what.contains("any_rank");
    strides = empty() || Arrays.equals(tensor.strides(), steps()) ? null : tensor.strides();
  }

  /** Of LayerSchedule, which takes an array where the C ABI takes a tensor. */
  boolean isArray() {
    return name.equals("order");
  }

  boolean empty() {
    return Arrays.stream(shape).anyMatch(extent -> extent == 0);
  }

  long[] steps() {
    if (strides != null) {
      return strides;
    }
    long[] steps = new long[shape.length];
    long step = 1;
    for (int i = shape.length - 1; i >= 0; i--) {
      steps[i] = step;
      step *= Math.max(1, shape[i]);
    }
    return steps;
  }

  /** Whether its elements, if there are any, lie in the arena. */
  boolean honest() {
    if (owner == Owner.ABSENT || empty() || device != Device.CPU) {
      return true;
    }
    double least = offset;
    double most = offset;
    double count = 1;
    for (int i = 0; i < shape.length; i++) {
      if (shape[i] < 0) {
        return true; // refused before anyone looks
      }
      double reach = ((double) shape[i] - 1) * steps()[i] * dtype.bytes();
      least += Math.min(0, reach);
      most += Math.max(0, reach);
      count *= shape[i];
    }
    return !nowhere && least >= 0 && most + dtype.bytes() <= Arena.BYTES && count < Arena.BYTES;
  }

  /** Adds the bytes of its elements. */
  void mark(BitSet bytes) {
    if (owner == Owner.ABSENT || owner == Owner.SCOPE || owner == Owner.OWN_POINTER || nowhere
        || device != Device.CPU || empty() || !honest()
        || Arrays.stream(shape).anyMatch(extent -> extent < 0)) {
      return;
    }
    mark(bytes, 0, offset);
  }

  private void mark(BitSet bytes, int dimension, long at) {
    if (dimension == shape.length) {
      bytes.set((int) at, (int) at + dtype.bytes());
      return;
    }
    for (long i = 0; i < shape[dimension]; i++) {
      mark(bytes, dimension + 1, at + i * steps()[dimension] * dtype.bytes());
    }
  }

  Tensor value(Trial trial) {
    used = !isArray();
    Tensor tensor = tensor(trial);
    boolean exact = owner == Owner.SCOPE || owner == Owner.OWN_POINTER; // without space for gaps
    return tensor == null || strides == null || exact ? tensor : tensor.strided(shape, strides);
  }

  private Tensor tensor(Trial trial) {
    switch (owner) {
      case ABSENT:
        return null;
      case BUFFER:
        return Tensor.of(trial.slice(offset), dtype, shape);
      case READ_ONLY:
        return Tensor.of(trial.slice(offset).asReadOnlyBuffer().order(trial.order()), dtype, shape);
      case POINTER:
        return Tensor.of(new BytePointer(trial.slice(offset)), dtype, device, shape);
      case SCOPE:
        return trial.copyInScope(this);
      case OWN_POINTER:
        return trial.copyBehindPointer(this);
      case CLOSED_POINTER:
        try (BytePointer pointer = new BytePointer(64)) {
          return Tensor.of(pointer, dtype, device, 1).strided(shape, steps());
        }
      case CLOSED_SCOPE:
        try (Scope scope = Scope.open()) {
          return scope.allocate(Device.CPU, dtype, 1).strided(shape, steps());
        }
      default:
        return Tensor.ofAddress(
            nowhere ? 0 : trial.arena().address() + offset, dtype, device, shape);
    }
  }

  @Override
  public String toString() {
    return owner == Owner.ABSENT
        ? "null"
        : dtype + Arrays.toString(shape) + (strides == null ? "" : "/" + Arrays.toString(strides))
            + (nowhere ? "@0" : "@" + offset) + (owner == Owner.ADDRESS ? "" : "(" + owner + ")")
            + (device == Device.CPU ? "" : " on " + device);
  }
}
