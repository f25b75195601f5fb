// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/kv_propagate.cuh>

#include "backend.h"
#include "dispatch.h"
#include "kv.h"
#include "linear.h"

namespace exn::cuda {
namespace {

static_assert(kMostPropagateLayers == EXN_KV_PROPAGATE_MAX_LAYERS, "the ABI's limit");
static_assert(sizeof(PropagateLayers) + 512 < 32764, "the most bytes of parameters of a kernel");

struct PropagateSpace {
  float* x;  // [R, padded D]
  PropagateRow* order;
  PropagateLayer* layers;

  PropagateSpace(const KvPropagateArgs& args, Workspace& workspace) {
    x = workspace.take<float>(args.hidden.rows * padded(args.hidden.cols));
    order = workspace.take<PropagateRow>(args.hidden.rows);
    layers = workspace.take<PropagateLayer>(args.layer_count);
  }
};

PropagateLayer layer_of(const KvLayer& from) {
  PropagateLayer to;
  to.weight[0] = from.k_weight.data;
  to.weight[1] = from.v_weight.data;
  to.weight_stride[0] = from.k_weight.stride;
  to.weight_stride[1] = from.v_weight.stride;
  to.bias[0] = from.k_bias;
  to.bias[1] = from.v_bias;
  to.norm_weight = from.norm_weight;
  to.norm_bias = from.norm_bias;
  to.cache[0] = from.cache.k;
  to.cache[1] = from.cache.v;
  to.at = layout_of(from.cache);
  to.index = from.index;
  return to;
}

void queue_input(const KvPropagateArgs& args, const PropagateSpace& space, cudaStream_t stream) {
  PropagateLayers layers{};
  for (int32_t i = 0; i < args.layer_count; ++i) layers.layer[i] = layer_of(args.layers[i]);
  dispatch_float(args.hidden.dtype, [&](auto tag) {
    using T = type_of<decltype(tag)>;
    PropagateRowsTask<T> task;
    task.prepare.in = static_cast<const T*>(args.hidden.data);
    task.prepare.in_stride = args.hidden.stride;
    task.prepare.out = space.x;
    task.prepare.out_stride = padded(args.hidden.cols);
    task.prepare.rows = args.hidden.rows;
    task.prepare.columns = args.hidden.cols;
    task.prepare.norm = norm_of(args.norm);
    task.prepare.eps = args.norm_eps;
    task.prepare.weight = nullptr;
    task.prepare.bias = nullptr;
    task.prepare.rounding = Rounding::kNone;
    task.exit_layer = args.exit_layer;
    task.position = args.table.data != nullptr ? args.position : nullptr;
    task.positions = args.table.positions;
    task.model_layers = args.model_layers;
    task.last_layer = args.layers[args.layer_count - 1].index;
    task.order = space.order;
    task.layers = space.layers;
    task.layer_count = args.layer_count;
    EXN_LAUNCH((propagate_rows_kernel<T>), static_cast<unsigned>(args.hidden.rows), kTileThreads, 0,
               stream, task, layers);
  });
}

void queue_projection(const KvPropagateArgs& args, const PropagateSpace& space,
                      cudaStream_t stream) {
  const KvCache& cache = args.layers[0].cache;
  PropagateTask task;
  task.layers = space.layers;
  task.layer_count = args.layer_count;
  task.order = space.order;
  task.x = space.x;
  task.x_stride = padded(args.hidden.cols);
  task.rounding = rounding_of(args.hidden.dtype, args.layers[0].k_weight.dtype);
  task.rows = args.hidden.rows;
  task.depth = args.hidden.cols;
  task.sequence = args.sequence;
  task.slot = args.slot;
  task.slot_stride = args.slot_stride;
  task.position = args.position;
  task.table = args.table.data;
  task.pairs = args.table.data != nullptr ? static_cast<int>(args.table.pairs) : 0;
  task.style = args.rope_style == EXN_ROPE_HALF ? RopeStyle::kHalf : RopeStyle::kInterleaved;
  task.heads = static_cast<int>(cache.heads);
  task.dim = static_cast<int>(cache.dim);
  task.cache = storage_of(cache.dtype);
  task.tiles = ceil_div(cache.heads * (cache.dim + cache.dim % 2), kLinearOutputs);
  dispatch_float(args.layers[0].k_weight.dtype, [&](auto tag) {
    using W = type_of<decltype(tag)>;
    dispatch_layer_rows(task.rows, [&](auto rows) {
      constexpr int kRows = decltype(rows)::value;
      using Shape = LinearShape<W, kRows>;
      const dim3 grid = linear_grid(task.rows, kRows, 2 * task.layer_count * task.tiles);
      allow_shared(kv_propagate_kernel<W, kRows>, Shape::kSharedBytes);
      EXN_LAUNCH((kv_propagate_kernel<W, kRows>), grid, Shape::kThreads, Shape::kSharedBytes,
                 stream, task);
    });
  });
}

}  // namespace

exn_status kv_propagate(const KvPropagateArgs& args, Workspace& workspace, exn_stream stream) {
  const exn_status status = check_rows(OpName::kv_propagate, args.hidden.rows);
  if (status != EXN_OK) return status;
  const PropagateSpace space(args, workspace);
  if (workspace.counting()) return EXN_OK;
  return run_on(args.device, OpName::kv_propagate, "kv_propagate_kernel and its input", [&] {
    if (args.hidden.rows == 0) return;
    queue_input(args, space, stream_of(stream));
    queue_projection(args, space, stream_of(stream));
  });
}

}  // namespace exn::cuda
