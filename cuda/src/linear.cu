// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/adapter.cuh>

#include "base/args/linear.h"
#include "linear.h"

namespace exn::cuda {
namespace {

template <class W, int ROWS>
void launch(const Product& product, cudaStream_t stream) {
  using Shape = LinearShape<W, ROWS>;
  allow_shared(linear_kernel<W, ROWS>, Shape::kSharedBytes);
  EXN_LAUNCH((linear_kernel<W, ROWS>),
             linear_grid(product.rows, ROWS, product.tiles(), product.splits), Shape::kThreads,
             Shape::kSharedBytes, stream, input_of<W>(product), product.output);
}

// Rows that a product can read where they are.
bool is_input(const Matrix& x, const Matrix& weight) {
  const int64_t depth = is_quantised(weight) ? shape_of(weight.blocks).elements
                                             : kStageRowBytes / size_of(weight.dtype);
  const bool is_read = x.dtype == DType::kF32 ||
                       (!is_quantised(weight) && is_read_raw(x.dtype, weight.dtype, x.rows));
  const int64_t piece = weight.dtype == DType::kBF16 && x.dtype == DType::kBF16 ? 8 : 4;
  return is_read && x.stride % piece == 0 && x.cols % depth == 0 &&
         reinterpret_cast<uintptr_t>(x.data) % static_cast<uintptr_t>(piece * size_of(x.dtype)) ==
             0;
}

// The product of a whole call; a launch takes a few rows of it.
struct LinearSpace {
  Product product;
  float* x;
  float* t;  // of an adapter: [R, rank]

  LinearSpace(const LinearArgs& args, Workspace& workspace) {
    product.weight = args.weight;
    product.rows = args.input.rows < kRowsAtOnce ? args.input.rows : kRowsAtOnce;
    x = workspace.take<float>(product.rows * padded(args.input.cols));
    t = workspace.take<float>(exn::product(args.input.rows, args.adapter_down.rows));
    LinearOutput& output = product.output;
    output.bias = args.bias;
    output.adapter.up = args.adapter_up.data;
    output.adapter.up_stride = args.adapter_up.stride;
    output.adapter.rank = args.adapter_up.rows;
    output.adapter.storage = storage_of(args.adapter_up.dtype);
    output.y_stride = args.out.stride;
    output.activation = Activation::kNone;
    output.storage = storage_of(args.out.dtype);
    output.y_columns = args.weight.rows;
    output.residual_stride = args.residual.stride;
    cut_depth(args.device, product, workspace);
  }
};

void queue_rows(const LinearArgs& args, LinearSpace space, int64_t first, cudaStream_t stream) {
  Product& product = space.product;
  const int64_t left = args.input.rows - first;
  if (left < product.rows) product.rows = left;
  const Matrix input = rows_of(args.input, first, product.rows);
  product.x = space.x;
  product.x_stride = padded(input.cols);
  if (is_input(input, args.weight)) {
    product.x = static_cast<const float*>(input.data);
    product.x_stride = input.stride;
    product.storage = storage_of(input.dtype);
  } else {
    queue_prepare(input, space.x, Norm::kNone, 0.0f, nullptr, nullptr, Rounding::kNone, stream);
  }
  product.output.y = rows_of(args.out, first, product.rows).data;
  product.output.residual = rows_of(args.residual, first, product.rows).data;
  product.output.adapter.t = space.t + first * args.adapter_up.rows;
  queue_product(product, stream);
}

void queue_adapter(const LinearArgs& args, float* t, cudaStream_t stream) {
  constexpr int64_t kMostAtOnce = 1024;  // components
  AdapterTask task;
  task.input = args.input.data;
  task.input_stride = args.input.stride;
  task.input_storage = storage_of(args.input.dtype);
  task.down = args.adapter_down.data;
  task.down_stride = args.adapter_down.stride;
  task.down_storage = storage_of(args.adapter_down.dtype);
  task.scale = static_cast<const float*>(args.adapter_scale.data);
  task.scale_stride = args.adapter_scale.stride;
  task.t = t;
  task.rank = args.adapter_down.rows;
  task.depth = args.input.cols;
  const dim3 grid(static_cast<unsigned>(args.input.rows),
                  static_cast<unsigned>(task.rank < kMostAtOnce ? task.rank : kMostAtOnce));
  EXN_LAUNCH(adapter_kernel, grid, kAdapterThreads, 0, stream, task);
}

void queue_merge(const Product& product, cudaStream_t stream) {
  using W = float;  // what the weights were made of no longer matters
  const int64_t blocks = ceil_div(product.output.y_columns, 4 * kMergeLinearThreads);
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(product.rows));
  EXN_LAUNCH((merge_linear_kernel<W>), grid, kMergeLinearThreads, 0, stream, input_of<W>(product),
             product.output);
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

int depth_splits(int32_t device, const Matrix& weight, int64_t tiles) {
  constexpr int64_t kBlocksPerSm = 2;
  const bool quantised = is_quantised(weight);
  const int64_t stages = quantised ? ceil_div(weight.cols, kBlockDepth)
                                   : ceil_div(weight.cols * size_of(weight.dtype), kStageRowBytes);
  const int64_t wanted = ceil_div(kBlocksPerSm * sm_count(device), tiles > 0 ? tiles : 1);
  // A split of one stage or two is on its way at once; in less there would be nothing to gain.
  // Quantised ones gain even so: each multiprocessor has less to unpack.
  const int64_t most = quantised ? stages : stages / 2 + 1;
  return static_cast<int>(wanted < most ? wanted : most < 1 ? 1 : most);
}

void queue_product(const Product& product, cudaStream_t stream) {
  if (is_quantised(product.weight)) return queue_blocks_product(product, stream);
  Product own = product;
  // More rows take one block longer to add than another launch for all of them does.
  const bool merges = own.output.partials.tickets != nullptr && rows_per_block(own.rows) > 8;
  if (merges) own.output.partials.tickets = nullptr;
  dispatch_float(own.weight.dtype, [&](auto tag) {
    using W = type_of<decltype(tag)>;
    dispatch_layer_rows<W>(own.rows,
                           [&](auto rows) { launch<W, decltype(rows)::value>(own, stream); });
  });
  if (merges) queue_merge(own, stream);
}

Product layer_product(int32_t device, const Matrix& weight, int64_t rows, Activation activation,
                      int64_t y_stride, Workspace& workspace) {
  Product product;
  product.weight = weight;
  product.x_stride = padded(weight.cols);
  product.rows = rows < kRowsAtOnce ? rows : kRowsAtOnce;
  product.output.activation = activation;
  product.output.y_stride = product.output.y_columns = y_stride;
  cut_depth(device, product, workspace);
  return product;
}

void queue_layer(Product product, int64_t rows, cudaStream_t stream) {
  const int64_t at_once = product.rows;
  for (int64_t left = rows; left > 0; left -= at_once) {
    if (left < at_once) product.rows = left;
    queue_product(product, stream);
    product.x += at_once * product.x_stride;
    product.output.y = static_cast<float*>(product.output.y) + at_once * product.output.y_stride;
  }
}

exn_status linear(const LinearArgs& args, Workspace& workspace, exn_stream stream) {
  const LinearSpace space(args, workspace);
  if (workspace.counting()) return EXN_OK;
  const bool adapts = args.adapter_down.data != nullptr && args.input.rows > 0;
  const exn_status status = check_rows(args, "input", adapts ? args.input.rows : 0);
  if (status != EXN_OK) return status;
  return run_on(args, "linear_kernel or linear_blocks_kernel, its input and its merge", [&] {
    if (adapts) queue_adapter(args, space.t, stream_of(stream));
    for (int64_t first = 0; first < args.input.rows; first += kRowsAtOnce) {
      queue_rows(args, space, first, stream_of(stream));
    }
  });
}

}  // namespace exn::cuda
