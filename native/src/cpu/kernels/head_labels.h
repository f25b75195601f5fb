// SPDX-License-Identifier: Apache-2.0
// Where exit_head finds the logits of labels.
#pragma once

#include "stats.h"

namespace exn::cpu::EXN_ISA {

// The label of a row of hidden: its place among the entries, -1 if it has none, and its logit.
struct Label {
  int64_t place;
  float logit;
};

// The first place of an id in a list, or -1.
static EXN_SIMD int64_t place_of(const int32_t* ids, int64_t n, int32_t id) {
  constexpr int64_t kStep = 64;
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    int32_t found = 0;
    for (int64_t k = 0; k < kStep; ++k) found |= ids[i + k] == id ? 1 : 0;
    if (found != 0) break;
  }
  for (; i < n; ++i) {
    if (ids[i] == id) return i;
  }
  return -1;
}

// Of rows that have the label -1, and of those whose label is not listed, no logit will be found.
static EXN_SIMD void find_labels(const int32_t* ids, const Vector& shortlist, int64_t rows,
                                 Label* labels) {
  parallel_for(rows, 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const auto* const list = static_cast<const int32_t*>(shortlist.data);
      const int32_t id = ids[row];
      labels[row].place = id < 0 || list == nullptr ? id : place_of(list, shortlist.size, id);
      labels[row].logit = id < 0 ? NAN : -INFINITY;
    }
  });
}

}  // namespace exn::cpu::EXN_ISA
