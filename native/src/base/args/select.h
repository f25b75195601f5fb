// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/select.h>

#include "../args.h"

namespace exn {

struct SelectArgs {
  int32_t device = 0;
  Matrix scores;                   // [rows * heads, N]
  const int32_t* limit = nullptr;  // [rows]
  Selection selection;
  int64_t heads = 1;  // rows of scores that are summed for one of the selection

  EXN_INLINE int64_t rows() const { return scores.rows / heads; }
};

}  // namespace exn
