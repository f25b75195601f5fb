// SPDX-License-Identifier: Apache-2.0
// norm on the CPU: a row is read twice, the second time from L1. Moments of a few rows are taken
// before the first of them is written: the additions, root and division that end one row then
// overlap the sums of the next.
#include "base/args/norm.h"
#include "normalise.h"

namespace exn::cpu::EXN_ISA {
namespace {

constexpr int64_t kMostTogether = 4;
constexpr int64_t kBytesTogether = int64_t{16} << 10;  // half of L1

template <class T, class U>
void norm_rows(const NormArgs& a, int64_t begin, int64_t end) {
  const int64_t dim = a.input.cols, fit = kBytesTogether / (dim * static_cast<int64_t>(sizeof(T)));
  const int64_t together = fit < 1 ? 1 : fit < kMostTogether ? fit : kMostTogether;
  for (int64_t first = begin; first < end; first += together) {
    const int64_t rows = end - first < together ? end - first : together;
    Moments moments[kMostTogether];
    for (int64_t i = 0; i < rows; ++i)
      moments[i] = moments_of(row_of<T>(a.input, first + i), dim, a.norm, a.eps);
    for (int64_t i = 0; i < rows; ++i) {
      normalise_row(row_of<T>(a.input, first + i), dim, moments[i], a.weight, a.bias,
                    out_row<U>(a.out, first + i));
    }
  }
}

}  // namespace

exn_status norm(const NormArgs& a, Workspace& ws) {
  if (ws.counting()) return EXN_OK;
  ran(EXN_CPU_PATH(ws, "norm"));
  const int64_t rows = a.input.rows, dim = a.input.cols;
  with_float_type(a.input.dtype, [&](auto from) {
    with_float_type(a.out.dtype, [&](auto to) {
      parallel_for(rows, 32768 / dim + 1, [&](int64_t begin, int64_t end) {
        norm_rows<EXN_TYPE_OF(from), EXN_TYPE_OF(to)>(a, begin, end);
      });
    });
  });
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
