// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.cuda;

import java.util.ArrayList;
import java.util.List;
import org.bytedeco.cuda.cublas.cublasContext;
import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.cuda.cudart.cudaDeviceProp;
import org.bytedeco.cuda.cudnn.cudnnContext;
import org.bytedeco.cuda.global.cublas;
import org.bytedeco.cuda.global.cudart;
import org.bytedeco.cuda.global.cudnn;
import org.bytedeco.javacpp.Pointer;

/** Memory, a stream and the handles of cuDNN and cuBLAS on the first GPU, by org.bytedeco:cuda. */
final class Card implements AutoCloseable {
  final CUstream_st stream = new CUstream_st();
  final cudnnContext dnn = new cudnnContext();
  final cublasContext blas = new cublasContext();
  private final List<Pointer> allocated = new ArrayList<>();

  Card() {
    succeed(
        cudart.cudaStreamCreateWithFlags(stream, cudart.cudaStreamNonBlocking), "cudaStreamCreate");
    succeedDnn(cudnn.cudnnCreate(dnn), "cudnnCreate");
    succeedDnn(cudnn.cudnnSetStream(dnn, stream), "cudnnSetStream");
    succeedBlas(cublas.cublasCreate_v2(blas), "cublasCreate");
    succeedBlas(cublas.cublasSetStream_v2(blas, stream), "cublasSetStream");
  }

  /** The first GPU, as its driver calls it. */
  static String name() {
    cudaDeviceProp properties = new cudaDeviceProp();
    succeed(cudart.cudaGetDeviceProperties(properties, 0), "cudaGetDeviceProperties");
    return properties.name().getString();
  }

  Pointer allocate(long bytes) {
    Pointer memory = new Pointer();
    succeed(cudart.cudaMalloc(memory, Math.max(1, bytes)), "cudaMalloc");
    allocated.add(memory);
    return memory;
  }

  /** From one place of the device to another; waits. */
  void copy(Pointer to, Pointer from, long bytes) {
    succeed(cudart.cudaMemcpyAsync(to, from, bytes, cudart.cudaMemcpyDeviceToDevice, stream),
        "cudaMemcpyAsync");
    await();
  }

  void await() {
    succeed(cudart.cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  }

  static void succeed(int error, String what) {
    if (error != cudart.cudaSuccess) {
      throw new IllegalStateException(
          what + ": CUDA error " + error + ", " + cudart.cudaGetErrorString(error).getString());
    }
  }

  static void succeedDnn(int status, String what) {
    if (status != cudnn.CUDNN_STATUS_SUCCESS) {
      throw new IllegalStateException(
          what + ": " + cudnn.cudnnGetErrorString(status).getString() + " (" + status + ")");
    }
  }

  static void succeedBlas(int status, String what) {
    if (status != cublas.CUBLAS_STATUS_SUCCESS) {
      throw new IllegalStateException(
          what + ": " + cublas.cublasGetStatusString(status).getString() + " (" + status + ")");
    }
  }

  @Override
  public void close() {
    cublas.cublasDestroy_v2(blas);
    cudnn.cudnnDestroy(dnn);
    allocated.forEach(cudart::cudaFree);
    cudart.cudaStreamDestroy(stream);
  }
}
