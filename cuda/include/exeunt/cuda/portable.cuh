// SPDX-License-Identifier: Apache-2.0
//
// The one header every device kernel includes. nvcc sees the CUDA language itself; with EXN_SIMT
// defined, an ordinary host compiler sees the same language through the SIMT emulator, so that the
// unmodified kernel sources can be run and checked on a machine without a GPU.
#pragma once

#if defined(EXN_SIMT)

#include "simt/simt.h"

#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_pipeline_primitives.h>
#include <cuda_runtime.h>

// Declares `unsigned char name[]`, the block's dynamic shared memory, aligned to 16 bytes.
#define EXN_DYN_SMEM(name) extern __shared__ __align__(16) unsigned char name[]

// Launches a kernel. A template kernel goes into parentheses: EXN_LAUNCH((kernel<float, 4>), ...).
#define EXN_LAUNCH(kernel, grid, block, smem, stream, ...) \
  (kernel)<<<(grid), (block), (smem), (stream)>>>(__VA_ARGS__)

#endif
