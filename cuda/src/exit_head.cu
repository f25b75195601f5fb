// SPDX-License-Identifier: Apache-2.0
#include "exit_head.h"

#include "backend.h"
#include "base/args/exit_head.h"

namespace exn::cuda {
namespace {

// Parts of the depth meet in memory that must not grow with the batch.
int64_t rows_at_once(const ExitHeadArgs& args) {
  const int64_t rows = args.hidden.rows;
  return head_splits(args) > 1 && rows > kRowsAtOnce ? kRowsAtOnce : rows;
}

// x is rounded when hidden states and weights share a 16-bit type, as a framework's own norm would.
struct Space {
  float* x;           // what the head multiplies
  float* translated;  // [R,D], with a translator
  Product translator;
  HeadOutput output;
  char* screen;  // with a screen, which has states of its own

  Space(const ExitHeadArgs& args, Workspace& workspace) : output(head_output(args)) {
    const bool screened = args.screen != nullptr;
    const int64_t elements = args.hidden.rows * padded(args.hidden.cols);
    x = workspace.take<float>(elements);
    translated = workspace.take<float>(args.translator.data != nullptr ? elements : 0);
    if (args.translator.data != nullptr) {
      translator = layer_product(args.device, args.translator, args.hidden.rows, Activation::kNone,
                                 padded(args.hidden.cols), workspace);
      translator.x = x;
      translator.output.bias = args.translator_bias;
      translator.output.y = translated;
    }
    output.states = workspace.take<StatsState>(screened ? 0 : args.hidden.rows * output.tiles);
    output.partials = take_partials(head_splits(args), rows_at_once(args),
                                    output.tiles * tile_outputs(args.weight), workspace);
    screen = workspace.take<char>(screened ? screen_bytes(args) : 0);
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
  queue_layer(space.translator, args.hidden.rows, stream);
  const Matrix translated{space.translated, DType::kF32, args.hidden.rows, args.hidden.cols,
                          padded(args.hidden.cols)};
  queue_prepare(translated, space.x, norm, args.norm_eps, weight, bias,
                rounding_of(args.hidden.dtype, args.weight.dtype), stream);
}

template <int ROWS, class W>
void launch(const LinearInput<W>& input, const HeadOutput& output, cudaStream_t stream) {
  using Shape = LinearShape<W, ROWS>;
  allow_shared(exit_head_kernel<W, ROWS>, Shape::kSharedBytes);
  EXN_LAUNCH((exit_head_kernel<W, ROWS>), linear_grid(input.rows, ROWS, output.tiles, input.splits),
             Shape::kThreads, Shape::kSharedBytes, stream, input, output);
}

void queue_head(const ExitHeadArgs& args, const Space& space, cudaStream_t stream) {
  const HeadOutput& output = space.output;
  const int64_t at_once = rows_at_once(args);
  for (int64_t first = 0; first < args.hidden.rows; first += at_once) {
    const int64_t left = args.hidden.rows - first;
    HeadOutput some = output;
    some.states += first * output.tiles;
    queue_logits(args, space.x + first * padded(args.hidden.cols), left < at_once ? left : at_once,
                 some, stream);
  }
  dispatch_normalizer<float>(args.normalizer, [&](auto normalizer) {
    EXN_LAUNCH((merge_stats_kernel<type_of<decltype(normalizer)>>), grid_for(args.hidden.rows),
               kMergeThreads, 0, stream, static_cast<const StatsState*>(output.states),
               output.tiles, args.hidden.rows, output.options, targets_of(args.out));
  });
}

}  // namespace

void queue_logits(const ExitHeadArgs& args, const float* x, int64_t rows, const HeadOutput& output,
                  cudaStream_t stream) {
  if (is_quantised(args.weight)) {
    queue_blocks_head(args.weight.blocks, head_input<uint8_t>(args, x, rows), output, stream);
    return;
  }
  dispatch_float(args.weight.dtype, [&](auto tag) {
    using W = type_of<decltype(tag)>;
    const auto input = head_input<W>(args, x, rows);
    dispatch_rows<W>(rows,
                     [&](auto count) { launch<decltype(count)::value>(input, output, stream); });
  });
}

exn_status exit_head(const ExitHeadArgs& args, Workspace& workspace, exn_stream stream) {
  const exn_status status = check_rows(args, "hidden", args.hidden.rows);
  if (status != EXN_OK) return status;
  const Space space(args, workspace);
  if (workspace.counting()) return EXN_OK;
  return run_on(args,
                "exit_head_kernel or exit_head_blocks_kernel, its input, its screen and its merge",
                [&] {
                  if (args.hidden.rows == 0) return;
                  queue_input(args, space, stream_of(stream));
                  if (args.screen != nullptr) {
                    queue_screened(args, space.screen, space.x, stream_of(stream));
                  } else {
                    queue_head(args, space, stream_of(stream));
                  }
                });
}

}  // namespace exn::cuda
