// SPDX-License-Identifier: Apache-2.0
// Products of a whole matrix that lies in memory as it is, for exit_head's translator and gate.
#pragma once

#include "products.h"

namespace exn::cpu::EXN_ISA {

// out[x * out_stride + w] = <row w of weight, input row x> for inputs [0, inputs). `chunk`: rows that
// are worth a thread.
template <class T>
static EXN_SIMD void matrix_products(const Matrix& weight, const Inputs& in, int64_t inputs,
                                     int64_t chunk, float* out, int64_t out_stride,
                                     ProductScratch* own) {
  constexpr int64_t kMost = WeightRows<T>::kMost;
  const auto run = [&](int64_t begin, int64_t end, ProductScratch& scratch) {
    for (int64_t first = begin; first < end; first += kMost) {
      const int64_t size = end - first < kMost ? end - first : kMost;
      const T* const at = row_of<T>(weight, first);
      const WeightRows<T> rows(size, 0,
                               [at, pitch = weight.stride](int64_t w) { return at + w * pitch; });
      row_products(rows, in, inputs, weight.cols, out + first, out_stride, scratch);
    }
  };
  parallel_for(weight.rows, chunk, own, run);
}

}  // namespace exn::cpu::EXN_ISA
