// SPDX-License-Identifier: Apache-2.0
//
// What kernels do at the shapes of a large model on an H100, counted by running their machine code
// (sass.h) on some of the blocks that the launchers of this tree ask for.
#pragma once

#include <string>
#include <vector>

#include "model.h"

namespace exn::gpu {

struct CountOptions {
  std::string backend;    // the emulator, whose launchers run
  std::string library;    // libexeunt_cuda.so, whose machine code does
  std::string cuobjdump;  // which prints it
  std::string compiler;   // the version that compiled the library
  std::string page;       // what was counted, in Markdown
  bool update = false;    // write the page, instead of comparing it
  bool is_part = false;   // of the ops: the page has more, and is not looked at
};

// Before the first allocation: from now on the emulator's launches come here, and inputs are made
// when a kernel reads them.
void take_launches(const CountOptions& options);

// Runs all blocks, and says what is wrong with the results.
bool check_machine_code(const std::vector<ModelWork>& works);

// False, and it says why, if the page tells something else or a budget is exceeded.
bool count_kernels(const std::vector<ModelWork>& works, const CountOptions& options);

}  // namespace exn::gpu
