// SPDX-License-Identifier: Apache-2.0
//
// Launch geometry of the kernels built on linear_tile, and the layers that exit_head and gate have
// in common.
#pragma once

#include <exeunt/cuda/exit_head.cuh>
#include <exeunt/cuda/linear.cuh>

#include "backend.h"
#include "dispatch.h"

namespace exn::cuda {

// Elements between f32 rows in the workspace.
inline int64_t padded(int64_t columns) {
  return ceil_div(columns, kInputMultiple) * kInputMultiple;
}

// Rows spread evenly over as few blocks of at most 64 as possible: 65 rows are two blocks of 33.
inline int64_t rows_per_block(int64_t rows) { return ceil_div(rows, ceil_div(rows, 64)); }

// Calls f(std::integral_constant<int, ROWS>{}) for the smallest compiled block that holds the rows.
template <class F>
void dispatch_rows(int64_t rows, F&& f) {
  const int64_t block = rows_per_block(rows);
  if (block <= 1) return f(std::integral_constant<int, 1>{});
  if (block <= 2) return f(std::integral_constant<int, 2>{});
  if (block <= 4) return f(std::integral_constant<int, 4>{});
  if (block <= 8) return f(std::integral_constant<int, 8>{});
  if (block <= 16) return f(std::integral_constant<int, 16>{});
  if (block <= 32) return f(std::integral_constant<int, 32>{});
  f(std::integral_constant<int, 64>{});
}

// Grid of a kernel on linear_tile.
inline dim3 linear_grid(int64_t rows, int block_rows, int64_t tiles) {
  const int64_t y = tiles < kLinearGridY ? tiles : kLinearGridY;
  return dim3(static_cast<unsigned>(ceil_div(rows, block_rows)), static_cast<unsigned>(y),
              static_cast<unsigned>(ceil_div(tiles, y)));
}

// Allows a kernel the dynamic shared memory it needs (at most 68 KiB; every supported GPU has 99).
// Queues nothing, so it is legal during capture.
template <class Kernel>
void allow_shared(Kernel kernel, int bytes) {
  if (bytes > 48 * 1024)
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
}

// Queues prepare_rows_kernel.
void queue_prepare(const Matrix& in, float* out, Norm norm, float eps, const float* weight,
                   const float* bias, Rounding rounding, cudaStream_t stream);

// Queues y = f(W x + b) for f32 rows of padded(depth) in the workspace.
void queue_linear(const Matrix& weight, const float* x, int64_t rows, const LinearOutput& output,
                  cudaStream_t stream);

}  // namespace exn::cuda
