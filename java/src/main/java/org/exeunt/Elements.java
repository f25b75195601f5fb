// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import org.exeunt.presets.Direct;

/**
 * The elements of a tensor of any dtype, layout and device, in row-major order in host memory. What
 * lies between them in the tensor is never written.
 */
final class Elements {
  private final Tensor tensor;
  private final int width;
  private final ByteBuffer bytes;
  private long spanBytes; // from the first element to the last
  private int runBytes; // that lie in one piece
  private final int outer; // dimensions in front of a run
  private final long[] extents; // of those, innermost first
  private final long[] steps; // in bytes

  private Elements(Tensor tensor) {
    this.tensor = tensor;
    width = tensor.dtype().bytes();
    long size = tensor.byteSize();
    if (size > Integer.MAX_VALUE) {
      throw new UnsupportedOperationException(size + " bytes do not fit a java.nio buffer");
    }
    int rank = tensor.rank();
    extents = new long[rank];
    steps = new long[rank];
    outer = size == 0 ? 0 : layOut();
    bytes = (tensor.device().backend() == Backend.CPU
            ? ByteBuffer.allocate((int) size)
            : ByteBuffer.allocateDirect((int) size))
                .order(ByteOrder.nativeOrder());
  }

  /** Finds the runs; returns the number of dimensions in front of them. */
  private int layOut() {
    int count = 0;
    long run = width;
    long last = 0;
    boolean inRun = true;
    for (int i = tensor.rank() - 1; i >= 0; i--) {
      long extent = tensor.extents()[i];
      long step = tensor.steps()[i];
      if (extent == 1) {
        continue;
      }
      if (step < 0) {
        throw new UnsupportedOperationException("negative stride " + step);
      }
      try {
        step = Math.multiplyExact(step, width);
        last = Math.addExact(last, Math.multiplyExact(extent - 1, step));
      } catch (ArithmeticException e) {
        throw new UnsupportedOperationException(
            "stride " + tensor.steps()[i] + " of extent " + extent + ": beyond all memory");
      }
      if (inRun && step == run) {
        run *= extent;
      } else {
        inRun = false;
        extents[count] = extent;
        steps[count] = step;
        count++;
      }
    }
    spanBytes = last + width;
    runBytes = (int) run;
    return count;
  }

  static Elements read(Tensor tensor) {
    Elements elements = new Elements(tensor);
    elements.transfer(false);
    return elements;
  }

  /** To be filled and flushed. */
  static Elements write(Tensor tensor) {
    return new Elements(tensor);
  }

  void flush() {
    transfer(true);
  }

  private void transfer(boolean toTensor) {
    Device device = tensor.device();
    tensor.acquire();
    try {
      if (bytes.capacity() == 0) {
        return;
      }
      device.backend().require();
      if (spanBytes <= Integer.MAX_VALUE && device.backend() == Backend.CPU) {
        boolean made = outer == 0 && tensor.inPlace() instanceof ByteBuffer;
        throughView(made ? (ByteBuffer) tensor.inPlace() : Memory.view(tensor.address(), spanBytes),
            toTensor);
      } else if (outer == 0) {
        copy(0, bytes, 0, runBytes, toTensor);
      } else if (spanBytes <= Integer.MAX_VALUE && !toTensor) {
        ByteBuffer span = ByteBuffer.allocateDirect((int) spanBytes);
        copy(0, span, 0, (int) spanBytes, false);
        throughView(span, false);
      } else {
        long[] at = new long[outer];
        for (int from = 0; from < bytes.capacity(); from += runBytes) {
          copy(offset(at), bytes, from, runBytes, toTensor);
          next(at);
        }
      }
      if (device.backend() != Backend.CPU) {
        Stream.wrap(0, device).synchronize();
      }
    } finally {
      tensor.release();
    }
  }

  /** Copies run by run from or to a buffer over the tensor's span. */
  private void throughView(ByteBuffer span, boolean toTensor) {
    long[] at = new long[outer];
    for (int from = 0; from < bytes.capacity(); from += runBytes) {
      int offset = (int) offset(at);
      if (toTensor) {
        span.put(offset, bytes, from, runBytes);
      } else {
        bytes.put(from, span, offset, runBytes);
      }
      next(at);
    }
  }

  private void copy(long offset, ByteBuffer host, int from, int size, boolean toTensor) {
    long there = tensor.address() + offset;
    if (tensor.device().backend() == Backend.CPU) {
      ByteBuffer run = Memory.view(there, size);
      if (toTensor) {
        run.put(0, host, from, size);
      } else {
        host.put(from, run, 0, size);
      }
      return;
    }
    long here = Direct.address(host) + from;
    if (toTensor) {
      Memory.copy(tensor.device(), there, Device.CPU, here, size, 0);
    } else {
      Memory.copy(Device.CPU, here, tensor.device(), there, size, 0);
    }
    Reference.reachabilityFence(host);
  }

  private long offset(long[] at) {
    long offset = 0;
    for (int i = 0; i < outer; i++) {
      offset += at[i] * steps[i];
    }
    return offset;
  }

  private void next(long[] at) {
    for (int i = 0; i < outer && ++at[i] == extents[i]; i++) {
      at[i] = 0;
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
    return (int) index * width;
  }
}
