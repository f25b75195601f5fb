// SPDX-License-Identifier: Apache-2.0
#include "exit_head.h"

#include "backend.h"

namespace exn::cuda {
namespace {

// x is rounded when hidden states and weights share a 16-bit type, as a framework's own norm would.
struct Space {
  int64_t outputs;
  float* x;           // what the head multiplies
  float* translated;  // [R,D], with a translator
  StatsState* states;
  int64_t tiles;

  Space(const ExitHeadArgs& args, Workspace& workspace) {
    outputs = args.shortlist.data != nullptr ? args.shortlist.size : args.weight.rows;
    const int64_t elements = args.hidden.rows * padded(args.hidden.cols);
    tiles = ceil_div(outputs, is_quantised(args.weight) ? kBlockTile : kLinearOutputs);
    x = workspace.take<float>(elements);
    translated = workspace.take<float>(args.translator.data != nullptr ? elements : 0);
    states = workspace.take<StatsState>(args.hidden.rows * tiles);
  }
};

// hidden -> [translator] -> [norm] -> x
void queue_input(const ExitHeadArgs& args, const Space& space, cudaStream_t stream) {
  const Norm norm = norm_of(args.norm);
  const float* weight = norm == Norm::kNone ? nullptr : args.norm_weight;
  const float* bias = norm == Norm::kLayer ? args.norm_bias : nullptr;
  if (args.translator.data == nullptr) {
    queue_prepare(args.hidden, space.x, norm, args.norm_eps, weight, bias,
                  rounding_of(args.hidden.dtype, args.weight.dtype), stream);
    return;
  }
  queue_prepare(args.hidden, space.x,
                args.translate == EXN_TRANSLATE_RMS ? Norm::kRms : Norm::kNone, args.norm_eps,
                nullptr, nullptr, Rounding::kNone, stream);
  const int64_t stride = padded(args.hidden.cols);
  queue_linear(args.translator, space.x, args.hidden.rows,
               {args.translator_bias, space.translated, stride, Activation::kNone}, stream);
  const Matrix translated{space.translated, DType::kF32, args.hidden.rows, args.hidden.cols,
                          stride};
  queue_prepare(translated, space.x, norm, args.norm_eps, weight, bias,
                rounding_of(args.hidden.dtype, args.weight.dtype), stream);
}

// Of the head's product.
template <class W>
LinearInput<W> input_of(const ExitHeadArgs& args, const Space& space) {
  LinearInput<W> input;
  input.weight = static_cast<const W*>(args.weight.data);
  input.weight_stride = args.weight.stride;
  input.x = space.x;
  input.x_stride = padded(args.hidden.cols);
  input.outputs = space.outputs;
  input.depth = args.hidden.cols;
  input.rows = args.hidden.rows;
  input.list = static_cast<const int32_t*>(args.shortlist.data);
  input.vocabulary = args.weight.rows;
  return input;
}

template <int ROWS, class W>
void launch(const LinearInput<W>& input, const HeadOutput& output, cudaStream_t stream) {
  using Shape = LinearShape<W, ROWS>;
  allow_shared(exit_head_kernel<W, ROWS>, Shape::kSharedBytes);
  EXN_LAUNCH((exit_head_kernel<W, ROWS>), linear_grid(input.rows, ROWS, output.tiles),
             Shape::kThreads, Shape::kSharedBytes, stream, input, output);
}

void queue_head(const ExitHeadArgs& args, const Space& space, cudaStream_t stream) {
  HeadOutput output;
  output.bias = args.bias;
  output.options =
      stats_options(args.out, args.normalizer, args.temperature, args.softcap, space.outputs);
  output.states = space.states;
  output.tiles = space.tiles;
  if (is_quantised(args.weight)) {
    queue_blocks_head(args.weight.blocks, input_of<uint8_t>(args, space), output, stream);
  } else {
    dispatch_float(args.weight.dtype, [&](auto tag) {
      const auto input = input_of<type_of<decltype(tag)>>(args, space);
      dispatch_rows(input.rows,
                    [&](auto rows) { launch<decltype(rows)::value>(input, output, stream); });
    });
  }
  dispatch_normalizer<float>(args.normalizer, [&](auto normalizer) {
    EXN_LAUNCH((merge_stats_kernel<type_of<decltype(normalizer)>>), grid_for(args.hidden.rows),
               kMergeThreads, 0, stream, static_cast<const StatsState*>(space.states), space.tiles,
               args.hidden.rows, output.options, targets_of(args.out));
  });
}

}  // namespace

exn_status exit_head(const ExitHeadArgs& args, Workspace& workspace, exn_stream stream) {
  const exn_status status = check_rows(OpName::exit_head, "hidden", args.hidden.rows);
  if (status != EXN_OK) return status;
  if (args.screen != nullptr)
    return fail(EXN_UNSUPPORTED, "exn_exit_head: screen is given, for which CUDA has no kernel");
  const Space space(args, workspace);
  if (workspace.counting()) return EXN_OK;
  return run_on(args.device, OpName::exit_head,
                "exit_head_kernel or exit_head_blocks_kernel, its input and its merge", [&] {
                  if (args.hidden.rows == 0) return;
                  queue_input(args, space, stream_of(stream));
                  queue_head(args, space, stream_of(stream));
                });
}

}  // namespace exn::cuda
