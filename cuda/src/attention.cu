// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/attention_merge.cuh>

#include <algorithm>
#include <cstdio>

#include "backend.h"
#include "base/args/attention.h"
#include "dispatch.h"
#include "kv.h"
#include "occupancy.h"
#include "words.h"

namespace exn::cuda {
namespace {

HeadRows head_rows(const Heads& heads) {
  return {heads.data, storage_of(heads.dtype), heads.stride};
}

// Queries that a block takes at most: their rows in f32 fit into 16 KiB.
int64_t most_queries(int64_t dim) { return dim <= 128 ? 32 : dim <= 256 ? 16 : dim <= 512 ? 8 : 4; }

// Queries that a block takes without cutting its warps into groups, as few as one row has.
int64_t queries_of_one_group(int64_t head_block) { return head_block <= 4 ? 4 : 8; }

// Rows share a block where some must be of one sequence: then K and V are read for all of them. In
// a batch of sequences each row has its own. Where no bit may depend on that, a block has no more
// rows than leave its shape as it is for one.
int64_t rows_together(const AttentionArgs& args, int64_t head_block) {
  const int64_t sequences = args.sequence != nullptr ? args.cache.sequences : 1;
  const int64_t of_one = args.query.rows / std::max<int64_t>(sequences, 1);
  const int64_t queries =
      args.batch_invariant ? queries_of_one_group(head_block) : most_queries(args.query.dim);
  return std::max<int64_t>(std::min(of_one, queries / head_block), 1);
}

bool has_vectors(const KvCache& cache) {
  return widest_word({address_of(cache.k), address_of(cache.v),
                      static_cast<uint64_t>(cache.dim * size_of(cache.dtype))}) == kChunkBytes;
}

// The queries of a block and their place in it; what depends on the kernel is left to `Plan`.
AttentionShape shape_of(const AttentionArgs& args) {
  const int64_t group = args.query.heads / args.cache.heads;
  const int64_t chunks = ceil_div(args.cache.dim * size_of(args.cache.dtype), kChunkBytes);
  AttentionShape shape = {};
  shape.head_block = static_cast<int>(std::min(group, most_queries(args.query.dim)));
  shape.head_blocks = static_cast<int>(ceil_div(group, shape.head_block));
  shape.row_block = static_cast<int>(rows_together(args, shape.head_block));
  shape.query_groups = 1 << shift_for(ceil_div(shape.row_block * shape.head_block, 8));
  shape.copy_shift = shift_for(std::min<int64_t>(chunks, kAttentionThreads));
  shape.vectors = has_vectors(args.cache);
  return shape;
}

// What a split of the slots costs beside its tiles, in tiles: filling the pipeline, handing over.
constexpr int64_t kSplitCost = 2;
constexpr int64_t kMostWaves = 4;

// Splits that the `tiles` of slots are cut into for `blocks` blocks, of which the device runs
// `at_once`: as many as fill whole waves, of one wave or a few, whichever is over first.
int64_t splits_for(int64_t blocks, int64_t tiles, int64_t at_once) {
  int64_t best = 1;
  int64_t least = INT64_MAX;
  for (int64_t waves = 1; waves <= kMostWaves; ++waves) {
    const int64_t fit = std::min(waves * at_once / std::max<int64_t>(blocks, 1), tiles);
    const int64_t splits = std::max<int64_t>(fit, 1);
    const int64_t cost =
        ceil_div(blocks * splits, at_once) * (ceil_div(tiles, splits) + kSplitCost);
    if (cost >= least) continue;
    least = cost;
    best = splits;
  }
  // No more than it takes for none to have more tiles.
  return ceil_div(tiles, ceil_div(tiles, best));
}

// How one instance of the kernel does the work.
struct Plan {
  AttentionShape shape = {};
  AttentionLayout layout = {};
  int64_t items = 0;
  bool fits = false;
};

template <class C, int WIDTH, int QUERIES>
Plan plan_for(const AttentionArgs& args) {
  Plan plan;
  plan.shape = shape_of(args);
  AttentionShape& shape = plan.shape;
  if (args.query.dim > kMostSharedBytes) return plan;
  const int dim = static_cast<int>(args.query.dim);
  for (shape.slot_shift = 5; shape.slot_shift >= 0; --shape.slot_shift) {
    plan.layout = attention_layout<C, WIDTH, QUERIES>(dim, shape);
    plan.fits = plan.layout.total <= kMostSharedBytes;
    if (plan.fits) break;
  }
  if (!plan.fits) return plan;
  shape.slices = static_cast<int>(ceil_div(dim, kSlice<WIDTH>));
  const int64_t of_rows = args.cache.heads * shape.head_blocks * shape.slices;
  const int64_t blocks = ceil_div(args.query.rows, shape.row_block) * of_rows;
  const int64_t tiles = std::max<int64_t>(ceil_div(args.cache.slots, plan.layout.tile_slots), 1);
  static Occupancy occupancy;
  const int64_t at_once =
      sm_count(args.device) *
      occupancy.blocks_per_sm(attention_kernel<C, WIDTH, QUERIES>, kAttentionThreads,
                              plan.layout.total, args.device, kAttentionBlocks<WIDTH, QUERIES>);
  shape.splits =
      static_cast<int>(splits_for(args.batch_invariant ? of_rows : blocks, tiles, at_once));
  plan.items = blocks * shape.splits;
  return plan;
}

// The sums in the workspace; none if the blocks hand out results themselves.
struct SplitSums {
  float2* states;
  float* values;
  int pitch;
};

SplitSums take_split_sums(const AttentionArgs& args, const Plan& plan, Workspace& workspace) {
  const int64_t pitch = ceil_div(args.query.dim, 4) * 4;
  const int64_t count =
      plan.shape.splits > 1 ? args.query.rows * args.query.heads * plan.shape.splits : 0;
  float2* const states = workspace.take<float2>(count);
  float* const values = workspace.take<float>(count * pitch);
  return {states, values, static_cast<int>(pitch)};
}

template <class C>
AttentionTask<C> task_of(const AttentionArgs& args, const Plan& plan, const SplitSums& sums) {
  AttentionTask<C> task;
  task.query = head_rows(args.query);
  task.cache = view_of<C>(args.cache);
  task.sequence = args.sequence;
  task.visible = args.visible;
  task.out = head_rows(args.out);
  task.scores = args.scores;
  task.score_slots = args.score_slots;
  task.rows = args.query.rows;
  task.kv_heads = args.cache.heads;
  task.group = static_cast<int>(args.query.heads / args.cache.heads);
  task.dim = static_cast<int>(args.query.dim);
  task.scale = args.scale;
  task.softcap = args.softcap;
  task.states = sums.states;
  task.parts = sums.values;
  task.split_pitch = sums.pitch;
  task.shape = plan.shape;
  task.layout = plan.layout;
  return task;
}

void queue_merge(const AttentionArgs& args, const Plan& plan, const SplitSums& sums,
                 cudaStream_t stream) {
  AttentionMerge merge;
  merge.states = sums.states;
  merge.parts = sums.values;
  merge.split_pitch = sums.pitch;
  merge.splits = plan.shape.splits;
  merge.tile_slots = plan.layout.tile_slots;
  merge.rows = args.query.rows;
  merge.heads = args.query.heads;
  merge.dim = static_cast<int>(args.query.dim);
  merge.at = layout_of(args.cache);
  merge.sequence = args.sequence;
  merge.visible = args.visible;
  merge.out = head_rows(args.out);
  EXN_LAUNCH(attention_merge_kernel, grid_for(merge.rows * merge.heads), kAttentionMergeThreads, 0,
             stream, merge);
}

template <class C, int WIDTH, int QUERIES>
exn_status attend(const AttentionArgs& args, Workspace& workspace, cudaStream_t stream) {
  const Plan plan = plan_for<C, WIDTH, QUERIES>(args);
  if (!plan.fits) {
    char sentence[200];
    std::snprintf(sentence, sizeof sentence,
                  "exn_attention: the CUDA kernel keeps rows of query, k and v in shared memory, "
                  "where they do not fit: dh (head dimension) is %lld",
                  static_cast<long long>(args.query.dim));
    return fail(EXN_UNSUPPORTED, sentence);
  }
  const SplitSums sums = take_split_sums(args, plan, workspace);
  if (workspace.counting()) return EXN_OK;
  return run_on(args, "attention_kernel and attention_merge_kernel", [&] {
    if (args.query.rows == 0) return;
    EXN_LAUNCH((attention_kernel<C, WIDTH, QUERIES>), grid_for(plan.items), kAttentionThreads,
               plan.layout.total, stream, task_of<C>(args, plan, sums), plan.items);
    if (plan.shape.splits > 1) queue_merge(args, plan, sums, stream);
  });
}

template <class C, int WIDTH>
exn_status attend(const AttentionArgs& args, Workspace& workspace, cudaStream_t stream) {
  const AttentionShape shape = shape_of(args);
  if (shape.row_block * shape.head_block <= 4) return attend<C, WIDTH, 4>(args, workspace, stream);
  return attend<C, WIDTH, 8>(args, workspace, stream);
}

}  // namespace

exn_status attention(const AttentionArgs& args, Workspace& workspace, exn_stream stream) {
  exn_status status = EXN_OK;
  dispatch_float(args.cache.dtype, [&](auto tag) {
    using C = type_of<decltype(tag)>;
    const cudaStream_t queue = stream_of(stream);
    if (args.query.dim <= 2 * kWarp) {
      status = attend<C, 2>(args, workspace, queue);
    } else if (args.query.dim <= 4 * kWarp) {
      status = attend<C, 4>(args, workspace, queue);
    } else {
      status = attend<C, 8>(args, workspace, queue);
    }
  });
  return status;
}

}  // namespace exn::cuda
