// SPDX-License-Identifier: Apache-2.0
//
// What the launchers of exit_head share.
#pragma once

#include <exeunt/cuda/exit_head.cuh>

#include "linear.h"

namespace exn::cuda {

// Queues exit_head_blocks_kernel.
void queue_blocks_head(exn::Blocks blocks, const LinearInput<uint8_t>& input,
                       const HeadOutput& output, cudaStream_t stream);

}  // namespace exn::cuda
