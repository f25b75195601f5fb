// SPDX-License-Identifier: Apache-2.0
//
// What the launchers of exit_head share.
#pragma once

#include <exeunt/cuda/exit_head.cuh>

#include "base/args/exit_head.h"
#include "linear.h"

namespace exn::cuda {

// Logits that are computed of a row: those of W, or of the list.
inline int64_t head_outputs(const ExitHeadArgs& args) {
  return args.shortlist.data != nullptr ? args.shortlist.size : args.weight.rows;
}

// Tiles that so many are cut into.
inline int64_t head_tiles(const Matrix& weight, int64_t outputs) {
  return ceil_div(outputs, tile_outputs(weight));
}

// All but the memory of the states.
inline HeadOutput head_output(const ExitHeadArgs& args) {
  const int64_t outputs = head_outputs(args);
  HeadOutput output;
  output.bias = args.bias;
  output.options =
      stats_options(args.out, args.normalizer, args.temperature, args.softcap, outputs);
  output.states = nullptr;
  output.tiles = head_tiles(args.weight, outputs);
  return output;
}

// Parts into which the depth is cut: that of a shortlist. (A logit of the whole vocabulary has the
// same bits with a screen and without.)
inline int head_splits(const ExitHeadArgs& args) {
  if (args.shortlist.data == nullptr) return 1;
  return depth_splits(args.device, args.weight, head_tiles(args.weight, head_outputs(args)));
}

// The head's product of `rows` rows of padded(D) from `x` on.
template <class W>
LinearInput<W> head_input(const ExitHeadArgs& args, const float* x, int64_t rows) {
  LinearInput<W> input;
  input.weight = static_cast<const W*>(args.weight.data);
  input.weight_stride = args.weight.stride;
  input.x = x;
  input.x_stride = padded(args.hidden.cols);
  input.outputs = head_outputs(args);
  input.depth = args.hidden.cols;
  input.rows = rows;
  input.list = static_cast<const int32_t*>(args.shortlist.data);
  input.vocabulary = args.weight.rows;
  input.splits = head_splits(args);
  input.is_rounded = rounding_of(args.hidden.dtype, args.weight.dtype) != Rounding::kNone;
  return input;
}

// Queues exit_head_kernel or exit_head_blocks_kernel.
void queue_logits(const ExitHeadArgs& args, const float* x, int64_t rows, const HeadOutput& output,
                  cudaStream_t stream);
// Queues exit_head_blocks_kernel.
void queue_blocks_head(exn::Blocks blocks, const LinearInput<uint8_t>& input,
                       const HeadOutput& output, cudaStream_t stream);

// With a screen: bytes of memory that it takes, and what queues all that follows the input, x
// [R, padded(D)].
int64_t screen_bytes(const ExitHeadArgs& args);
void queue_screened(const ExitHeadArgs& args, void* memory, const float* x, cudaStream_t stream);

}  // namespace exn::cuda
