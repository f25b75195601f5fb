// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/args.h"

namespace exn::cpu {

// Rows of f32, f16 or bf16 in panels (exeunt/pack.h).
void pack_panels(const Matrix& weight, char* to);

}  // namespace exn::cpu
