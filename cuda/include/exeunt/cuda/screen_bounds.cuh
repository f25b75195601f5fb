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

// Sums of squares: of y / s by groups, then of x, of x - m, of m and of y.
constexpr int kSumOfX = kScreenGroups, kSumOfD = kSumOfX + 1, kSumOfM = kSumOfX + 2,
              kSumOfY = kSumOfX + 3, kScreenSums = kScreenGroups + 4;

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

// One block per row. y~ is y: it meets the stored rows as it is.
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
  double sums[kSums] = {};
  add_squares(task, view, r, sums);
  block_reduce<Sum, kScreenRowThreads / kWarp, kSums>(sums, scratch);
  if (threadIdx.x != 0) return;

  // More than the additions that a term goes through: 64 in a lane for each 256 columns, where
  // weights are blocks; 64, and one for each 64 columns, where they are not; and a few.
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
  const double off = gamma * static_cast<double>(view.frobenius) * of_d;
  const double unit = static_cast<double>(view.units[view.groups]);
  const double by = (residual * of_d + (1 + residual) * off + gamma * (of_y + of_x) +
                     16 * kUnit * (of_m + of_x + of_y)) *
                    unit * kSlack;
  row.steps[view.groups] = static_cast<float>(by);
  bounds += by;
  // Not of NaN either.
  const bool is_usual =
      (of_x + of_y + of_m) * (1 + 255 * unit) < kScreenMost && bounds < kScreenMost;
  task.full[r] = is_usual ? 0 : 1;
}

// ---- all rows of the vocabulary -----------------------------------------------------------------

template <int ROWS>
struct ScreenShape {
  static constexpr int kStages = BlockInputShape<ROWS>::kStages;
  static constexpr int kWeightBytes = block_stage(screen_format(0)).weight_bytes();  // the widest
  static constexpr int kStageBytes = block_stage(screen_format(0)).all_bytes(ROWS);
  static constexpr int kSharedBytes = kStages * kStageBytes;
};

// 256 columns of the stored rows, or what is left of a segment.
struct ScreenStage {
  int segment;
  int count;         // columns
  int64_t column;    // the first one
  int64_t pitch;     // of the segment's rows, in bytes
  const uint8_t* p;  // of row 0
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

// What a block keeps in shared memory of its tile of the vocabulary.
template <int ROWS>
struct ScreenTile {
  ScreenView view;
  __align__(16) uint8_t codes[kScreenGroups + 1][kBlockTile];
  float base[kBlockTile];
  float bias[kBlockTile];
  float steps[ROWS][kScreenGroups + 1];
  ScreenExtremes halves[ROWS][2];
};

// The bounds of a tile's rows for one row of hidden, by two warps: thread n of 64 has row n of the
// tile's. `product` is Q y~.
template <int ROWS>
__device__ __forceinline__ ScreenExtremes bound_logit(const ScreenTask& task,
                                                      const ScreenTile<ROWS>& tile, int r,
                                                      int64_t first, float product) {
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
template <int ROWS>
__device__ __forceinline__ void load_screen_tile(const ScreenTask& task, int64_t first, int rows,
                                                 ScreenTile<ROWS>& own) {
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
template <int ROWS>
__device__ __forceinline__ void begin_screen_stage(const ScreenTask& task, const ScreenView& view,
                                                   const BlockBounds& bounds, int64_t first,
                                                   int rows, int index, unsigned char* shared) {
  using Shape = ScreenShape<ROWS>;
  const int thread = static_cast<int>(threadIdx.x);
  const ScreenStage stage = screen_stage(view, index);
  const BlockStage form = block_stage(screen_format(stage.segment));
  unsigned char* const to = shared + index % Shape::kStages * Shape::kStageBytes;
  const int bytes = stage.count / form.elements * form.bytes;
#pragma unroll 4
  for (int i = thread; i < kBlockTile * form.pieces; i += kBlockTileThreads) {
    const int output = form.row_of(i), piece = i - output * form.pieces;
    if (first + output >= task.vocabulary) continue;
    const uint8_t* const from = stage.p + (first + output) * stage.pitch;
    const int before = low_bits(from);
    if (piece * 16 >= before + bytes) continue;
    stage_piece(to + output * form.pitch + piece * 16, from + (piece * 16 - before), bounds);
  }
  const StoredBlockRows<ROWS> rows_of_y{task.y + stage.column, task.x_stride, stage.count, rows};
  rows_of_y.begin(reinterpret_cast<float4*>(to + Shape::kWeightBytes), 0);
}

// Adds the products of stage `index`, which is there.
template <int ROWS>
__device__ __forceinline__ void add_screen_stage(const ScreenTask& task, const ScreenView& view,
                                                 int64_t first, int index,
                                                 const unsigned char* shared,
                                                 float (&results)[kBlockOutputs][ROWS]) {
  using Shape = ScreenShape<ROWS>;
  const ScreenStage stage = screen_stage(view, index);
  const unsigned char* const from = shared + index % Shape::kStages * Shape::kStageBytes;
  const auto* const inputs = reinterpret_cast<const float4*>(from + Shape::kWeightBytes);
  int at[kBlockOutputs];
#pragma unroll
  for (int o = 0; o < kBlockOutputs; ++o) {
    const int64_t row = first + block_output(o);
    at[o] = row < task.vocabulary ? low_bits(stage.p + row * stage.pitch) : -1;
  }
  if (stage.segment == 0) {
    add_stage<screen_format(0)>(from, inputs, stage.count, at, results);
  } else if (stage.segment == 1) {
    add_stage<screen_format(1)>(from, inputs, stage.count, at, results);
  } else {
    add_stage<screen_format(2)>(from, inputs, stage.count, at, results);
  }
}

// The bounds of a tile's logits, and their extremes by rows of hidden.
template <int ROWS>
__device__ __forceinline__ void bound_screen_tile(const ScreenTask& task, int64_t tile,
                                                  const float* products, int rows,
                                                  ScreenTile<ROWS>& own) {
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
template <int ROWS>
__global__ void EXN_BLOCK_BOUNDS(ROWS) screen_scores_kernel(ScreenTask task) {
  using Shape = ScreenShape<ROWS>;
  constexpr int kStages = Shape::kStages;
  EXN_DYN_SMEM(shared);
  __shared__ ScreenTile<ROWS> own;
  const int64_t tile = linear_tile_index();
  if (tile >= task.tiles) return;
  const int64_t first = tile * kBlockTile;
  const int thread = static_cast<int>(threadIdx.x), rows = tile_count(0, task.rows, ROWS);
  constexpr int kViewWords = static_cast<int>(sizeof(ScreenView) / sizeof(uint64_t));
  if (thread < kViewWords) {
    reinterpret_cast<uint64_t*>(&own.view)[thread] =
        reinterpret_cast<const uint64_t*>(task.view)[thread];
  }
  __syncthreads();
  const ScreenView& view = own.view;
  if (view.sound == 0) return;
  load_screen_tile<ROWS>(task, first, rows, own);
  const BlockBounds bounds = {task.image, task.image + task.image_bytes};
  int stages = 0;
#pragma unroll
  for (int segment = 0; segment < kScreenSegments; ++segment)
    stages += screen_stages(view, segment);

  const auto begin_stage = [&](int index) {
    begin_screen_stage<ROWS>(task, view, bounds, first, rows, index, shared);
  };

  float results[kBlockOutputs][ROWS];
#pragma unroll
  for (int o = 0; o < kBlockOutputs; ++o) {
#pragma unroll
    for (int r = 0; r < ROWS; ++r) results[o][r] = 0.0f;
  }
#pragma unroll 1
  for (int index = 0; index < kStages - 1; ++index) {
    if (index < stages) begin_stage(index);
    __pipeline_commit();
  }
#pragma unroll 1
  for (int index = 0; index < stages; ++index) {
    __pipeline_wait_prior(kStages - 2);
    // This stage is there for all, and all have left the one that is overwritten next.
    __syncthreads();
    if (index + kStages - 1 < stages) begin_stage(index + kStages - 1);
    __pipeline_commit();  // also when empty: the wait counts groups

    add_screen_stage<ROWS>(task, view, first, index, shared, results);
  }
  __pipeline_wait_prior(0);
  add_lanes<ROWS>(results);
  __syncthreads();  // all have left the stages
  const float* const products = share_block_results<ROWS>(results, shared);
  bound_screen_tile<ROWS>(task, tile, products, rows, own);
}

}  // namespace exn::cuda
