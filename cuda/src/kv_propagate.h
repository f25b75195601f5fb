// SPDX-License-Identifier: Apache-2.0
//
// What the launchers of kv_propagate share.
#pragma once

#include <exeunt/cuda/kv_propagate.cuh>

#include "linear.h"

namespace exn::cuda {

// Queues kv_propagate_blocks_kernel.
void queue_blocks_propagation(const PropagateTask& task, const PropagateLayers& layers,
                              cudaStream_t stream);

}  // namespace exn::cuda
