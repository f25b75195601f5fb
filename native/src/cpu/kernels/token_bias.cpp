// SPDX-License-Identifier: Apache-2.0
// token_bias on the CPU: a few elements of each row.
#include "../ids.h"
#include "base/args/token_bias.h"
#include "elements.h"

namespace exn::cpu::EXN_ISA {

exn_status token_bias(const TokenBiasArgs& a, Workspace& ws) {
  if (ws.counting()) return EXN_OK;
  const exn_status status =
      check_distinct_ids("exn_token_bias", "ids", a.ids, a.count, a.logits.cols - 1);
  if (status != EXN_OK) return status;
  ran(EXN_CPU_PATH("token_bias"));
  with_float_type(a.logits.dtype, [&](auto type) {
    using T = EXN_TYPE_OF(type);
    for (int64_t row = 0; row < a.logits.rows; ++row) {
      if (a.mask != nullptr && a.mask[row] == 0) continue;
      T* z = static_cast<T*>(a.logits.data) + row * a.logits.stride;
      for (int64_t i = 0; i < a.count; ++i) {
        T* at = z + a.ids[i];
        from_float(at, to_float(*at) * a.scale + a.add);
      }
    }
  });
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
