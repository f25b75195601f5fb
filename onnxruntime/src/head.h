// SPDX-License-Identifier: Apache-2.0
// The exit head on the threads of a session: each takes some of the vocabulary, and what they find
// is merged in the order of the vocabulary.
#pragma once

#include <vector>

#include "calls.h"

namespace exn::ort {

struct Head {
  const void* weight = nullptr;  // [rows, columns], or rows of blocks
  int32_t type = 0, blocks = 0;
  int64_t rows = 0, columns = 0, row_bytes = 0;
  const float *bias = nullptr, *norm_weight = nullptr, *norm_bias = nullptr;
  int32_t norm = 0, normalizer = EXN_SOFTMAX;
  float norm_eps = 0, temperature = 1, softcap = 0;
};

struct RowOfHead {
  int32_t argmax;
  float max_logit, lse, p1, p2, entropy;
  bool valid;
};

// For each row of `hidden`, whose last extent is the head's columns, on at most `threads` threads.
std::vector<RowOfHead> run_head(const Api& api, const OrtKernelContext* context, const Head& head,
                                const TensorView& hidden, int64_t threads, Scratch* scratch);

}  // namespace exn::ort
