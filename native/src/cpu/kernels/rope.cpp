// SPDX-License-Identifier: Apache-2.0
// rope and its table on the CPU.
#include <cmath>
#include <cstring>

#include "../ids.h"
#include "rotation.h"

namespace exn::cpu::EXN_ISA {

exn_status rope_table(const RopeTableArgs& a, Workspace& ws) {
  double* frequency = ws.take<double>(a.pairs);
  if (ws.counting()) return EXN_OK;
  ran(EXN_CPU_PATH("rope_table"));
  const double n = 2 * static_cast<double>(a.pairs);
  for (int64_t i = 0; i < a.pairs; ++i) {
    frequency[i] = ::pow(a.base, -2 * static_cast<double>(i) / n);
  }
  parallel_for(a.positions, 1024 / a.pairs + 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const double position = static_cast<double>(t) / a.divisor;
      float* entry = a.table + t * a.pairs * 2;
      for (int64_t i = 0; i < a.pairs; ++i) {
        const double angle = position * frequency[i];
        entry[2 * i] = static_cast<float>(::cos(angle));
        entry[2 * i + 1] = static_cast<float>(::sin(angle));
      }
    }
  });
  return EXN_OK;
}

namespace {

template <class T>
void rope_row(const RopeArgs& a, int64_t row) {
  const int64_t pairs = a.table.pairs, dim = a.input.dim;
  const T* x = static_cast<const T*>(a.input.data) + row * a.input.stride;
  T* to = static_cast<T*>(a.out.data) + row * a.out.stride;
  const bool half = a.style == EXN_ROPE_HALF;
  Rotation rotation;
  for (int64_t first = 0; first < pairs; first += kRotationPairs) {
    const int64_t count = pairs - first < kRotationPairs ? pairs - first : kRotationPairs;
    load_rotation(a.table, a.position[row], first, count, a.style, &rotation);
    for (int64_t h = 0; h < a.input.heads; ++h) {
      const int64_t at = h * dim + (half ? first : 2 * first);
      rotate(rotation, x + at, pairs, to + at);
    }
  }
  if (x == to || dim == 2 * pairs) return;
  const size_t rest = static_cast<size_t>(dim - 2 * pairs) * sizeof(T);
  for (int64_t h = 0; h < a.input.heads; ++h) {
    std::memcpy(to + h * dim + 2 * pairs, x + h * dim + 2 * pairs, rest);
  }
}

}  // namespace

exn_status rope(const RopeArgs& a, Workspace& ws) {
  if (ws.counting()) return EXN_OK;
  const int64_t rows = a.input.rows, width = a.input.heads * a.input.dim;
  const exn_status status =
      check_ids("exn_rope", "position", a.position, rows, 0, a.table.positions - 1);
  if (status != EXN_OK) return status;
  ran(EXN_CPU_PATH("rope"));
  with_float_type(a.input.dtype, [&](auto type) {
    parallel_for(rows, 32768 / (width + 1) + 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) rope_row<EXN_TYPE_OF(type)>(a, row);
    });
  });
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
