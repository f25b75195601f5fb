// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/row_compaction.h>

#include "../args.h"

namespace exn {

struct RowCompactionArgs {
  int32_t device = 0;
  Matrix input;
  Matrix out;
  const int32_t* list = nullptr;
  int64_t listed = 0;  // K
  int32_t direction = 0;
};

}  // namespace exn
