// SPDX-License-Identifier: Apache-2.0
// norm on the CPU: a row is read twice, the second time from L1.
#include "normalise.h"

namespace exn::cpu::EXN_ISA {

exn_status norm(const NormArgs& a, Workspace& ws) {
  if (ws.counting()) return EXN_OK;
  ran(EXN_CPU_PATH("norm"));
  const int64_t rows = a.input.rows, dim = a.input.cols;
  with_float_type(a.input.dtype, [&](auto from) {
    with_float_type(a.out.dtype, [&](auto to) {
      using T = EXN_TYPE_OF(from);
      using U = EXN_TYPE_OF(to);
      parallel_for(rows, 32768 / dim + 1, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          const T* x = row_of<T>(a.input, row);
          normalise_row(x, dim, moments_of(x, dim, a.norm, a.eps), a.weight, a.bias,
                        out_row<U>(a.out, row));
        }
      });
    });
  });
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
