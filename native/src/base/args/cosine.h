// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/cosine.h>

#include "../args.h"

namespace exn {

struct CosineArgs {
  int32_t device = 0;
  Matrix a;
  Matrix b;
  float* out = nullptr;
};

}  // namespace exn
