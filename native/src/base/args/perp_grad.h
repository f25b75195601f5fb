// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/perp_grad.h>

#include "../args.h"

namespace exn {

struct PerpGradArgs {
  int32_t device = 0;
  Vector weight;
  Vector grad;
  Vector out;
  int32_t form = 0;
};

}  // namespace exn
