// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/gate.cuh>

#include "backend.h"
#include "base/args/gate.h"
#include "dispatch.h"
#include "linear.h"

namespace exn::cuda {
namespace {

// The features and the hidden layers, from `from` to the returned buffer of the two.
const float* queue_hidden(const GateArgs& args, int32_t repeats, Product layer, float* from,
                          float* to, cudaStream_t stream) {
  const int64_t d = args.features.cols;
  queue_prepare(args.features, from, Norm::kNone, 0.0f, nullptr, nullptr, Rounding::kNone, stream);
  for (int32_t i = 0; i < repeats; ++i) {
    // RESIDUAL applies one layer again and again
    const int64_t first = args.kind == EXN_GATE_TANH ? i * d : 0;
    layer.weight = rows_of(args.hidden_weight, first, d);
    layer.x = from;
    layer.output.bias = args.hidden_bias != nullptr ? args.hidden_bias + first : nullptr;
    layer.output.y = to;
    queue_layer(layer, args.features.rows, stream);
    std::swap(from, to);
  }
  return from;
}

void queue_output(const GateArgs& args, const Matrix& features, cudaStream_t stream) {
  dispatch_float(features.dtype, [&](auto tag) {
    using T = type_of<decltype(tag)>;
    dispatch_float(args.out_weight.dtype, [&](auto weight_tag) {
      using W = type_of<decltype(weight_tag)>;
      GateOutputTask<T, W> task;
      task.features = static_cast<const T*>(features.data);
      task.rows = features.rows;
      task.columns = features.cols;
      task.stride = features.stride;
      task.weight = static_cast<const W*>(args.out_weight.data);
      task.bias = args.out_bias;
      task.outputs = static_cast<int>(args.out_weight.rows);
      task.prob = args.prob;
      EXN_LAUNCH((gate_output_kernel<T, W>), grid_for(ceil_div(task.rows, kGateThreads / kWarp)),
                 kGateThreads, 0, stream, task);
    });
  });
}

// The same where the weight is quantised, with space for the outputs.
void queue_blocks_output(const GateArgs& args, Product layer, const float* features,
                         float2* outputs, cudaStream_t stream) {
  const int64_t rows = args.features.rows;
  layer.x = features;
  layer.output.bias = args.out_bias;
  layer.output.y = outputs;
  queue_layer(layer, rows, stream);
  EXN_LAUNCH(gate_probability_kernel, grid_for(ceil_div(rows, kGateThreads)), kGateThreads, 0,
             stream, static_cast<const float2*>(outputs), static_cast<int>(args.out_weight.rows),
             rows, args.prob);
}

}  // namespace

exn_status gate(const GateArgs& args, Workspace& workspace, exn_stream stream) {
  const int32_t repeats = args.kind == EXN_GATE_LINEAR ? 0 : args.repeats;
  const bool blocks = is_quantised(args.out_weight);
  const bool prepares = repeats > 0 || blocks;
  const exn_status status = check_rows(args, "features", prepares ? args.features.rows : 0);
  if (status != EXN_OK) return status;
  const int64_t elements = args.features.rows * padded(args.features.cols);
  float* const a = workspace.take<float>(prepares ? elements : 0);
  float* const b = workspace.take<float>(repeats > 0 ? elements : 0);
  float2* const outputs = workspace.take<float2>(blocks ? args.features.rows : 0);
  Product hidden, output;
  if (repeats > 0) {
    const Activation activation =
        args.kind == EXN_GATE_TANH ? Activation::kTanh : Activation::kResidualSilu;
    hidden = layer_product(args.device, rows_of(args.hidden_weight, 0, args.features.cols),
                           args.features.rows, activation, padded(args.features.cols), workspace);
  }
  if (blocks) {
    output = layer_product(args.device, args.out_weight, args.features.rows, Activation::kNone, 2,
                           workspace);
  }
  if (workspace.counting()) return EXN_OK;
  return run_on(args, "the kernels of gate", [&] {
    if (args.features.rows == 0) return;
    const cudaStream_t queue = stream_of(stream);
    Matrix features = args.features;
    if (prepares) {
      const float* const made = queue_hidden(args, repeats, hidden, a, b, queue);
      if (blocks) return queue_blocks_output(args, output, made, outputs, queue);
      features = {const_cast<float*>(made), DType::kF32, features.rows, features.cols,
                  padded(features.cols)};
    }
    queue_output(args, features, queue);
  });
}

}  // namespace exn::cuda
