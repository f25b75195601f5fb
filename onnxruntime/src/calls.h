// SPDX-License-Identifier: Apache-2.0
// Calls of exeunt's C ABI on plain arrays. The library is linked in, so its pool of threads is this
// provider's own and set to one: the session's threads run side by side (`parallel`).
#pragma once

#include <exeunt/exeunt.h>

#include <memory>
#include <mutex>
#include <vector>

#include "ort.h"

namespace exn::ort {

inline void check(exn_status status) {
  if (status != EXN_OK) throw Failure(kEpFail, std::string("exeunt: ") + exn_last_error());
}

// A tensor of up to three axes, dense but for the distance of its rows.
class Tensor {
 public:
  Tensor() = default;
  Tensor(void* data, int32_t type, std::initializer_list<int64_t> shape, int64_t row_stride = 0) {
    for (const int64_t extent : shape) shape_[tensor_.ndim++] = extent;
    tensor_.data = data;
    tensor_.device = {kDLCPU, 0};
    tensor_.dtype = dtype(type);
    if (row_stride > 0) {
      strides_[tensor_.ndim - 1] = 1;
      for (int i = tensor_.ndim - 2; i > 0; --i) strides_[i] = strides_[i + 1] * shape_[i + 1];
      strides_[0] = row_stride;
      strided_ = true;
    }
  }
  // What a params struct takes; valid while this tensor stays where it is.
  const DLTensor* get() {
    if (tensor_.ndim == 0) return nullptr;
    tensor_.shape = shape_;
    tensor_.strides = strided_ ? strides_ : nullptr;
    return &tensor_;
  }

  static DLDataType dtype(int32_t type) {
    switch (type) {
      case kFloat:
        return {kDLFloat, 32, 1};
      case kFloat16:
        return {kDLFloat, 16, 1};
      case kBfloat16:
        return {kDLBfloat, 16, 1};
      case kInt32:
        return {kDLInt, 32, 1};
      default:
        return {kDLUInt, 8, 1};
    }
  }

 private:
  DLTensor tensor_ = {};
  int64_t shape_[3] = {}, strides_[3] = {};
  bool strided_ = false;
};

inline int64_t bytes_of(int32_t type) {
  switch (type) {
    case kUint8:
    case kInt8:
    case kBool:
      return 1;
    case kFloat:
    case kInt32:
    case kUint32:
      return 4;
    case kInt64:
    case kUint64:
    case kDouble:
      return 8;
    default:
      return 2;
  }
}

// Memory of exn_alloc: huge pages where it is large.
class Memory {
 public:
  Memory() = default;
  explicit Memory(size_t bytes) { check(exn_alloc(kDLCPU, 0, bytes, &data_)); }
  Memory(Memory&& other) noexcept : data_(other.data_) { other.data_ = nullptr; }
  Memory& operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    return *this;
  }
  ~Memory() { exn_free(kDLCPU, 0, data_); }
  void* data() const { return data_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
};

// Scratch memory of runs: each takes a block for itself, and once there are as many as runs at the
// same time, and large enough, nothing is allocated any more.
class Scratch {
 public:
  class Block {
   public:
    Block(Scratch& from, size_t bytes) : from_(from) {
      {
        const std::lock_guard<std::mutex> lock(from.mutex_);
        if (!from.free_.empty()) {
          memory_ = std::move(from.free_.back().first);
          bytes_ = from.free_.back().second;
          from.free_.pop_back();
        }
      }
      if (bytes_ < bytes) {
        memory_ = Memory();
        memory_ = Memory(bytes);
        bytes_ = bytes;
      }
      end_ = bytes;
    }
    ~Block() {
      try {
        const std::lock_guard<std::mutex> lock(from_.mutex_);
        from_.free_.emplace_back(std::move(memory_), bytes_);
      } catch (const std::bad_alloc&) {  // then it is freed
      }
    }
    // The next part of it, at a multiple of 64. More than was asked for is a fault of the caller's.
    void* take(size_t bytes) {
      if (bytes > 0 && (at_ > end_ || bytes > end_ - at_)) {
        throw Failure(kEpFail, "exeunt: scratch memory of " + std::to_string(end_) +
                                   " bytes, of which " + std::to_string(at_) +
                                   " are taken, lacks " + std::to_string(bytes));
      }
      void* part = memory_.as<char>() + at_;
      at_ += (bytes + 63) / 64 * 64;
      return part;
    }

   private:
    Scratch& from_;
    Memory memory_;
    size_t bytes_ = 0, at_ = 0, end_ = 0;
  };

 private:
  std::mutex mutex_;
  std::vector<std::pair<Memory, size_t>> free_;
};

// A norm of each row, or a change of type.
inline void normalise(int32_t kind, float eps, const float* weight, const float* bias,
                      const void* in, int32_t in_type, void* out, int32_t out_type, int64_t rows,
                      int64_t cols, int64_t out_stride = 0) {
  Tensor x(const_cast<void*>(in), in_type, {rows, cols});
  Tensor y(out, out_type, {rows, cols}, out_stride);
  Tensor w(const_cast<float*>(weight), kFloat, {cols}), b(const_cast<float*>(bias), kFloat, {cols});
  exn_norm_params params = {};
  params.struct_size = sizeof params;
  params.input = x.get();
  params.weight = weight ? w.get() : nullptr;
  params.bias = bias ? b.get() : nullptr;
  params.out = y.get();
  params.norm = kind;
  params.eps = eps;
  check(exn_norm(&params, nullptr, 0, nullptr));  // it takes no workspace
}

// The elements of `in` in another type.
inline void convert(const TensorView& in, void* out, int32_t type) {
  if (in.count() == 0) return;
  normalise(EXN_NORM_NONE, 0, nullptr, nullptr, in.data, in.type, out, type, 1, in.count());
}

// The same on the threads of a session.
inline void convert(const Api& api, const OrtKernelContext* context, const TensorView& in,
                    void* out, int32_t type) {
  const int64_t count = in.count(), step = kWorthAThread;
  parallel(api, context, (count + step - 1) / step, [&](int64_t i) {
    const int64_t begin = i * step, n = std::min(count - begin, step);
    convert({in.as<char>() + begin * bytes_of(in.type), in.type, {n}},
            static_cast<char*>(out) + begin * bytes_of(type), type);
  });
}

inline const float* or_null(const std::vector<float>& list) {
  return list.empty() ? nullptr : list.data();
}

inline size_t rounded(size_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace exn::ort
