// SPDX-License-Identifier: Apache-2.0
// ONNX Runtime's own product of f32 matrices, for what it does better: prompts and batches of many
// rows. A session of one node, which runs on the thread that calls it.
#pragma once

#include "ort.h"

namespace exn::ort {

class Gemm {
 public:
  explicit Gemm(const Api& api);
  ~Gemm();
  Gemm(const Gemm&) = delete;
  Gemm& operator=(const Gemm&) = delete;

  // out[m,n] = a[m,k] b[n,k]^T, all dense; from any thread.
  void run(const float* a, const float* b, float* out, int64_t m, int64_t n, int64_t k) const;

 private:
  const Api& api_;
  OrtEnv* env_ = nullptr;
  OrtMemoryInfo* memory_ = nullptr;
  OrtSessionOptions* options_ = nullptr;
  OrtSession* session_ = nullptr;
};

}  // namespace exn::ort
