// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/attention_scores.cuh>

#include <algorithm>
#include <cstdio>

#include "backend.h"
#include "base/args/attention_scores.h"
#include "dispatch.h"
#include "kv.h"
#include "select.h"
#include "words.h"

namespace exn::cuda {
namespace {

// The kernels' headers stand alone, so they spell the ABI's constants themselves.
static_assert(static_cast<int>(HeadSum::kEach) == EXN_HEADS_EACH &&
                  static_cast<int>(HeadSum::kSum) == EXN_HEADS_SUM &&
                  static_cast<int>(HeadSum::kMean) == EXN_HEADS_MEAN &&
                  static_cast<int>(HeadSum::kGroup) == EXN_HEADS_GROUP_SUM,
              "sums over heads");
static_assert(static_cast<int>(Pooling::kNone) == EXN_POOL_NONE &&
                  static_cast<int>(Pooling::kAverage) == EXN_POOL_AVG &&
                  static_cast<int>(Pooling::kMax) == EXN_POOL_MAX,
              "pools");

// Fewer rows of a prompt's window are in a launch where their products would take more than that.
constexpr int64_t kMostProductBytes = 64 * 1024 * 1024;
// Tiles become smaller until there are that many blocks for each SM, or they have so many slots.
// With many queries, which keep the multipliers busy, one block is enough for an SM; and each tile
// reads them all.
constexpr int64_t kLeastBlocksPerSm = 2;
constexpr int kLeastTileSlots = 64;
// With products that are kept.
constexpr int kMostScoreBytes = 68 * 1024;
// Columns of a finishing block: few where each is a sum of many products that were not kept.
constexpr int kManyProducts = 8;
constexpr int kWidePiece = 4 * kScoreThreads;

bool has_vectors(const KvCache& keys) {
  return widest_word({address_of(keys.k), static_cast<uint64_t>(keys.dim * size_of(keys.dtype))}) ==
         kChunkBytes;
}

// Each head of each row, and nothing after it.
bool has_query_vectors(const AttentionScoresArgs& args) {
  const int64_t size = size_of(args.query.dtype);
  return args.query.dim % (kChunkBytes / size_of(args.keys.dtype)) == 0 &&
         widest_word({address_of(args.query.data), static_cast<uint64_t>(args.query.stride * size),
                      static_cast<uint64_t>(args.query.dim * size)}) == kChunkBytes;
}

int64_t group_of(const AttentionScoresArgs& args) { return args.query.heads / args.keys.heads; }
bool has_softmax(const AttentionScoresArgs& args) { return args.kind == EXN_SCORE_SOFTMAX; }
int64_t pitch_of(const AttentionScoresArgs& args) { return ceil_div(args.columns, 8) * 8; }
int64_t score_rows(const AttentionScoresArgs& args) { return args.prompts * args.score_heads; }

// Rows of each prompt's window that one launch takes.
int64_t rows_together(const AttentionScoresArgs& args) {
  const int64_t bytes = args.prompts * args.query.heads * pitch_of(args) * int64_t{sizeof(float)};
  const int64_t fit = kMostProductBytes / std::max<int64_t>(bytes, 1);
  const int64_t counted = INT32_MAX / group_of(args);  // queries of a launch are, in 32 bits
  return std::max<int64_t>(std::min({args.window, int64_t{kMostScoreRows}, fit, counted}), 1);
}

bool is_fused(const AttentionScoresArgs& args) {
  return args.selection.indices != nullptr && args.columns <= kMostFusedColumns;
}
bool selects_apart(const AttentionScoresArgs& args) {
  return args.selection.indices != nullptr && args.columns > kMostFusedColumns;
}
int select_items(const AttentionScoresArgs& args) {
  const int64_t items = std::max<int64_t>(ceil_div(args.columns, kScoreThreads), 1);
  return is_fused(args) ? static_cast<int>(ceil_div(items, kKeyGroup) * kKeyGroup) : 0;
}

// How one instance of the kernel does the work.
struct Plan {
  ScoresShape shape = {};
  ScoresLayout layout = {};
  int64_t rows = 1;
  int64_t launches = 1;
  bool summed = false;
  bool fits = false;
};

// Of a KV head.
template <int QUERIES>
int64_t product_rows(const Plan& plan, int64_t queries) {
  return plan.summed ? ceil_div(queries, QUERIES) : queries;
}

void cut_finish(const AttentionScoresArgs& args, Plan* plan) {
  const int64_t products = plan->rows * (args.query.heads / args.score_heads);
  const bool many = products >= kManyProducts && !plan->shape.keeps;
  plan->shape.piece = many ? kScoreThreads : kWidePiece;
  plan->shape.pieces = std::max<int64_t>(ceil_div(args.columns, plan->shape.piece), 1);
  plan->shape.finish_blocks = score_rows(args) * plan->shape.pieces;
}

// Halves the tiles until they fit and there are enough blocks.
template <class C, int QUERIES>
void cut_tiles(const AttentionScoresArgs& args, Plan* plan) {
  ScoresShape& shape = plan->shape;
  const int64_t slots = has_softmax(args) ? args.keys.slots : args.columns;
  const int64_t heads = args.prompts * args.keys.heads;
  const bool many = shape.queries > QUERIES;
  const int64_t enough = (many ? 1 : kLeastBlocksPerSm) * sm_count(args.device);
  const int most = shape.keeps ? kMostScoreBytes : kMostSharedBytes;
  shape.query_groups = many ? 2 : 1;
  shape.slot_shift = 5;
  plan->fits = false;
  if (args.query.dim > most) return;
  for (;;) {
    plan->layout = scores_layout<C, QUERIES>(static_cast<int>(args.query.dim), shape);
    shape.tiles = std::max<int64_t>(ceil_div(slots, plan->layout.tile_slots), 1);
    const bool is_small = plan->layout.tile_slots <= kLeastTileSlots;
    plan->fits = plan->layout.total <= most;
    if (plan->fits && (is_small || heads * shape.tiles >= enough)) break;
    const bool leaves = shape.query_groups < kMostQueryGroups<QUERIES>;
    if (leaves && shape.queries > shape.query_groups * QUERIES) {
      shape.query_groups *= 2;
    } else if (--shape.slot_shift < 0) {
      break;
    }
  }
  shape.score_blocks = heads * shape.tiles;
}

template <class C, int QUERIES>
Plan plan_for(const AttentionScoresArgs& args) {
  Plan plan;
  ScoresShape& shape = plan.shape;
  plan.rows = rows_together(args);
  plan.launches = ceil_div(args.window, plan.rows);
  const int64_t queries = plan.rows * group_of(args);
  shape.queries = static_cast<int>(queries);
  const int64_t chunks = ceil_div(args.query.dim * size_of(args.keys.dtype), kChunkBytes);
  shape.copy_shift = shift_for(std::min<int64_t>(chunks, kScoreThreads));
  shape.vectors = has_vectors(args.keys);
  shape.query_vectors = has_query_vectors(args);
  shape.select_items = select_items(args);
  plan.summed = !has_softmax(args) && args.reduction != EXN_HEADS_EACH;
  // Products are kept where they are more than K, and a head's blocks can all run at once.
  shape.keeps = has_softmax(args) && queries > QUERIES &&
                queries * kLeastTileSlots * int64_t{sizeof(float)} < kMostScoreBytes;
  if (shape.keeps) {
    cut_tiles<C, QUERIES>(args, &plan);
    shape.keeps = plan.fits && shape.tiles <= kScoreBlocks<QUERIES> * sm_count(args.device);
  }
  if (!shape.keeps) cut_tiles<C, QUERIES>(args, &plan);
  cut_finish(args, &plan);
  return plan;
}

// The pieces of the workspace.
struct Parts {
  unsigned* counters;  // of all launches
  size_t counter_bytes;
  float* products;
  float2* states;
  float2* weights;
  int32_t* kept;
  float* kept_sums;
  float* sums;
  float* scores;
  int32_t* scored;
  SelectTeams teams;
};

int64_t counters_of(const AttentionScoresArgs& args) {
  return 1 + args.prompts * args.keys.heads + 2 * args.prompts + score_rows(args);
}

template <int QUERIES>
Parts take_parts(const AttentionScoresArgs& args, const Plan& plan, Workspace& workspace) {
  const int64_t heads = args.prompts * args.keys.heads;
  const int64_t counters = plan.launches * counters_of(args);
  const int64_t queries = has_softmax(args) ? heads * plan.shape.queries : 0;
  const int64_t scores = score_rows(args) * args.columns;
  const int64_t tiles = plan.shape.keeps ? heads * plan.shape.tiles : 0;
  const int64_t of_head = args.reduction == EXN_HEADS_EACH ? group_of(args) : 1;
  Parts parts;
  parts.counters = workspace.take<unsigned>(counters);
  parts.counter_bytes = static_cast<size_t>(counters) * sizeof(unsigned);
  parts.products = workspace.take<float>(heads * product_rows<QUERIES>(plan, plan.shape.queries) *
                                         pitch_of(args));
  parts.states = workspace.take<float2>(queries * plan.shape.tiles);
  parts.weights = workspace.take<float2>(queries);
  parts.kept = workspace.take<int32_t>(tiles);
  parts.kept_sums = workspace.take<float>(tiles > 0 ? heads * of_head * pitch_of(args) : 0);
  parts.sums = workspace.take<float>(plan.launches > 1 ? scores : 0);
  parts.scores = workspace.take<float>(args.scores == nullptr ? scores : 0);
  parts.scored = workspace.take<int32_t>(selects_apart(args) ? score_rows(args) : 0);
  parts.teams =
      take_teams(selects_apart(args) ? score_rows(args) : 0, args.columns, args.device, workspace);
  return parts;
}

ScoresCounters counters_for(const AttentionScoresArgs& args, const Parts& parts, int64_t launch) {
  ScoresCounters counters;
  counters.drawn = parts.counters + launch * counters_of(args);
  counters.arrived = counters.drawn + 1;
  counters.ready = counters.arrived + args.prompts * args.keys.heads;
  counters.missing = counters.ready + args.prompts;
  counters.finished = counters.missing + args.prompts;
  return counters;
}

template <class C, int QUERIES>
ScoresTask<C> task_of(const AttentionScoresArgs& args, const Plan& plan, const Parts& parts,
                      int64_t launch) {
  ScoresTask<C> task;
  task.query = args.query.data;
  task.query_type = storage_of(args.query.dtype);
  task.query_stride = args.query.stride;
  task.keys = static_cast<const C*>(args.keys.k);
  task.at = layout_of(args.keys);
  task.sequence = args.sequence;
  task.visible = args.visible;
  task.limit = args.limit;
  task.prompts = args.prompts;
  task.window = args.window;
  task.first_row = launch * plan.rows;
  task.rows = static_cast<int>(std::min(plan.rows, args.window - task.first_row));
  task.kv_heads = args.keys.heads;
  task.group = static_cast<int>(group_of(args));
  task.dim = static_cast<int>(args.query.dim);
  task.columns = args.columns;
  task.first = args.first;
  task.scale = args.scale;
  task.softmax = has_softmax(args);
  task.heads = static_cast<HeadSum>(args.reduction);
  task.score_heads = args.score_heads;
  task.pool = static_cast<Pooling>(args.pool);
  task.pool_width = args.pool_width;
  task.starts = launch == 0;
  task.ends = launch == plan.launches - 1;
  task.accumulate = args.accumulate;
  task.products = parts.products;
  task.pitch = pitch_of(args);
  task.summed = plan.summed;
  task.states = parts.states;
  task.weights = parts.weights;
  task.kept = parts.kept;
  task.kept_sums = parts.kept_sums;
  task.sums = parts.sums;
  task.scores = args.scores != nullptr ? args.scores : parts.scores;
  task.scored = selects_apart(args) ? parts.scored : nullptr;
  task.selects = task.ends && is_fused(args);
  task.selection = selection_of(args.selection);
  task.counters = counters_for(args, parts, launch);
  task.shape = plan.shape;
  // The last launch has fewer rows where their number does not divide the window.
  task.shape.queries = task.rows * task.group;
  task.product_rows = static_cast<int>(product_rows<QUERIES>(plan, task.shape.queries));
  task.layout = plan.layout;
  return task;
}

void queue_selection(const AttentionScoresArgs& args, const float* scores, const Parts& parts,
                     cudaStream_t stream) {
  SelectTask<float> task;
  task.scores = scores;
  task.rows = score_rows(args);
  task.heads = 1;
  task.columns = args.columns;
  task.stride = args.columns;
  task.limit = parts.scored;
  task.selection = selection_of(args.selection);
  queue_select(task, parts.teams, stream);
}

exn_status unsupported(const char* why, int64_t value) {
  char sentence[200];
  std::snprintf(sentence, sizeof sentence, "exn_attention_scores: %s is %lld", why,
                static_cast<long long>(value));
  return fail(EXN_UNSUPPORTED, sentence);
}

template <class C, int QUERIES>
exn_status score(const AttentionScoresArgs& args, Workspace& workspace, cudaStream_t stream) {
  const Plan plan = plan_for<C, QUERIES>(args);
  if (!plan.fits) {
    return unsupported("the CUDA kernel keeps rows of query and k in shared memory, where they "
                       "do not fit: dh (head dimension)",
                       args.query.dim);
  }
  const int64_t blocks = plan.shape.score_blocks + plan.shape.finish_blocks;
  if (blocks > kMostBlocks) {
    return unsupported("a CUDA launch has at most 2^31 - 1 blocks; what prompts, heads and "
                       "columns need",
                       blocks);
  }
  const Parts parts = take_parts<QUERIES>(args, plan, workspace);
  if (workspace.counting()) return EXN_OK;
  return run_on(args, "attention_scores_kernel", [&] {
    if (args.prompts == 0) return;
    cudaMemsetAsync(parts.counters, 0, parts.counter_bytes, stream);
    allow_shared(attention_scores_kernel<C, QUERIES>, plan.layout.total);
    for (int64_t launch = 0; launch < plan.launches; ++launch) {
      EXN_LAUNCH((attention_scores_kernel<C, QUERIES>), static_cast<unsigned>(blocks),
                 kScoreThreads, plan.layout.total, stream,
                 task_of<C, QUERIES>(args, plan, parts, launch));
    }
    if (!selects_apart(args)) return;
    queue_selection(args, args.scores != nullptr ? args.scores : parts.scores, parts, stream);
  });
}

}  // namespace

exn_status attention_scores(const AttentionScoresArgs& args, Workspace& workspace,
                            exn_stream stream) {
  exn_status status = EXN_OK;
  dispatch_float(args.keys.dtype, [&](auto tag) {
    using C = type_of<decltype(tag)>;
    const cudaStream_t queue = stream_of(stream);
    if (rows_together(args) * group_of(args) <= 4) {
      status = score<C, 4>(args, workspace, queue);
    } else {
      status = score<C, 8>(args, workspace, queue);
    }
  });
  return status;
}

}  // namespace exn::cuda
