// SPDX-License-Identifier: Apache-2.0
#include "kv_propagate.h"

#include "backend.h"
#include "base/args/kv_propagate.h"
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

// What a launch does of the rows from 0 on; their number is set for each.
PropagateTask task_of(const KvPropagateArgs& args, Workspace& workspace) {
  const KvCache& cache = args.first.cache;
  const int64_t rows = args.hidden.rows < kRowsAtOnce ? args.hidden.rows : kRowsAtOnce;
  PropagateTask task;
  task.layer_count = args.layer_count;
  task.hidden = args.hidden.data;
  task.hidden_stride = args.hidden.stride;
  task.storage = storage_of(args.hidden.dtype);
  task.norm = {norm_of(args.norm), args.norm_eps, nullptr, nullptr};
  task.rounds = rounding_of(args.hidden.dtype, args.first.k_weight.dtype) != Rounding::kNone;
  task.rows = rows;
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
  const int64_t tiles = task.layer_count * task.tiles;
  task.splits = depth_splits(args.device, args.first.k_weight, tiles);
  task.partials =
      take_partials(task.splits, rows, tiles * tile_outputs(args.first.k_weight), workspace);
  return task;
}

void queue_rows(const KvPropagateArgs& args, const PropagateTask& task,
                const PropagateLayers& layers, cudaStream_t stream) {
  if (is_quantised(args.first.k_weight)) {
    queue_blocks_propagation(task, layers, stream);
    return;
  }
  dispatch_float(args.first.k_weight.dtype, [&](auto tag) {
    using W = type_of<decltype(tag)>;
    // Of more rows on tensor cores a thread has no registers to normalise them.
    constexpr int kMost = kOnTensorCores<W> ? 32 : 64;
    dispatch_layer_rows<W, kMost>(task.rows, [&](auto rows) {
      constexpr int kRows = decltype(rows)::value;
      using Shape = LinearShape<W, kRows>;
      const dim3 grid = linear_grid(task.rows, kRows, task.layer_count * task.tiles, task.splits);
      allow_shared(kv_propagate_kernel<W, kRows>, Shape::kSharedBytes);
      EXN_LAUNCH((kv_propagate_kernel<W, kRows>), grid, Shape::kThreads, Shape::kSharedBytes,
                 stream, task, layers);
    });
  });
}

void queue(const KvPropagateArgs& args, PropagateTask task, cudaStream_t stream) {
  PropagateLayers layers{};
  for (int32_t i = 0; i < args.layer_count; ++i) layers.layer[i] = layer_of(args.layer(i));
  const int64_t at_once = task.rows;
  for (int64_t left = args.hidden.rows; left > 0; left -= at_once) {
    if (left < at_once) task.rows = left;
    queue_rows(args, task, layers, stream);
    task.hidden = static_cast<const char*>(task.hidden) +
                  at_once * task.hidden_stride * size_of(args.hidden.dtype);
    task.exit_layer += at_once;
    task.slot += at_once;
    if (task.sequence != nullptr) task.sequence += at_once;
    if (task.position != nullptr) task.position += at_once;
  }
}

}  // namespace

exn_status kv_propagate(const KvPropagateArgs& args, Workspace& workspace, exn_stream stream) {
  const exn_status status = check_rows(args, "hidden", args.hidden.rows);
  if (status != EXN_OK) return status;
  const PropagateTask task = task_of(args, workspace);
  if (workspace.counting()) return EXN_OK;
  return run_on(args, "kv_propagate_kernel or kv_propagate_blocks_kernel",
                [&] { queue(args, task, stream_of(stream)); });
}

}  // namespace exn::cuda
