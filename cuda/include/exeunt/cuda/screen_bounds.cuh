// SPDX-License-Identifier: Apache-2.0
//
// Logits and their bounds by a screen: a row of hidden in the screen's directions, then all rows of
// the vocabulary.
#pragma once

#include "screen_image.cuh"

namespace exn::cuda {

// ---- a row of hidden in the screen's directions -------------------------------------------------

constexpr int kRotateThreads = 128;
constexpr int kRotateColumns = kRotateThreads / kWarp;  // of y, one for each warp

// Four neighbouring elements of a row of D; zeros from D on.
__device__ __forceinline__ float4 four_of(const float* row, int64_t at, int64_t dim) {
  if (dim % 4 == 0) {
    const uint4 raw = *reinterpret_cast<const uint4*>(row + at);
    return make_float4(__uint_as_float(raw.x), __uint_as_float(raw.y), __uint_as_float(raw.z),
                       __uint_as_float(raw.w));
  }
  return make_float4(row[at], at + 1 < dim ? row[at + 1] : 0.0f, at + 2 < dim ? row[at + 2] : 0.0f,
                     at + 3 < dim ? row[at + 3] : 0.0f);
}

// Bytes: 4 D^2 of P once, x and m from the L2 cache. A lane adds up every 32nd four of products,
// the lanes are added in pairs. Grid: blocks of 4 columns of y, whose padding becomes 0.
__global__ __launch_bounds__(kRotateThreads) void screen_rotate_kernel(ScreenTask task) {
  __shared__ ScreenView view;
  if (threadIdx.x == 0) {
    const auto& header = *reinterpret_cast<const ScreenHeader*>(task.image);
    view.sound = is_sound(header, task) && find_arrays(header, task, view) ? 1 : 0;
    if (blockIdx.x == 0) *task.view = view;
  }
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kRotateColumns + threadIdx.x / kWarp;
  float sums[kScreenRows] = {};
  if (view.sound != 0 && column < task.dim) {
    const float* const direction = view.rotation + column * task.dim;
    for (int64_t at = lane * 4; at < task.dim; at += kWarp * 4) {
      const float4 p = four_of(direction, at, task.dim), m = four_of(view.mean, at, task.dim);
#pragma unroll
      for (int r = 0; r < kScreenRows; ++r) {
        if (r >= task.rows) break;
        const float4 x = *reinterpret_cast<const float4*>(task.x + r * task.x_stride + at);
        sums[r] = fmaf(p.x, x.x - m.x, sums[r]);
        sums[r] = fmaf(p.y, x.y - m.y, sums[r]);
        sums[r] = fmaf(p.z, x.z - m.z, sums[r]);
        sums[r] = fmaf(p.w, x.w - m.w, sums[r]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kScreenRows; ++r) {
    const float sum = warp_reduce<Sum>(sums[r]);
    if (lane == 0 && r < task.rows) task.y[r * task.x_stride + column] = sum;
  }
}

constexpr int kScreenRowThreads = 128;
// Magnitudes below which no sum of a head overflows; what lies above is left to the full head.
constexpr double kScreenMost = 0x1p96;

// Sums of squares: of y~ / s by groups, then of x, of x - m, of m and of y~.
constexpr int kSumOfX = kScreenGroups, kSumOfD = kSumOfX + 1, kSumOfM = kSumOfX + 2,
              kSumOfY = kSumOfX + 3, kScreenSums = kScreenGroups + 4;

// Rounds y of row r to y~, as it meets the stored rows. A thread's share of the squares of what that
// moves, and of x~ - x, where the head is made of blocks.
__device__ __forceinline__ void round_screen_row(const ScreenTask& task, int r,
                                                 double (&moved)[2]) {
  const auto rounded = [](float v) {
    return rounded_input(v, input_scale(warp_reduce<Max>(larger_bits(0, v))));
  };
  const auto square = [](float a, float b) {
    const double e = static_cast<double>(a) - static_cast<double>(b);
    return e * e;
  };
  const float* const x = task.x + r * task.x_stride;
  float* const y = task.y + r * task.x_stride;
  for (int64_t i = threadIdx.x; i < task.x_stride; i += kScreenRowThreads) {
    const float before = y[i], after = rounded(before);
    moved[0] += square(after, before);
    y[i] = after;
    if (task.has_blocks) moved[1] += square(rounded(x[i]), x[i]);
  }
}

// Adds a thread's share of those of row r.
__device__ __forceinline__ void add_squares(const ScreenTask& task, const ScreenView& view, int r,
                                            double (&sums)[kScreenSums]) {
  const float* const x = task.x + r * task.x_stride;
  const float* const y = task.y + r * task.x_stride;
  for (int64_t i = threadIdx.x; i < task.dim; i += kScreenRowThreads) {
    const double m = static_cast<double>(view.mean[i]),
                 d = static_cast<double>(x[i] - view.mean[i]);
    sums[kSumOfX] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    sums[kSumOfD] += d * d;
    sums[kSumOfM] += m * m;
  }
#pragma unroll
  for (int group = 0; group < kScreenGroups; ++group) {
    if (group >= view.groups) break;
    const int first = (group == 0 ? 0 : view.ends[group - 1]) * 32, end = view.ends[group] * 32;
    for (int i = first + static_cast<int>(threadIdx.x); i < end; i += kScreenRowThreads) {
      const double v = static_cast<double>(y[i]);
      const double over = v / static_cast<double>(view.sigma[i]);
      sums[group] += over * over;
      sums[kSumOfY] += v * v;
    }
  }
}

// One block per row, whose y becomes y~.
__global__ __launch_bounds__(kScreenRowThreads) void screen_row_kernel(ScreenTask task) {
  constexpr int kSums = kScreenSums, kOfX = kSumOfX, kOfD = kSumOfD, kOfM = kSumOfM, kOfY = kSumOfY;
  constexpr double kUnit = 0x1p-24, kSlack = 1 + 0x1p-16;
  __shared__ double scratch[kSums * (kScreenRowThreads / kWarp)];
  const int r = static_cast<int>(blockIdx.x);
  const ScreenView& view = *task.view;
  if (view.sound == 0) {
    if (threadIdx.x == 0) task.full[r] = 1;
    return;
  }
  double moved[2] = {};
  round_screen_row(task, r, moved);
  block_reduce<Sum, kScreenRowThreads / kWarp, 2>(moved, scratch);
  __syncthreads();  // all of y~ is there, and `scratch` is free
  double sums[kSums] = {};
  add_squares(task, view, r, sums);
  block_reduce<Sum, kScreenRowThreads / kWarp, kSums>(sums, scratch);
  if (threadIdx.x != 0) return;

  // More than the additions that a term goes through: one or two for each 32 columns, where weights
  // are blocks; 64, and one for each 64 columns, where they are not; and a few.
  const double n = static_cast<double>(task.dim / 4 + 80);
  const double gamma = n * kUnit / (1 - n * kUnit);
  const double of_x = sqrt(sums[kOfX]), of_d = sqrt(sums[kOfD]) * (1 + 2 * kUnit);
  const double of_m = sqrt(sums[kOfM]), of_y = sqrt(sums[kOfY]);
  ScreenRow& row = task.row[r];
  double bounds = 0;
#pragma unroll
  for (int group = 0; group < kScreenGroups; ++group) {
    if (group >= view.groups) break;
    const int columns = (view.ends[group] - (group == 0 ? 0 : view.ends[group - 1])) * 32;
    double by = sqrt(sums[group]) * static_cast<double>(view.units[group]) * kSlack;
    if (task.factor > 0)
      by *= static_cast<double>(task.factor) / sqrt(static_cast<double>(columns));
    row.steps[group] = static_cast<float>(by);
    bounds += by;
  }
  const double residual = static_cast<double>(view.residual);
  const double off = sqrt(moved[0]) + gamma * static_cast<double>(view.frobenius) * of_d;
  const double unit = static_cast<double>(view.units[view.groups]);
  const double by = (residual * of_d + (1 + residual) * off + gamma * (of_y + of_x) +
                     16 * kUnit * (of_m + of_x + of_y) + sqrt(moved[1])) *
                    unit * kSlack;
  row.steps[view.groups] = static_cast<float>(by);
  bounds += by;
  // Not of NaN either.
  const bool is_usual =
      (of_x + of_y + of_m) * (1 + 255 * unit) < kScreenMost && bounds < kScreenMost;
  task.full[r] = is_usual ? 0 : 1;
}

// ---- all rows of the vocabulary -----------------------------------------------------------------

constexpr int kScreenStages = 2;
constexpr BlockStage kWidestScreenStage = block_stage(screen_format(0));
constexpr int kScreenBytes = kBlockInputsBytes + kScreenStages * kWidestScreenStage.all_bytes();

// 256 columns of the stored rows, or what is left of a segment.
struct ScreenStage {
  int segment;
  int count;         // columns
  int64_t column;    // the first one
  int64_t pitch;     // of the segment's rows, in bytes
  const uint8_t* p;  // of row 0

  __device__ __forceinline__ const uint8_t* row(int64_t v) const { return p + v * pitch; }
};

__device__ __forceinline__ int screen_stages(const ScreenView& view, int segment) {
  return (view.segments[segment] * 32 + kBlockDepth - 1) / kBlockDepth;
}

__device__ __forceinline__ ScreenStage screen_stage(const ScreenView& view, int stage) {
  constexpr int kUnits = kBlockDepth / 32;
  int segment = 0;
  int64_t before = 0;
#pragma unroll
  for (int i = 0; i + 1 < kScreenSegments; ++i) {
    if (segment == i && stage >= screen_stages(view, i)) {
      stage -= screen_stages(view, i);
      before += view.segments[i];
      ++segment;
    }
  }
  const int64_t bytes = block_bytes(screen_format(segment)), units = view.segments[segment];
  const int64_t first = int64_t{stage} * kUnits;
  return {segment, tile_count(first, units, kUnits) * 32, (before + first) * 32, units * bytes,
          view.rows[segment] + first * bytes};
}

// Where a stage lies in shared memory, and its y, after as many bytes as the widest format takes.
__device__ __forceinline__ unsigned char* screen_stage_at(unsigned char* shared, int index) {
  return shared + kBlockInputsBytes + index % kScreenStages * kWidestScreenStage.all_bytes();
}
__device__ __forceinline__ float4* screen_y_at(unsigned char* shared, int index) {
  return reinterpret_cast<float4*>(screen_stage_at(shared, index) +
                                   kWidestScreenStage.weight_bytes());
}

// What a block keeps in shared memory of its tile of the vocabulary.
struct ScreenTile {
  ScreenView view;
  __align__(16) uint8_t codes[kScreenGroups + 1][kBlockTile];
  float base[kBlockTile];
  float bias[kBlockTile];
  float steps[kScreenRows][kScreenGroups + 1];
  ScreenExtremes halves[kScreenRows][2];
};

// The bounds of a tile's rows for one row of hidden, by two warps: thread n of 64 has row n of the
// tile's. `product` is Q y~.
__device__ __forceinline__ ScreenExtremes bound_logit(const ScreenTask& task,
                                                      const ScreenTile& tile, int r, int64_t first,
                                                      float product) {
  const int n = static_cast<int>(threadIdx.x) % kBlockTile, groups = tile.view.groups;
  const int64_t v = first + n;
  const auto code = [&](int group) {
    return static_cast<float>(static_cast<int8_t>(tile.codes[group][n]) + 128);
  };
  const float bias = tile.bias[n];
  float logit = product + tile.base[n];
  float sum = task.factor == 0.0f ? 0x1p-80f : 0.0f;
#pragma unroll 1
  for (int group = 0; group < groups; ++group) {
    const float term = code(group) * tile.steps[r][group];
    sum = task.factor == 0.0f ? sum + term : fmaf(term, term, sum);
  }
  if (task.factor != 0.0f) sum = sqrtf(sum);
  float bound = fmaf(code(groups), tile.steps[r][groups], sum);
  ScreenExtremes extremes = {-INFINITY, -INFINITY};
  // A bias of -inf is a mask.
  if (v < task.vocabulary && bias != -INFINITY) {
    if (!(fabsf(bias) < static_cast<float>(kScreenMost))) atomicMax(task.full + r, 1);
    bound = fmaf(fabsf(bias), 0x1p-20f, bound);
    logit += bias;
    extremes = {logit - bound, logit + bound};
  } else {
    logit = -INFINITY;
  }
  task.upper[r * task.upper_stride() + v] = extremes.high;
  if (task.logits != nullptr) task.logits[r * task.upper_stride() + v] = logit;
  return extremes;
}

// What a block needs of its tile, which begins at row `first`, before any product.
__device__ __forceinline__ void load_screen_tile(const ScreenTask& task, int64_t first, int rows,
                                                 ScreenTile& own) {
  const ScreenView& view = own.view;
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < (view.groups + 1) * (kBlockTile / 16); i += kBlockTileThreads) {
    const int group = i / (kBlockTile / 16), place = i % (kBlockTile / 16) * 16;
    __pipeline_memcpy_async(&own.codes[group][place],
                            view.codes + group * view.codes_stride + first + place, 16);
  }
  if (thread < kBlockTile) {
    const int64_t v = first + thread;
    own.base[thread] = v < task.vocabulary ? view.base[v] : 0.0f;
    own.bias[thread] = v < task.vocabulary && task.bias != nullptr ? task.bias[v] : 0.0f;
  }
  for (int i = thread; i < rows * (kScreenGroups + 1); i += kBlockTileThreads) {
    own.steps[i / (kScreenGroups + 1)][i % (kScreenGroups + 1)] =
        task.row[i / (kScreenGroups + 1)].steps[i % (kScreenGroups + 1)];
  }
}

// Begins to load stage `index` of the tile's rows, and of y.
__device__ __forceinline__ void begin_screen_stage(const ScreenTask& task, const ScreenView& view,
                                                   int64_t first, int rows_of_hidden, int index,
                                                   unsigned char* shared) {
  const ScreenStage stage = screen_stage(view, index);
  const BlockStage form = block_stage(screen_format(stage.segment));
  unsigned char* const to = screen_stage_at(shared, index);
  const uint8_t* rows[kLaneRows];
#pragma unroll
  for (int o = 0; o < kLaneRows; ++o) {
    const int64_t v = first + block_output(o);
    rows[o] = v < task.vocabulary ? stage.row(v) : nullptr;
  }
  uint8_t* const own = to + block_output(0) * form.pitch;
  const bool is_late = __any_sync(kFullWarp, (low_bits(rows[0]) | low_bits(rows[1])) != 0);
  if (first + kBlockTile <= task.vocabulary && stage.count == kBlockDepth && !is_late) {
    begin_whole_rows(form, rows, 0, own);
  } else {
    begin_some_rows(form, rows, 0, stage.count / form.elements * form.bytes, own);
  }
  const StoredBlockRows rows_of_y{task.y + stage.column, task.x_stride, rows_of_hidden};
  rows_of_y.begin(screen_y_at(shared, index), 0, stage.count);
}

template <Blocks FORMAT>
__device__ __forceinline__ void add_screen_blocks(const int (&at)[kLaneRows], unsigned char* rows,
                                                  const BlockInputs& inputs,
                                                  BlockResults& results) {
  constexpr BlockStage kForm = block_stage(FORMAT);
  if (__any_sync(kFullWarp, (at[0] | at[1]) != 0)) {
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    align_block_rows(kForm, at, rows + warp * 16 * kForm.pitch);
  }
  add_stage<FORMAT>(rows + block_output(0) * kForm.pitch, at, inputs, results);
}

// Adds the products of stage `index`, which is there.
__device__ __forceinline__ void add_screen_stage(const ScreenTask& task, const ScreenView& view,
                                                 int64_t first, int index, unsigned char* shared,
                                                 const BlockInputs& inputs, BlockResults& results) {
  const ScreenStage stage = screen_stage(view, index);
  unsigned char* const from = screen_stage_at(shared, index);
  int at[kLaneRows];
#pragma unroll
  for (int o = 0; o < kLaneRows; ++o) {
    const int64_t row = first + block_output(o);
    at[o] = row < task.vocabulary ? low_bits(stage.row(row)) : 0;
  }
  if (stage.segment == 0) {
    add_screen_blocks<screen_format(0)>(at, from, inputs, results);
  } else if (stage.segment == 1) {
    add_screen_blocks<screen_format(1)>(at, from, inputs, results);
  } else {
    add_screen_blocks<screen_format(2)>(at, from, inputs, results);
  }
}

// The bounds of a tile's logits, and their extremes by rows of hidden.
__device__ __forceinline__ void bound_screen_tile(const ScreenTask& task, int64_t tile,
                                                  const float* products, int rows,
                                                  ScreenTile& own) {
  const int64_t first = tile * kBlockTile;
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll 1
  for (int r = thread / kBlockTile; r < rows; r += kBlockTileThreads / kBlockTile) {
    const float product = products[r * kResultPitch<kBlockTile> + thread % kBlockTile];
    const ScreenExtremes one = bound_logit(task, own, r, first, product);
    const float low = warp_reduce<Max>(one.low), high = warp_reduce<Max>(one.high);
    if (thread % kWarp == 0) own.halves[r][thread / kWarp % 2] = {low, high};
  }
  __syncthreads();
  if (thread < rows) {
    const ScreenExtremes a = own.halves[thread][0], b = own.halves[thread][1];
    task.tile[thread * task.tiles + tile] = {fmaxf(a.low, b.low), fmaxf(a.high, b.high)};
  }
}

// Bytes: those of the stored rows, of their codes and of w m once (where rows are not aligned, a
// piece of 16 bytes more of each row and stage comes from the L2 cache), y from the L2 cache; 4 or
// 8 written for each row of hidden and of the vocabulary. Grid: y and z count tiles of 64.
static __global__ void EXN_BLOCK_BOUNDS screen_scores_kernel(ScreenTask task) {
  EXN_DYN_SMEM(shared);
  __shared__ ScreenTile own;
  const int64_t tile = linear_tile_index();
  if (tile >= task.tiles) return;
  const int64_t first = tile * kBlockTile;
  const int thread = static_cast<int>(threadIdx.x), rows = task.rows;
  constexpr int kViewWords = static_cast<int>(sizeof(ScreenView) / sizeof(uint64_t));
  if (thread < kViewWords) {
    reinterpret_cast<uint64_t*>(&own.view)[thread] =
        reinterpret_cast<const uint64_t*>(task.view)[thread];
  }
  __syncthreads();
  const ScreenView& view = own.view;
  if (view.sound == 0) return;
  load_screen_tile(task, first, rows, own);
  int stages = 0;
#pragma unroll
  for (int segment = 0; segment < kScreenSegments; ++segment)
    stages += screen_stages(view, segment);

  auto* const inputs = reinterpret_cast<BlockInputs*>(shared);
  clear_absent_inputs(inputs[0], rows);
  clear_absent_inputs(inputs[1], rows);
  BlockResults results = {};
  begin_screen_stage(task, view, first, rows, 0, shared);
  __pipeline_commit();
#pragma unroll 1
  for (int index = 0; index < stages; ++index) {
    static_assert(kScreenStages == 2, "one is on its way");
    __pipeline_wait_prior(0);
    BlockInputs& now = inputs[index % 2];
    round_inputs(screen_y_at(shared, index), rows, screen_stage(view, index).count,
                 block_stage(screen_format(screen_stage(view, index).segment)).sums, now);
    // This stage is there for all, and all have left the one that is overwritten next.
    __syncthreads();
    if (index + 1 < stages) begin_screen_stage(task, view, first, rows, index + 1, shared);
    __pipeline_commit();
    add_screen_stage(task, view, first, index, shared, now, results);
  }
  __pipeline_wait_prior(0);
  __syncthreads();  // all have left the stages
  const float* const products = share_block_results(results, shared);
  bound_screen_tile(task, tile, products, rows, own);
}

}  // namespace exn::cuda
