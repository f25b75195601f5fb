// SPDX-License-Identifier: Apache-2.0
//
// Stands in for cuDNN 9 and cuBLAS 13 on the emulated device: the few functions that exeunt's Java
// meets through org.bytedeco:cuda, written from NVIDIA's documentation, in double precision and at
// once. It refuses what the documentation rules out, so that a caller's arguments are tested, and
// says nothing about the libraries themselves.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace {

// cudnnStatus_t and cublasStatus_t.
constexpr int kSuccess = 0, kBadParam = 2000, kNotSupported = 3000, kExecutionFailed = 5000;
constexpr int kInvalidValue = 7, kUnsupportedBlas = 15;

// cudnnDataType_t and cudaDataType.
enum class Data { kFloat = 0, kDouble = 1, kHalf = 2, kBf16 = 9 };
enum class Blas { kFloat = 0, kHalf = 2, kBf16 = 14 };

double load(const void* at, size_t i, Data type) {
  switch (type) {
    case Data::kFloat:
      return static_cast<const float*>(at)[i];
    case Data::kDouble:
      return static_cast<const double*>(at)[i];
    case Data::kHalf:
      return __half2float(static_cast<const __half*>(at)[i]);
    default:
      return __bfloat162float(static_cast<const __nv_bfloat16*>(at)[i]);
  }
}

void store(void* at, size_t i, Data type, double value) {
  switch (type) {
    case Data::kFloat:
      static_cast<float*>(at)[i] = static_cast<float>(value);
      break;
    case Data::kDouble:
      static_cast<double*>(at)[i] = value;
      break;
    case Data::kHalf:
      static_cast<__half*>(at)[i] = __float2half(static_cast<float>(value));
      break;
    default:
      static_cast<__nv_bfloat16*>(at)[i] = __float2bfloat16(static_cast<float>(value));
  }
}

bool is_on_device(const void* pointer) {
  cudaPointerAttributes attributes;
  return pointer != nullptr && cudaPointerGetAttributes(&attributes, pointer) == cudaSuccess &&
         attributes.type == cudaMemoryTypeDevice;
}

// A stream of the runtime that is not being captured, as this library runs at once.
struct Handle {
  cudaStream_t stream = nullptr;

  bool is_ready() const {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    return cudaStreamIsCapturing(stream, &status) == cudaSuccess &&
           status == cudaStreamCaptureStatusNone && cudaStreamSynchronize(stream) == cudaSuccess;
  }
};

struct TensorDescriptor {
  Data type = Data::kFloat;
  int n = 0, c = 0, h = 0, w = 0;

  size_t rest() const { return static_cast<size_t>(h) * static_cast<size_t>(w); }
  bool same_as(const TensorDescriptor& other) const {
    return type == other.type && n == other.n && c == other.c && h == other.h && w == other.w;
  }
};

struct ReduceDescriptor {
  int operation = 0, compute = 0, nan = 0, indices = 0, index_type = 0;
};

// Softmax over `count` elements, `stride` apart. algorithm: 0 fast, 1 accurate, 2 log.
void softmax(int algorithm, double alpha, double beta, const void* x, void* y, Data type,
             size_t first, size_t count, size_t stride) {
  double most = algorithm == 0 ? 0 : -std::numeric_limits<double>::infinity();
  double sum = 0;
  for (size_t i = 0; i < count && algorithm != 0; ++i) {
    most = std::max(most, load(x, first + i * stride, type));
  }
  for (size_t i = 0; i < count; ++i) sum += std::exp(load(x, first + i * stride, type) - most);
  for (size_t i = 0; i < count; ++i) {
    const size_t at = first + i * stride;
    const double z = load(x, at, type) - most;
    const double result = algorithm == 2 ? z - std::log(sum) : std::exp(z) / sum;
    store(y, at, type, alpha * result + (beta == 0 ? 0 : beta * load(y, at, type)));
  }
}

double scalar(const void* at, Data type) {
  return type == Data::kDouble ? *static_cast<const double*>(at) : *static_cast<const float*>(at);
}

}  // namespace

#define STAND_IN extern "C" __attribute__((visibility("default")))

// ---- cuDNN --------------------------------------------------------------------------------------

STAND_IN size_t cudnnGetVersion() { return 0; }

STAND_IN const char* cudnnGetErrorString(int status) {
  return status == kSuccess        ? "CUDNN_STATUS_SUCCESS"
         : status == kBadParam     ? "CUDNN_STATUS_BAD_PARAM"
         : status == kNotSupported ? "CUDNN_STATUS_NOT_SUPPORTED"
                                   : "CUDNN_STATUS_EXECUTION_FAILED";
}

STAND_IN int cudnnCreate(Handle** handle) {
  *handle = new Handle;
  return kSuccess;
}

STAND_IN int cudnnDestroy(Handle* handle) {
  delete handle;
  return kSuccess;
}

STAND_IN int cudnnSetStream(Handle* handle, cudaStream_t stream) {
  handle->stream = stream;
  return kSuccess;
}

STAND_IN int cudnnCreateTensorDescriptor(TensorDescriptor** descriptor) {
  *descriptor = new TensorDescriptor;
  return kSuccess;
}

STAND_IN int cudnnDestroyTensorDescriptor(TensorDescriptor* descriptor) {
  delete descriptor;
  return kSuccess;
}

STAND_IN int cudnnSetTensor4dDescriptor(TensorDescriptor* descriptor, int format, Data type, int n,
                                        int c, int h, int w) {
  if (n < 1 || c < 1 || h < 1 || w < 1) return kBadParam;
  if (format != 0) return kNotSupported;  // of this library: NCHW alone
  *descriptor = {type, n, c, h, w};
  return kSuccess;
}

STAND_IN int cudnnSoftmaxForward(Handle* handle, int algorithm, int mode, const void* alpha,
                                 const TensorDescriptor* x_descriptor, const void* x,
                                 const void* beta, const TensorDescriptor* y_descriptor, void* y) {
  if (algorithm < 0 || algorithm > 2 || mode < 0 || mode > 1 ||
      !x_descriptor->same_as(*y_descriptor) || !is_on_device(x) || !is_on_device(y)) {
    return kBadParam;
  }
  if (!handle->is_ready()) return kExecutionFailed;
  const TensorDescriptor& t = *x_descriptor;
  const double a = scalar(alpha, t.type), b = scalar(beta, t.type);
  const size_t columns = static_cast<size_t>(t.c), rest = t.rest();
  for (size_t n = 0; n < static_cast<size_t>(t.n); ++n) {
    const size_t image = n * columns * rest;
    if (mode == 0) {  // over all of an image
      softmax(algorithm, a, b, x, y, t.type, image, columns * rest, 1);
    } else {  // over the channels of each pixel
      for (size_t at = 0; at < rest; ++at) {
        softmax(algorithm, a, b, x, y, t.type, image + at, columns, rest);
      }
    }
  }
  return kSuccess;
}

STAND_IN int cudnnCreateReduceTensorDescriptor(ReduceDescriptor** descriptor) {
  *descriptor = new ReduceDescriptor;
  return kSuccess;
}

STAND_IN int cudnnDestroyReduceTensorDescriptor(ReduceDescriptor* descriptor) {
  delete descriptor;
  return kSuccess;
}

STAND_IN int cudnnSetReduceTensorDescriptor(ReduceDescriptor* descriptor, int operation,
                                            int compute, int nan, int indices, int index_type) {
  *descriptor = {operation, compute, nan, indices, index_type};
  return kSuccess;
}

STAND_IN int cudnnGetReductionIndicesSize(Handle*, const ReduceDescriptor* reduce,
                                          const TensorDescriptor*, const TensorDescriptor* c,
                                          size_t* bytes) {
  *bytes = reduce->indices == 0 ? 0 : static_cast<size_t>(c->n) * sizeof(int32_t);
  return kSuccess;
}

STAND_IN int cudnnGetReductionWorkspaceSize(Handle*, const ReduceDescriptor*,
                                            const TensorDescriptor* a, const TensorDescriptor*,
                                            size_t* bytes) {
  *bytes = static_cast<size_t>(a->n) * 64;
  return kSuccess;
}

// The maximum over the channels, with its index among them: what the callers here ask for.
STAND_IN int cudnnReduceTensor(Handle* handle, const ReduceDescriptor* reduce, void* indices,
                               size_t indices_bytes, void* workspace, size_t workspace_bytes,
                               const void* alpha, const TensorDescriptor* a_descriptor,
                               const void* a, const void* beta,
                               const TensorDescriptor* c_descriptor, void* c) {
  constexpr int kMax = 3, kFlattened = 1, kIndices32 = 0;
  const TensorDescriptor& from = *a_descriptor;
  const TensorDescriptor& to = *c_descriptor;
  if (from.n != to.n || to.c != 1 || to.rest() != 1 || from.rest() != 1 || from.type != to.type ||
      indices_bytes < static_cast<size_t>(to.n) * sizeof(int32_t) ||
      workspace_bytes < static_cast<size_t>(from.n) * 64 || !is_on_device(indices) ||
      !is_on_device(workspace) || !is_on_device(a) || !is_on_device(c)) {
    return kBadParam;
  }
  if (reduce->operation != kMax || reduce->indices != kFlattened ||
      reduce->index_type != kIndices32 || scalar(alpha, from.type) != 1 ||
      scalar(beta, from.type) != 0) {
    return kNotSupported;
  }
  if (!handle->is_ready()) return kExecutionFailed;
  const size_t columns = static_cast<size_t>(from.c);
  for (size_t n = 0; n < static_cast<size_t>(from.n); ++n) {
    size_t best = 0;
    for (size_t i = 1; i < columns; ++i) {
      if (load(a, n * columns + i, from.type) > load(a, n * columns + best, from.type)) best = i;
    }
    static_cast<int32_t*>(indices)[n] = static_cast<int32_t>(best);
    store(c, n, to.type, load(a, n * columns + best, from.type));
  }
  return kSuccess;
}

// ---- cuBLAS -------------------------------------------------------------------------------------

STAND_IN const char* cublasGetStatusString(int status) {
  return status == kSuccess           ? "CUBLAS_STATUS_SUCCESS"
         : status == kInvalidValue    ? "CUBLAS_STATUS_INVALID_VALUE"
         : status == kUnsupportedBlas ? "CUBLAS_STATUS_NOT_SUPPORTED"
                                      : "CUBLAS_STATUS_EXECUTION_FAILED";
}

STAND_IN int cublasCreate_v2(Handle** handle) { return cudnnCreate(handle); }

STAND_IN int cublasDestroy_v2(Handle* handle) { return cudnnDestroy(handle); }

STAND_IN int cublasSetStream_v2(Handle* handle, cudaStream_t stream) {
  return cudnnSetStream(handle, stream);
}

// C = A^T B, column-major, into f32.
STAND_IN int cublasGemmEx(Handle* handle, int trans_a, int trans_b, int m, int n, int k,
                          const void* alpha, const void* a, Blas a_type, int lda, const void* b,
                          Blas b_type, int ldb, const void* beta, void* c, Blas c_type, int ldc,
                          int compute, int) {
  constexpr int kTranspose = 1, kPlain = 0, kCompute32 = 68;
  if (m < 0 || n < 0 || k < 0 || lda < std::max(1, k) || ldb < std::max(1, k) ||
      ldc < std::max(1, m) || !is_on_device(a) || !is_on_device(b) || !is_on_device(c)) {
    return kInvalidValue;
  }
  if (trans_a != kTranspose || trans_b != kPlain || compute != kCompute32 || a_type != b_type ||
      c_type != Blas::kFloat || *static_cast<const float*>(alpha) != 1 ||
      *static_cast<const float*>(beta) != 0) {
    return kUnsupportedBlas;
  }
  if (!handle->is_ready()) return kExecutionFailed;
  const Data type = a_type == Blas::kFloat  ? Data::kFloat
                    : a_type == Blas::kHalf ? Data::kHalf
                                            : Data::kBf16;
  for (int column = 0; column < n; ++column) {
    for (int row = 0; row < m; ++row) {
      double sum = 0;
      for (int i = 0; i < k; ++i) {
        sum +=
            load(a, static_cast<size_t>(row) * static_cast<size_t>(lda) + static_cast<size_t>(i),
                 type) *
            load(b, static_cast<size_t>(column) * static_cast<size_t>(ldb) + static_cast<size_t>(i),
                 type);
      }
      static_cast<float*>(
          c)[static_cast<size_t>(column) * static_cast<size_t>(ldc) + static_cast<size_t>(row)] =
          static_cast<float>(sum);
    }
  }
  return kSuccess;
}
