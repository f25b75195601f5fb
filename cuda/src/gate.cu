// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/gate.cuh>

#include "backend.h"
#include "dispatch.h"
#include "linear.h"

namespace exn::cuda {
namespace {

// The hidden layers, from `from` to the returned buffer of the two.
const float* queue_hidden(const GateArgs& args, int32_t repeats, float* from, float* to,
                          cudaStream_t stream) {
  const int64_t d = args.features.cols;
  queue_prepare(args.features, from, Norm::kNone, 0.0f, nullptr, nullptr, Rounding::kNone, stream);
  for (int32_t i = 0; i < repeats; ++i) {
    const int64_t layer =
        args.kind == EXN_GATE_TANH ? i : 0;  // RESIDUAL applies one layer again and again
    const int64_t layer_bytes = d * d * size_of(args.hidden_weight.dtype);
    const Matrix weight{static_cast<char*>(args.hidden_weight.data) + layer * layer_bytes,
                        args.hidden_weight.dtype, d, d, d};
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

}  // namespace

exn_status gate(const GateArgs& args, Workspace& workspace, exn_stream stream) {
  const int32_t repeats = args.kind == EXN_GATE_LINEAR ? 0 : args.repeats;
  const exn_status status =
      check_rows(OpName::gate, "features", repeats > 0 ? args.features.rows : 0);
  if (status != EXN_OK) return status;
  const int64_t elements = repeats > 0 ? args.features.rows * padded(args.features.cols) : 0;
  float* const a = workspace.take<float>(elements);
  float* const b = workspace.take<float>(elements);
  if (workspace.counting()) return EXN_OK;
  return run_on(args.device, OpName::gate, "gate_output_kernel and its hidden layers", [&] {
    if (args.features.rows == 0) return;
    Matrix features = args.features;
    if (repeats > 0) {
      const float* hidden = queue_hidden(args, repeats, a, b, stream_of(stream));
      features = {const_cast<float*>(hidden), DType::kF32, features.rows, features.cols,
                  padded(features.cols)};
    }
    queue_output(args, features, stream_of(stream));
  });
}

}  // namespace exn::cuda
