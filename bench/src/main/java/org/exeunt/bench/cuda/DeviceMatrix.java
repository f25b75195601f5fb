// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.cuda;

import org.bytedeco.cuda.global.cudart;
import org.bytedeco.cuda.global.cudnn;
import org.bytedeco.javacpp.Pointer;
import org.exeunt.DType;
import org.exeunt.Tensor;
import org.exeunt.cases.Facade;
import org.exeunt.jni.DLTensor;

/** A compact row-major matrix on the device, as the bindings of cuDNN and cuBLAS take it. */
record DeviceMatrix(Pointer data, int rows, int cols, DType dtype) {
  /** A pointer of an address. */
  private static final class Address extends Pointer {
    Address(long address) {
      this.address = address;
    }
  }

  /** A tensor of a case where it lies; of a vector a column. Null: none. */
  static DeviceMatrix of(DLTensor dl) {
    Tensor tensor = Facade.tensor(dl);
    if (tensor == null) {
      return null;
    }
    if (!tensor.isCompact()) {
      throw new UnsupportedOperationException("a matrix whose rows have gaps: " + tensor);
    }
    int rows = Math.toIntExact(tensor.size(0));
    int cols = tensor.rank() > 1 ? Math.toIntExact(tensor.size(1)) : 1;
    return new DeviceMatrix(new Address(tensor.address()), rows, cols, tensor.dtype());
  }

  /** A new one. */
  static DeviceMatrix allocate(Card card, int rows, int cols, DType dtype) {
    return new DeviceMatrix(card.allocate((long) rows * cols * dtype.bytes()), rows, cols, dtype);
  }

  long bytes() {
    return (long) rows * cols * dtype.bytes();
  }

  /** A {@code cudnnDataType_t}. */
  int dnnType() {
    return switch (dtype) {
      case F64 -> cudnn.CUDNN_DATA_DOUBLE;
      case F32 -> cudnn.CUDNN_DATA_FLOAT;
      case F16 -> cudnn.CUDNN_DATA_HALF;
      case BF16 -> cudnn.CUDNN_DATA_BFLOAT16;
      default -> throw new UnsupportedOperationException(dtype.toString());
    };
  }

  /** A {@code cudaDataType}. */
  int blasType() {
    return switch (dtype) {
      case F32 -> cudart.CUDA_R_32F;
      case F16 -> cudart.CUDA_R_16F;
      case BF16 -> cudart.CUDA_R_16BF;
      default -> throw new UnsupportedOperationException(dtype.toString());
    };
  }
}
