// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/screen.h"
#include "kernels.h"

namespace exn::cpu {

// Makes an image (exeunt/screen.h) with the kernels of an instruction set.
exn_status make_screen(const ScreenArgs& args, const Kernels& kernels);

}  // namespace exn::cpu
