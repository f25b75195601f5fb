// SPDX-License-Identifier: Apache-2.0
// token_bias on the CPU: a few elements of each row.
#include "../ids.h"
#include "base/args/token_bias.h"
#include "elements.h"

namespace exn::cpu::EXN_ISA {
namespace {

// Elements that change in the time in which another thread wakes up.
constexpr int64_t kPiece = 4096;

}  // namespace

exn_status token_bias(const TokenBiasArgs& a, Workspace& ws) {
  if (ws.counting()) return EXN_OK;
  const exn_status status =
      check_distinct_ids("exn_token_bias", "ids", a.ids, a.count, a.logits.cols - 1);
  if (status != EXN_OK) return status;
  ran(EXN_CPU_PATH(ws, "token_bias"));
  with_float_type(a.logits.dtype, [&](auto type) {
    using T = EXN_TYPE_OF(type);
    parallel_for(a.logits.rows, 1 + kPiece / (a.count + 1), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        if (a.mask != nullptr && a.mask[row] == 0) continue;
        T* z = static_cast<T*>(a.logits.data) + row * a.logits.stride;
        for (int64_t i = 0; i < a.count; ++i) {
          T* at = z + a.ids[i];
          from_float(at, to_float(*at) * a.scale + a.add);
        }
      }
    });
  });
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
