// SPDX-License-Identifier: Apache-2.0
#include "exit_head.h"

#include "backend.h"
#include "base/args/exit_head.h"

namespace exn::cuda {
namespace {

// All rows with a screen. Without one whole blocks of rows, so that the workspace does not grow with
// the batch beyond some 32 MB, unless one block takes more.
int64_t rows_at_once(const ExitHeadArgs& args) {
  constexpr int64_t kMost = int64_t{32} << 20, kBlock = 64;
  const int64_t rows = args.hidden.rows;
  if (args.screen != nullptr) return rows;
  const int64_t of_x = product(padded(args.hidden.cols), int64_t{2 * sizeof(float)});
  const int64_t of_tiles = head_tiles(args.weight, head_outputs(args)) *
                           static_cast<int64_t>(sizeof(StatsState) + sizeof(float) + sizeof(Draw));
  const int64_t fit = of_x < kMost && of_tiles < kMost ? kMost / (of_x + of_tiles) : 0;
  int64_t most = fit < kBlock ? kBlock : fit / kBlock * kBlock;
  if (head_splits(args) > 1 && most > kRowsAtOnce) most = kRowsAtOnce;
  return rows < most ? rows : most;
}

// x is rounded when hidden states and weights share a 16-bit type, as a framework's own norm would.
struct Space {
  int64_t rows;       // that go through it at once
  float* x;           // what the head multiplies
  float* translated;  // [rows, D], with a translator
  Product translator;
  HeadOutput output;
  char* screen;  // with a screen, which has states of its own

  Space(const ExitHeadArgs& args, Workspace& workspace) : output(head_output(args)) {
    const bool screened = args.screen != nullptr;
    rows = rows_at_once(args);
    const int64_t elements = rows * padded(args.hidden.cols);
    x = workspace.take<float>(elements);
    translated = workspace.take<float>(args.translator.data != nullptr ? elements : 0);
    if (args.translator.data != nullptr) {
      translator = layer_product(args.device, args.translator, rows, Activation::kNone,
                                 padded(args.hidden.cols), workspace);
      translator.x = x;
      translator.output.bias = args.translator_bias;
      translator.output.y = translated;
    }
    output.states = workspace.take<StatsState>(screened ? 0 : rows * output.tiles);
    if (args.out.labels != nullptr) {
      output.label_logits = workspace.take<float>(rows * output.tiles);
    }
    if (args.out.draw != nullptr) output.draws = workspace.take<Draw>(rows * output.tiles);
    output.partials =
        take_partials(head_splits(args), rows, output.tiles * tile_outputs(args.weight), workspace);
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

// The rows of `args`, which are `first` and those that follow in the outputs.
void queue_head(const ExitHeadArgs& args, int64_t first, const Space& space, cudaStream_t stream) {
  HeadOutput output = space.output;
  const int64_t rows = args.hidden.rows;
  if (args.out.labels != nullptr) output.labels = args.out.labels + first;
  if (args.out.draw != nullptr) {
    const DrawInputs all = draw_inputs(args.out);
    output.draw_inputs = {all.key + first, all.counter + first,
                          all.temperature != nullptr ? all.temperature + first : nullptr};
  }
  queue_logits(args, space.x, rows, output, stream);
  dispatch_normalizer<float>(args.normalizer, [&](auto normalizer) {
    EXN_LAUNCH((merge_stats_kernel<type_of<decltype(normalizer)>, TileLabels>), grid_for(rows),
               kMergeThreads, 0, stream,
               TileStates{output.states, output.draws, output.tiles, rows, first},
               TileLabels{output.label_logits}, output.options,
               targets_of(args.out, args.weight.rows));
  });
}

void queue_rows(const ExitHeadArgs& args, int64_t first, const Space& space, cudaStream_t stream) {
  queue_input(args, space, stream);
  if (args.screen != nullptr) {
    queue_screened(args, space.screen, space.x, stream);
  } else {
    queue_head(args, first, space, stream);
  }
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
  return run_on(
      args, "exit_head_kernel or exit_head_blocks_kernel, its input, its screen and its merge",
      [&] {
        ExitHeadArgs some = args;
        for (int64_t first = 0; first < args.hidden.rows; first += space.rows) {
          const int64_t left = args.hidden.rows - first;
          some.hidden = rows_of(args.hidden, first, left < space.rows ? left : space.rows);
          queue_rows(some, first, space, stream_of(stream));
        }
      });
}

}  // namespace exn::cuda
