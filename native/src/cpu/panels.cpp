// SPDX-License-Identifier: Apache-2.0
#include "panels.h"

#include "pool.h"

namespace exn::cpu {
namespace {

// `pairs`: halves of the panel go in turn, so that a word of two elements is widened to two vectors.
template <class T>
void pack_as(const Matrix& weight, bool pairs, T* to) {
  constexpr int64_t kHalf = kPanelRows / 2;
  const int64_t panels = (weight.rows + kPanelRows - 1) / kPanelRows;
  parallel_for(panels, 65536 / weight.cols / kPanelRows + 1, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin * kPanelRows; begin < end; ++begin, first += kPanelRows) {
      const int64_t left = weight.rows - first, width = left < kPanelRows ? left : kPanelRows;
      const T* const from = static_cast<const T*>(weight.data) + first * weight.stride;
      T* const panel = to + first * weight.cols;
      for (int64_t r = 0; r < width; ++r) {
        const int64_t place = pairs && width == kPanelRows ? r % kHalf * 2 + r / kHalf : r;
        for (int64_t k = 0; k < weight.cols; ++k) {
          panel[k * width + place] = from[r * weight.stride + k];
        }
      }
    }
  });
}

}  // namespace

void pack_panels(const Matrix& weight, char* to) {
  if (weight.dtype == DType::kF32) {
    pack_as(weight, false, reinterpret_cast<uint32_t*>(to));
  } else {
    pack_as(weight, weight.dtype == DType::kBF16, reinterpret_cast<uint16_t*>(to));
  }
}

}  // namespace exn::cpu
