// SPDX-License-Identifier: Apache-2.0
// Copies of rows of matrices.
#pragma once

#include "isa.h"

namespace exn::cpu::EXN_ISA {

// What one thread moves at a time: less does not pay for waking another.
constexpr int64_t kCopyPiece = int64_t{128} << 10;

static EXN_SIMD char* row_bytes(const Matrix& m, int64_t row) {
  return static_cast<char*>(m.data) + row * m.stride * size_of(m.dtype);
}

static EXN_SIMD void copy_row(const Matrix& from, int64_t from_row, const Matrix& to,
                              int64_t to_row) {
  if (from.cols == 0) return;
  std::memcpy(row_bytes(to, to_row), row_bytes(from, from_row),
              static_cast<size_t>(from.cols * size_of(from.dtype)));
}

// Calls f(i) for i in [0, count), each of which copies a row of `bytes` bytes to a place of its
// own.
template <class F>
static EXN_SIMD void for_rows(int64_t count, int64_t bytes, F&& f) {
  parallel_for(count, kCopyPiece / (bytes + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(i);
  });
}

}  // namespace exn::cpu::EXN_ISA
