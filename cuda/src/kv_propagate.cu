// SPDX-License-Identifier: Apache-2.0
#include "kv_propagate.h"

#include "backend.h"
#include "dispatch.h"
#include "kv.h"

namespace exn::cuda {
namespace {

static_assert(kMostPropagateLayers == EXN_KV_PROPAGATE_MAX_LAYERS, "the ABI's limit");
static_assert(sizeof(PropagateLayers) + 512 < 32764, "the most bytes of parameters of a kernel");

PropagateLayer layer_of(const KvLayer& from) {
  PropagateLayer to;
  to.weight[0] = from.k_weight.data;
  to.weight[1] = from.v_weight.data;
  to.weight_stride[0] = from.k_weight.stride;
  to.weight_stride[1] = from.v_weight.stride;
  to.format[0] = static_cast<Blocks>(from.k_weight.blocks);
  to.format[1] = static_cast<Blocks>(from.v_weight.blocks);
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

PropagateTask task_of(const KvPropagateArgs& args) {
  const KvCache& cache = args.first.cache;
  PropagateTask task;
  task.layer_count = args.layer_count;
  task.hidden = args.hidden.data;
  task.hidden_stride = args.hidden.stride;
  task.storage = storage_of(args.hidden.dtype);
  task.norm = {norm_of(args.norm), args.norm_eps, nullptr, nullptr};
  task.rounds = rounding_of(args.hidden.dtype, args.first.k_weight.dtype) != Rounding::kNone;
  task.rows = args.hidden.rows;
  task.depth = args.hidden.cols;
  task.exit_layer = args.exit_layer;
  task.sequence = args.sequence;
  task.slot = args.slot;
  task.slot_stride = args.slot_stride;
  task.position = args.position;
  task.table = args.table.data;
  task.positions = args.table.positions;
  task.pairs = args.table.data != nullptr ? static_cast<int>(args.table.pairs) : 0;
  task.style = args.rope_style == EXN_ROPE_HALF ? RopeStyle::kHalf : RopeStyle::kInterleaved;
  task.heads = static_cast<int>(cache.heads);
  task.dim = static_cast<int>(cache.dim);
  task.cache = storage_of(cache.dtype);
  const int64_t outputs = cache.heads * (cache.dim + cache.dim % 2);
  task.tiles = is_quantised(args.first.k_weight) ? 2 * ceil_div(outputs, kBlockTile)
                                                 : ceil_div(2 * outputs, kLinearOutputs);
  return task;
}

void queue(const KvPropagateArgs& args, cudaStream_t stream) {
  const PropagateTask task = task_of(args);
  PropagateLayers layers{};
  for (int32_t i = 0; i < args.layer_count; ++i) layers.layer[i] = layer_of(args.layer(i));
  if (is_quantised(args.first.k_weight)) {
    queue_blocks_propagation(task, layers, stream);
    return;
  }
  dispatch_float(args.first.k_weight.dtype, [&](auto tag) {
    using W = type_of<decltype(tag)>;
    dispatch_layer_rows(task.rows, [&](auto rows) {
      constexpr int kRows = decltype(rows)::value;
      using Shape = LinearShape<W, kRows>;
      const dim3 grid = linear_grid(task.rows, kRows, task.layer_count * task.tiles);
      allow_shared(kv_propagate_kernel<W, kRows>, Shape::kSharedBytes);
      EXN_LAUNCH((kv_propagate_kernel<W, kRows>), grid, Shape::kThreads, Shape::kSharedBytes,
                 stream, task, layers);
    });
  });
}

}  // namespace

exn_status kv_propagate(const KvPropagateArgs& args, Workspace& workspace, exn_stream stream) {
  const exn_status status = check_rows(OpName::kv_propagate, "hidden", args.hidden.rows);
  if (status != EXN_OK) return status;
  if (workspace.counting()) return EXN_OK;
  return run_on(args.device, OpName::kv_propagate,
                "kv_propagate_kernel or kv_propagate_blocks_kernel", [&] {
                  if (args.hidden.rows > 0) queue(args, stream_of(stream));
                });
}

}  // namespace exn::cuda
