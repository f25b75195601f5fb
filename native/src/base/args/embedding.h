// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/embedding.h>

#include "../args.h"

namespace exn {

// The rows of out are as many as ids.
struct EmbeddingArgs {
  int32_t device = 0;
  Matrix table;
  const int32_t* ids = nullptr;  // [rows of out]
  Matrix out;
  float scale = 1;
};

}  // namespace exn
