// SPDX-License-Identifier: Apache-2.0
#include "linear.h"

namespace exn::cuda {
namespace {

template <class W, int ROWS>
void launch(const LinearInput<W>& input, const LinearOutput& output, cudaStream_t stream) {
  using Shape = LinearShape<W, ROWS>;
  const dim3 grid = linear_grid(input.rows, ROWS, ceil_div(output.y_stride, kLinearOutputs));
  allow_shared(linear_kernel<W, ROWS>, Shape::kSharedBytes);
  EXN_LAUNCH((linear_kernel<W, ROWS>), grid, Shape::kThreads, Shape::kSharedBytes, stream, input,
             output);
}

}  // namespace

void queue_prepare(const Matrix& in, float* out, Norm norm, float eps, const float* weight,
                   const float* bias, Rounding rounding, cudaStream_t stream) {
  dispatch_float(in.dtype, [&](auto tag) {
    using T = type_of<decltype(tag)>;
    PrepareTask<T> task;
    task.in = static_cast<const T*>(in.data);
    task.in_stride = in.stride;
    task.out = out;
    task.out_stride = padded(in.cols);
    task.rows = in.rows;
    task.columns = in.cols;
    task.norm = norm;
    task.eps = eps;
    task.weight = weight;
    task.bias = bias;
    task.rounding = rounding;
    EXN_LAUNCH((prepare_rows_kernel<T>), static_cast<unsigned>(in.rows), kTileThreads, 0, stream,
               task);
  });
}

void queue_linear(const Matrix& weight, const float* x, int64_t rows, const LinearOutput& output,
                  cudaStream_t stream) {
  dispatch_float(weight.dtype, [&](auto tag) {
    using W = type_of<decltype(tag)>;
    LinearInput<W> input;
    input.weight = static_cast<const W*>(weight.data);
    input.weight_stride = weight.stride;
    input.x = x;
    input.x_stride = padded(weight.cols);
    input.outputs = weight.rows;
    input.depth = weight.cols;
    input.rows = rows;
    input.list = nullptr;
    input.vocabulary = weight.rows;
    // Fewer sizes than the head has: these layers cost a few percent of it.
    const int64_t block = rows_per_block(rows);
    if (block <= 1) return launch<W, 1>(input, output, stream);
    if (block <= 8) return launch<W, 8>(input, output, stream);
    launch<W, 64>(input, output, stream);
  });
}

exn_status linear(const LinearArgs&, Workspace&, exn_stream) {
  return fail(EXN_UNSUPPORTED, "exn_linear: the CUDA kernel is not built yet");
}

}  // namespace exn::cuda
