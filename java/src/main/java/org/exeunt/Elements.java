// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import org.bytedeco.javacpp.Pointer;

/** The elements of a tensor of any dtype, layout and device, staged through host memory. */
final class Elements {
  private final Tensor tensor;
  private final ByteBuffer bytes; // from the first element to the last, gaps included
  private final boolean compact;

  private Elements(Tensor tensor) {
    this.tensor = tensor;
    this.compact = tensor.isCompact();
    long[] extents = tensor.extents();
    long last = 0;
    for (int i = 0; i < extents.length; i++) {
      if (tensor.steps()[i] < 0) {
        throw new UnsupportedOperationException("negative stride " + tensor.steps()[i]);
      }
      last += (extents[i] - 1) * tensor.steps()[i];
    }
    long span = tensor.elements() == 0 ? 0 : (last + 1) * tensor.dtype().bytes();
    if (span > Integer.MAX_VALUE) {
      throw new UnsupportedOperationException(span + " bytes do not fit a java.nio buffer");
    }
    this.bytes = ByteBuffer.allocateDirect((int) span).order(ByteOrder.nativeOrder());
  }

  static Elements read(Tensor tensor) {
    Elements elements = new Elements(tensor);
    elements.transfer(false);
    return elements;
  }

  /** Keeps what lies in the gaps between the elements. */
  static Elements write(Tensor tensor) {
    return tensor.isCompact() ? new Elements(tensor) : read(tensor);
  }

  void flush() {
    transfer(true);
  }

  private void transfer(boolean toTensor) {
    int size = bytes.capacity();
    Device device = tensor.device();
    tensor.acquire();
    try {
      if (size == 0) {
        return;
      }
      device.backend().require();
      long staging = new Pointer(bytes).address();
      if (toTensor) {
        Memory.copy(device, tensor.address(), Device.CPU, staging, size, 0);
      } else {
        Memory.copy(Device.CPU, staging, device, tensor.address(), size, 0);
      }
      Stream.wrap(0, device).synchronize();
    } finally {
      tensor.release();
      Reference.reachabilityFence(bytes);
    }
  }

  double getDouble(long index) {
    int at = offset(index);
    switch (tensor.dtype()) {
      case F32:
        return bytes.getFloat(at);
      case F16:
        return DType.f16ToFloat(bytes.getShort(at));
      case BF16:
        return DType.bf16ToFloat(bytes.getShort(at));
      case F64:
        return bytes.getDouble(at);
      default:
        return getLong(index);
    }
  }

  long getLong(long index) {
    int at = offset(index);
    switch (tensor.dtype()) {
      case I32:
        return bytes.getInt(at);
      case I64:
        return bytes.getLong(at);
      case U8:
        return bytes.get(at) & 0xff;
      default:
        throw new IllegalStateException(tensor.dtype() + " is not an integer type");
    }
  }

  void put(long index, double value) {
    int at = offset(index);
    switch (tensor.dtype()) {
      case F32:
        bytes.putFloat(at, (float) value);
        break;
      case F16:
        bytes.putShort(at, DType.floatToF16(roundToOdd(value)));
        break;
      case BF16:
        bytes.putShort(at, DType.floatToBf16(roundToOdd(value)));
        break;
      case F64:
        bytes.putDouble(at, value);
        break;
      default:
        if (!(value >= Long.MIN_VALUE && value < 0x1p63)) {
          throw unfit(index, value);
        }
        put(index, (long) value);
    }
  }

  void put(long index, long value) {
    int at = offset(index);
    switch (tensor.dtype()) {
      case I32:
        if (value != (int) value) {
          throw unfit(index, value);
        }
        bytes.putInt(at, (int) value);
        break;
      case I64:
        bytes.putLong(at, value);
        break;
      case U8:
        if (value != (value & 0xff)) {
          throw unfit(index, value);
        }
        bytes.put(at, (byte) value);
        break;
      default:
        put(index, (double) value);
    }
  }

  private IllegalArgumentException unfit(long index, Number value) {
    return new IllegalArgumentException(
        "values: element " + index + " is " + value + ", which " + tensor.dtype() + " cannot hold");
  }

  /** Double to float so that a second rounding, to 16 bits, cannot go the wrong way. */
  private static float roundToOdd(double value) {
    float nearest = (float) value;
    if (nearest == value || value != value || Float.isInfinite(nearest)) {
      return nearest;
    }
    int bits = Float.floatToRawIntBits(nearest);
    if ((bits & 1) == 1) {
      return nearest;
    }
    boolean tooLarge = Math.abs((double) nearest) > Math.abs(value);
    return Float.intBitsToFloat(tooLarge ? bits - 1 : bits + 1);
  }

  private int offset(long index) {
    int width = tensor.dtype().bytes();
    if (compact) {
      return (int) (index * width);
    }
    long element = 0;
    long rest = index;
    for (int i = tensor.extents().length - 1; i >= 0; i--) {
      long extent = tensor.extents()[i];
      element += rest % extent * tensor.steps()[i];
      rest /= extent;
    }
    return (int) (element * width);
  }
}
