// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/gate.cuh>

#include "backend.h"
#include "dispatch.h"
#include "linear.h"

namespace exn::cuda {
namespace {

// The features and the hidden layers, from `from` to the returned buffer of the two.
const float* queue_hidden(const GateArgs& args, int32_t repeats, float* from, float* to,
                          cudaStream_t stream) {
  const int64_t d = args.features.cols;
  queue_prepare(args.features, from, Norm::kNone, 0.0f, nullptr, nullptr, Rounding::kNone, stream);
  for (int32_t i = 0; i < repeats; ++i) {
    const int64_t layer =
        args.kind == EXN_GATE_TANH ? i : 0;  // RESIDUAL applies one layer again and again
    const Matrix weight = rows_of(args.hidden_weight, layer * d, d);
    const float* bias = args.hidden_bias != nullptr ? args.hidden_bias + layer * d : nullptr;
    const Activation activation =
        args.kind == EXN_GATE_TANH ? Activation::kTanh : Activation::kResidualSilu;
    queue_linear(weight, from, args.features.rows, {bias, to, padded(d), activation}, stream);
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

// The same where the weight is quantised, with room for the outputs.
void queue_blocks_output(const GateArgs& args, const float* features, float2* outputs,
                         cudaStream_t stream) {
  const int64_t rows = args.features.rows;
  queue_linear(args.out_weight, features, rows, {args.out_bias, outputs, 2, Activation::kNone},
               stream);
  EXN_LAUNCH(gate_probability_kernel, grid_for(ceil_div(rows, kGateThreads)), kGateThreads, 0,
             stream, static_cast<const float2*>(outputs), static_cast<int>(args.out_weight.rows),
             rows, args.prob);
}

}  // namespace

exn_status gate(const GateArgs& args, Workspace& workspace, exn_stream stream) {
  const int32_t repeats = args.kind == EXN_GATE_LINEAR ? 0 : args.repeats;
  const bool blocks = is_quantised(args.out_weight);
  const bool prepares = repeats > 0 || blocks;
  const exn_status status = check_rows(OpName::gate, "features", prepares ? args.features.rows : 0);
  if (status != EXN_OK) return status;
  const int64_t elements = args.features.rows * padded(args.features.cols);
  float* const a = workspace.take<float>(prepares ? elements : 0);
  float* const b = workspace.take<float>(repeats > 0 ? elements : 0);
  float2* const outputs = workspace.take<float2>(blocks ? args.features.rows : 0);
  if (workspace.counting()) return EXN_OK;
  return run_on(args.device, OpName::gate, "the kernels of gate", [&] {
    if (args.features.rows == 0) return;
    const cudaStream_t queue = stream_of(stream);
    Matrix features = args.features;
    if (prepares) {
      const float* const hidden = queue_hidden(args, repeats, a, b, queue);
      if (blocks) return queue_blocks_output(args, hidden, outputs, queue);
      features = {const_cast<float*>(hidden), DType::kF32, features.rows, features.cols,
                  padded(features.cols)};
    }
    queue_output(args, features, queue);
  });
}

}  // namespace exn::cuda
