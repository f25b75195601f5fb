// SPDX-License-Identifier: Apache-2.0
//
// exit_head with a screen: the full head's argmax from a form of it that is several times smaller,
// and those rows of it that may hold the largest logit. screen.h of the C ABI has the mathematics.
//
// Nothing is decided on the host, which does not see the image either. Kernels in order, for up to
// 8 rows of hidden that are ready to be multiplied:
//
//   screen_rotate_kernel   looks whether the image is sound; y = P (x - m)
//   screen_row_kernel      what a row makes of the norms that are stored
//   screen_scores_kernel   logits and bounds of all rows of the vocabulary
//   screen_choose_kernel   the best of those that may be the largest: up to 128
//   screen_exact_kernel    their logits, as the full head computes them
//   screen_prune_kernel    those of the others that still may be the largest
//   screen_exact_kernel    their logits
//   screen_leader_kernel   the largest
//   screen_mass_kernel     sums for its probability, if somebody asks
//   exit_head_kernel       for rows that none of this settled; else its blocks leave at once
//   screen_finish_kernel   writes what was found
//
// and screen_exact_blocks_kernel, exit_head_blocks_kernel where the head is quantised.
#pragma once

#include "exit_head.cuh"
#include "select.cuh"

namespace exn::cuda {

constexpr int kScreenRows = 8;
constexpr int kScreenSegments = 3;
constexpr int kScreenGroups = 8;          // at most
constexpr int64_t kScreenBestRows = 128;  // that are read first, at most
constexpr int64_t kScreenHeaderBytes = 4096;
constexpr int64_t kScreenMostDim = 16384;
constexpr int kScreenMostLevels = 1024;
constexpr unsigned kScreenVersion = 3;
constexpr uint64_t kScreenMagic = 0x0a4e5243534e5845u;  // "EXNSCRN\n"

// The numbers of EXN_CERTIFIED_*.
constexpr uint8_t kCertifiedNot = 0, kCertifiedProven = 1, kCertifiedCalibrated = 2;

constexpr __host__ __device__ Blocks screen_format(int segment) {
  return segment == 0 ? Blocks::kQ8_0 : segment == 1 ? Blocks::kQ5_0 : Blocks::kQ4_0;
}

// As it lies at the beginning of an image.
struct ScreenHeader {
  uint64_t magic;
  unsigned version;
  int32_t levels;
  int64_t bytes;
  int64_t vocabulary;
  int64_t dim;
  int32_t segments[kScreenSegments];  // their columns, in 32s
  int32_t groups;
  int32_t ends[kScreenGroups];     // of the coarse groups, in 32s of columns
  float units[kScreenGroups + 1];  // of the norms of groups, and of K
  float residual;                  // R
  float frobenius;                 // |P|_F
  float worst_ratio;
  float bits_per_weight;
  int32_t reserved;
  int64_t states;
  uint64_t head[2];
  uint64_t body[2];
  uint64_t own;  // a digest of all before it
};

// Of a sound image, what kernels read.
struct ScreenView {
  int32_t sound;  // 0: nothing else is set
  int32_t groups;
  int32_t segments[kScreenSegments];
  int32_t ends[kScreenGroups];
  float units[kScreenGroups + 1];
  float residual;
  float frobenius;
  int64_t codes_stride;
  const float* mean;      // [D], of the level
  const float* base;      // [V], of the level
  const float* rotation;  // [D,D]
  const float* sigma;     // [whole 32s of D]
  const uint8_t* codes;   // [groups + 1, codes_stride]
  const uint8_t* rows[kScreenSegments];
};

// What is known of a row of hidden.
struct ScreenRow {
  float steps[kScreenGroups + 1];  // of a code of the norms of groups, and of K
  float least;                     // the largest lower bound of a logit
  unsigned cut;  // the rows read first: the first ones whose bound has at least this order_key ...
  int32_t last;  // ... up to this one
  int32_t first;
  int32_t candidates;
  int32_t read;  // all in all
  float top;     // the largest logit, and whose it is
  int32_t leader;
};

// Of a tile of 64 rows of the vocabulary.
struct ScreenExtremes {
  float low;   // the largest lower bound
  float high;  // the largest upper one
};

struct ScreenTask {
  const uint8_t* image;
  int64_t image_bytes;
  int64_t vocabulary;
  int64_t dim;
  int32_t level;
  float factor;  // 0: proven bounds
  int64_t budget;
  const float* bias;  // [V], optional
  const float* x;     // [rows, x_stride], zero padded
  int64_t x_stride;
  int rows;  // at most kScreenRows
  StatsOptions options;
  // Workspace.
  ScreenView* view;
  ScreenRow* row;        // [kScreenRows]
  int32_t* full;         // [kScreenRows], 1: the full head is to be read
  float* y;              // [kScreenRows, x_stride]
  float* upper;          // [kScreenRows, 64 * tiles]
  float* logits;         // the same; null: probabilities are not wanted
  ScreenExtremes* tile;  // [kScreenRows, tiles]
  int64_t tiles;
  int32_t* ids;  // [kScreenRows, budget]
  float* exact;  // the same
  float* sums;   // [kScreenRows, sum_tiles, 3]
  int64_t sum_tiles;
  // Of the full head.
  StatsState* states;  // [rows, head_tiles]
  int64_t head_tiles;
  // Outputs, of which `first_row` is the first to be written.
  int64_t first_row;
  StatsTargets out;
  uint8_t* certified;
  float* p1_low;
  float* p1_high;
  int32_t* rows_read;

  __device__ __forceinline__ int64_t upper_stride() const { return tiles * kBlockTile; }
};

// ---- the image ----------------------------------------------------------------------------------

__device__ __forceinline__ uint64_t turned(uint64_t x, int by) { return x << by | x >> (64 - by); }

// As the host computes it, of the header's words before it.
__device__ __forceinline__ uint64_t own_digest(const ScreenHeader& header) {
  constexpr int kWords = static_cast<int>(offsetof(ScreenHeader, own) / sizeof(uint64_t));
  const auto* const words = reinterpret_cast<const uint64_t*>(&header);
  uint64_t a = 0x9e3779b97f4a7c15u, b = 0xc2b2ae3d27d4eb4fu;
#pragma unroll 1
  for (int i = 0; i <= kWords; ++i) {
    const uint64_t word = i < kWords ? words[i] : kWords * sizeof(uint64_t);
    a = turned(a ^ word, 29) * 0x9fb21c651e98df25u;
    b = turned(b + word, 23) * 0xd6e8feb86659fd93u;
  }
  return a ^ b;
}

__device__ __forceinline__ int64_t whole_lines(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// Enough for kernels to read nothing but the image.
__device__ __forceinline__ bool is_sound(const ScreenHeader& header, const ScreenTask& task) {
  if (header.magic != kScreenMagic || header.version != kScreenVersion) return false;
  if (own_digest(header) != header.own) return false;
  if (header.vocabulary != task.vocabulary || header.dim != task.dim) return false;
  if (header.dim > kScreenMostDim || header.bytes != task.image_bytes) return false;
  if (header.levels > kScreenMostLevels || task.level >= header.levels) return false;
  const auto blocks = static_cast<int32_t>((header.dim + 31) / 32);
  int64_t columns = 0;
#pragma unroll
  for (int segment = 0; segment < kScreenSegments; ++segment) {
    if (header.segments[segment] < 0) return false;
    columns += header.segments[segment];
  }
  if (columns != blocks || header.groups < 1 || header.groups > kScreenGroups) return false;
  int32_t end = 0;
#pragma unroll 1
  for (int group = 0; group < header.groups; ++group) {
    if (header.ends[group] <= end) return false;
    end = header.ends[group];
  }
  return end == blocks;
}

// Fills all of `view`, by one thread, and tells whether the image is as long as it says.
__device__ __forceinline__ bool find_arrays(const ScreenHeader& header, const ScreenTask& task,
                                            ScreenView& view) {
  const int64_t vocabulary = task.vocabulary, dim = task.dim, blocks = (dim + 31) / 32;
  view.groups = header.groups;
  view.residual = header.residual;
  view.frobenius = header.frobenius;
#pragma unroll 1
  for (int group = 0; group < kScreenGroups; ++group) {
    view.ends[group] = header.ends[group];
    view.units[group] = header.units[group];
  }
  view.units[kScreenGroups] = header.units[kScreenGroups];
  view.codes_stride = whole_lines(vocabulary);
  const auto floats = [&](int64_t offset) {
    return reinterpret_cast<const float*>(task.image + offset);
  };
  int64_t at = kScreenHeaderBytes;
  view.mean = floats(at) + task.level * dim;
  at += whole_lines(header.levels * dim * 4);
  view.base = floats(at) + task.level * vocabulary;
  at += whole_lines(header.levels * vocabulary * 4);
  view.rotation = floats(at);
  at += whole_lines(dim * dim * 4);
  view.sigma = floats(at);
  at += blocks * 128;
  view.codes = task.image + at;
  at += (header.groups + 1) * view.codes_stride;
  int64_t end = at, row = 0;
#pragma unroll
  for (int segment = 0; segment < kScreenSegments; ++segment) {
    const int64_t bytes = header.segments[segment] * int64_t{block_bytes(screen_format(segment))};
    view.segments[segment] = header.segments[segment];
    view.rows[segment] = task.image + end;
    end += whole_lines(vocabulary * bytes);
    row += bytes;
  }
  return task.image_bytes == at + whole_lines(vocabulary * row) + kScreenSegments * 64;
}

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

// One block per row. y~ is y: it meets the stored rows as it is.
__global__ __launch_bounds__(kScreenRowThreads) void screen_row_kernel(ScreenTask task) {
  constexpr int kSums = kScreenGroups + 4;
  constexpr int kOfX = kScreenGroups, kOfD = kOfX + 1, kOfM = kOfX + 2, kOfY = kOfX + 3;
  constexpr double kUnit = 0x1p-24, kSlack = 1 + 0x1p-16;
  __shared__ double scratch[kSums * (kScreenRowThreads / kWarp)];
  const int r = static_cast<int>(blockIdx.x);
  const ScreenView& view = *task.view;
  if (view.sound == 0) {
    if (threadIdx.x == 0) task.full[r] = 1;
    return;
  }
  const float* const x = task.x + r * task.x_stride;
  const float* const y = task.y + r * task.x_stride;
  double sums[kSums] = {};
  for (int64_t i = threadIdx.x; i < task.dim; i += kScreenRowThreads) {
    const double m = static_cast<double>(view.mean[i]),
                 d = static_cast<double>(x[i] - view.mean[i]);
    sums[kOfX] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    sums[kOfD] += d * d;
    sums[kOfM] += m * m;
  }
#pragma unroll
  for (int group = 0; group < kScreenGroups; ++group) {
    if (group >= view.groups) break;
    const int first = (group == 0 ? 0 : view.ends[group - 1]) * 32, end = view.ends[group] * 32;
    for (int i = first + static_cast<int>(threadIdx.x); i < end; i += kScreenRowThreads) {
      const double v = static_cast<double>(y[i]);
      const double over = v / static_cast<double>(view.sigma[i]);
      sums[group] += over * over;
      sums[kOfY] += v * v;
    }
  }
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
  const BlockBounds bounds = {task.image, task.image + task.image_bytes};
  int stages = 0;
#pragma unroll
  for (int segment = 0; segment < kScreenSegments; ++segment)
    stages += screen_stages(view, segment);

  const auto begin_stage = [&](int index) {
    const ScreenStage stage = screen_stage(view, index);
    const BlockStage form = block_stage(screen_format(stage.segment));
    unsigned char* const to = shared + index % kStages * Shape::kStageBytes;
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

    const ScreenStage stage = screen_stage(view, index);
    const unsigned char* const from = shared + index % kStages * Shape::kStageBytes;
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
  __pipeline_wait_prior(0);
  add_lanes<ROWS>(results);
  __syncthreads();  // all have left the stages
  const float* const products = share_block_results<ROWS>(results, shared);
#pragma unroll 1
  for (int r = thread / kBlockTile; r < rows; r += kBlockTileThreads / kBlockTile) {
    const float product = products[r * (kBlockTile + 1) + thread % kBlockTile];
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

// ---- candidates ---------------------------------------------------------------------------------

constexpr int kScreenThreads = 512;  // of a block that looks through a row's bounds
constexpr int kScreenWarps = kScreenThreads / kWarp;

// The rows of the vocabulary whose upper bound reaches `least`, > -inf. A thread has neighbouring
// tiles, and of these only those that have such a row are looked at.
struct ScreenBounds {
  const ScreenExtremes* tile;
  const float* upper;
  int64_t begin;
  int64_t end;
  float least;

  __device__ __forceinline__ ScreenBounds(const ScreenTask& task, int r, float at_least)
      : tile(task.tile + r * task.tiles),
        upper(task.upper + r * task.upper_stride()),
        least(at_least) {
    const int64_t each = (task.tiles + kScreenThreads - 1) / kScreenThreads;
    begin = threadIdx.x * each;
    end = begin + each < task.tiles ? begin + each : task.tiles;
  }

  // Calls f(row, bound) in ascending order.
  template <class F>
  __device__ __forceinline__ void each(F&& f) const {
#pragma unroll 1
    for (int64_t t = begin; t < end; ++t) {
      if (!(tile[t].high >= least)) continue;
#pragma unroll 1
      for (int i = 0; i < kBlockTile; i += 4) {
        const int64_t v = t * kBlockTile + i;
        const float4 four = *reinterpret_cast<const float4*>(upper + v);
        if (four.x >= least) f(v, four.x);
        if (four.y >= least) f(v + 1, four.y);
        if (four.z >= least) f(v + 2, four.z);
        if (four.w >= least) f(v + 3, four.w);
      }
    }
  }
};

// The counts of all threads before this one, and `total` of all. `sums` holds kScreenWarps numbers,
// and may be used again at once.
__device__ __forceinline__ int counts_before(int count, int* sums, int& total) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  int sum = count;
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const int other = __shfl_up_sync(kFullWarp, sum, offset);
    if (lane >= offset) sum += other;
  }
  if (lane == kWarp - 1) sums[warp] = sum;
  __syncthreads();
  int before = 0;
  total = 0;
#pragma unroll 4
  for (int i = 0; i < kScreenWarps; ++i) {
    if (i < warp) before += sums[i];
    total += sums[i];
  }
  __syncthreads();
  return before + sum - count;
}

constexpr int kScreenDigits = 256;

struct CutShared {
  int digits[kScreenDigits];
  int sums[kScreenWarps];
  unsigned key;
  int found;
};

// A key that at most `most` of the bounds reach, more than which there are, or that several share:
// the largest such, but for digits that are not looked at. `largest` is the largest bound.
__device__ __forceinline__ unsigned key_of_best(const ScreenBounds& bounds, float largest, int most,
                                                CutShared& shared) {
  unsigned least = order_key(bounds.least);
  for (;;) {
    const int bits = kKeyBits - __clz(static_cast<int>(order_key(largest) - least));
    const int shift = bits > 8 ? bits - 8 : 0;
    if (threadIdx.x < kScreenDigits) shared.digits[threadIdx.x] = 0;
    __syncthreads();
    bounds.each([&](int64_t, float bound) {
      const unsigned key = order_key(bound);
      if (key >= least) atomicAdd(&shared.digits[(key - least) >> shift], 1);
    });
    __syncthreads();
    // The largest digit comes first.
    const int digit = kScreenDigits - 1 - static_cast<int>(threadIdx.x);
    const int count = digit >= 0 ? shared.digits[digit] : 0;
    int total;
    const int before = counts_before(count, shared.sums, total);
    if (digit >= 0 && before <= most && before + count > most) {
      const bool above = before > 0;
      shared.key = least + (static_cast<unsigned>(digit + (above ? 1 : 0)) << shift);
      shared.found = above || shift == 0 ? 1 : 0;
    }
    __syncthreads();
    least = shared.key;
    if (shared.found != 0) return least;
  }
}

// Finds the candidates, and lists the best of them, in the order of the vocabulary. One block per
// row. Bytes: 8 for each tile, and the bounds of tiles that have candidates, from the L2 cache.
__global__ __launch_bounds__(kScreenThreads) void screen_choose_kernel(ScreenTask task) {
  __shared__ CutShared shared;
  __shared__ float extremes[2 * kScreenWarps];
  const int r = static_cast<int>(blockIdx.x);
  ScreenRow& row = task.row[r];
  if (task.full[r] != 0) return;
  float ends[2] = {-INFINITY, -INFINITY};
  for (int64_t t = threadIdx.x; t < task.tiles; t += kScreenThreads) {
    const ScreenExtremes one = task.tile[r * task.tiles + t];
    ends[0] = fmaxf(ends[0], one.low);
    ends[1] = fmaxf(ends[1], one.high);
  }
  block_reduce<Max, kScreenWarps, 2>(ends, extremes);
  if (!(ends[0] > -INFINITY)) {
    if (threadIdx.x == 0) task.full[r] = 1;
    return;
  }
  const ScreenBounds bounds(task, r, ends[0]);
  const int most = static_cast<int>(task.budget < kScreenBestRows ? task.budget : kScreenBestRows);
  int count = 0, candidates, best;
  bounds.each([&](int64_t, float) { ++count; });
  counts_before(count, shared.sums, candidates);
  const unsigned cut =
      candidates > most ? key_of_best(bounds, ends[1], most, shared) : order_key(ends[0]);
  count = 0;
  bounds.each([&](int64_t, float bound) { count += order_key(bound) >= cut ? 1 : 0; });
  int at = counts_before(count, shared.sums, best);
  if (best > most) best = most;
  bounds.each([&](int64_t v, float bound) {
    if (order_key(bound) < cut) return;
    if (at < best) task.ids[r * task.budget + at] = static_cast<int32_t>(v);
    if (at == best - 1) row.last = static_cast<int32_t>(v);
    ++at;
  });
  if (threadIdx.x != 0) return;
  row.least = ends[0];
  row.cut = cut;
  row.candidates = candidates;
  row.first = row.read = best;
}

// The largest of some logits; `usual` is false if one is NaN or +inf.
struct ScreenTop {
  float logit;
  bool usual;
};

template <int WARPS>
__device__ __forceinline__ ScreenTop top_of(const float* logits, int count, float* tops, int* odd) {
  float top = -INFINITY;
  int is_odd = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += WARPS * kWarp) {
    if (!(logits[i] < INFINITY)) is_odd = 1;
    top = fmaxf(top, logits[i]);
  }
  top = block_reduce<Max, WARPS>(top, tops);
  return {top, block_reduce<Max, WARPS>(is_odd, odd) == 0};
}

// Lists the candidates that may still be the largest, after those that were read. One block per
// row.
__global__ __launch_bounds__(kScreenThreads) void screen_prune_kernel(ScreenTask task) {
  __shared__ int sums[kScreenWarps];
  __shared__ float tops[kScreenWarps];
  __shared__ int odd[kScreenWarps];
  const int r = static_cast<int>(blockIdx.x);
  ScreenRow& row = task.row[r];
  if (task.full[r] != 0) return;
  const int first = row.first, left = static_cast<int>(task.budget) - first;
  const ScreenTop top = top_of<kScreenWarps>(task.exact + r * task.budget, first, tops, odd);
  if (!top.usual || !(top.logit > -INFINITY)) {
    if (threadIdx.x == 0) task.full[r] = 1;
    return;
  }
  if (row.candidates == first) return;
  const ScreenBounds bounds(task, r, fmaxf(row.least, top.logit));
  const unsigned cut = row.cut;
  const int last = row.last;
  const auto was_read = [&](int64_t v, float bound) {
    return order_key(bound) >= cut && v <= last;
  };
  int count = 0, more;
  bounds.each([&](int64_t v, float bound) { count += was_read(v, bound) ? 0 : 1; });
  int at = counts_before(count, sums, more);
  if (more > left) {
    if (threadIdx.x == 0) task.full[r] = 1;
    return;
  }
  bounds.each([&](int64_t v, float bound) {
    if (!was_read(v, bound)) task.ids[r * task.budget + first + at++] = static_cast<int32_t>(v);
  });
  if (threadIdx.x == 0) row.read = first + more;
}

// ---- rows of the head ---------------------------------------------------------------------------

// Which of a row's list a block reads.
struct ScreenSpan {
  int64_t begin;  // in ids and exact
  int count;
};

// Those of the first list, or the ones after them; none where they are not wanted.
__device__ __forceinline__ ScreenSpan span_of(const ScreenTask& task, bool second, int tile) {
  const int r = static_cast<int>(blockIdx.y);
  if (task.full[r] != 0) return {0, 0};
  const ScreenRow& row = task.row[r];
  const int64_t begin = (second ? row.first : 0) + static_cast<int64_t>(blockIdx.x) * tile;
  const int64_t end = second ? row.read : row.first;
  return {r * task.budget + begin, begin < end ? tile_count(begin, end, tile) : 0};
}

// Rounded as the full head rounds it, where no bias is added as a zero.
__device__ __forceinline__ void store_exact(const ScreenTask& task, const ScreenSpan& span, int i,
                                            float product) {
  const float bias = task.bias != nullptr ? task.bias[task.ids[span.begin + i]] : 0.0f;
  task.exact[span.begin + i] = product + bias;
}

// Logits as exit_head_kernel computes them, by the same function. Bytes: those of the rows of W.
// Grid: x counts 128 of a list, y rows of hidden.
template <class W>
__global__ void EXN_LINEAR_BOUNDS(W, 1)
    screen_exact_kernel(LinearInput<W> input, ScreenTask task, bool second) {
  using Shape = LinearShape<W, 1>;
  EXN_DYN_SMEM(shared);
  __shared__ const W* rows_of_w[kLinearOutputs];
  const ScreenSpan span = span_of(task, second, kLinearOutputs);
  if (span.count == 0) return;
  const int i = static_cast<int>(threadIdx.x);
  static_assert(Shape::kThreads == kLinearOutputs, "a thread for each");
  rows_of_w[i] =
      i < span.count ? input.weight + task.ids[span.begin + i] * input.weight_stride : nullptr;
  __syncthreads();
  float results[Shape::kOutputs][Shape::kRows];
  linear_tile<W, 1>(input, rows_of_w, whole_depth<W, 1>(input, blockIdx.y, input.rows), shared,
                    results);
  const float* const products = share_results<W, 1>(results, shared);
  if (i < span.count) store_exact(task, span, i, products[i]);
}

// The same as exit_head_blocks_kernel does. Grid: x counts 64 of a list.
template <Blocks FORMAT>
__global__ void EXN_BLOCK_BOUNDS(1)
    screen_exact_blocks_kernel(LinearInput<uint8_t> input, ScreenTask task, bool second) {
  EXN_DYN_SMEM(shared);
  __shared__ const uint8_t* rows_of_w[kBlockTile];
  __shared__ StoredBlockTile<1> own;
  const ScreenSpan span = span_of(task, second, kBlockTile);
  if (span.count == 0) return;
  const int i = static_cast<int>(threadIdx.x);
  if (i < kBlockTile) {
    rows_of_w[i] =
        i < span.count ? input.weight + task.ids[span.begin + i] * input.weight_stride : nullptr;
  }
  __syncthreads();
  float results[kBlockOutputs][1];
  const TileRange range = split_of_block_depth<1>(input, blockIdx.y, input.rows, 0);
  linear_blocks_tile<FORMAT, 1>(input, rows_of_w, range, own, shared, results);
  const float* const products = share_block_results<1>(results, shared);
  if (i < span.count) store_exact(task, span, i, products[i]);
}

constexpr int kLeaderThreads = 128;

// The largest of all that were read, whose logits take the place of what was known of them. One
// block per row.
__global__ __launch_bounds__(kLeaderThreads) void screen_leader_kernel(ScreenTask task) {
  constexpr int kWarps = kLeaderThreads / kWarp;
  __shared__ float tops[kWarps];
  __shared__ int odd[kWarps];
  __shared__ int leaders[kWarps];
  const int r = static_cast<int>(blockIdx.x);
  ScreenRow& row = task.row[r];
  if (task.full[r] != 0) return;
  const int32_t* const ids = task.ids + r * task.budget;
  const float* const exact = task.exact + r * task.budget;
  const ScreenTop top = top_of<kWarps>(exact, row.read, tops, odd);
  if (!top.usual || !(top.logit > -INFINITY)) {
    if (threadIdx.x == 0) task.full[r] = 1;
    return;
  }
  int leader = INT_MAX;
  for (int i = static_cast<int>(threadIdx.x); i < row.read; i += kLeaderThreads) {
    if (exact[i] == top.logit) leader = Min::apply(leader, ids[i]);
    task.upper[r * task.upper_stride() + ids[i]] = exact[i];
    if (task.logits != nullptr) task.logits[r * task.upper_stride() + ids[i]] = exact[i];
  }
  leader = block_reduce<Min, kWarps>(leader, leaders);
  if (threadIdx.x != 0) return;
  row.top = top.logit;
  row.leader = leader;
}

// ---- probabilities ------------------------------------------------------------------------------

constexpr int kMassThreads = kTileThreads;
constexpr int kMassItems = 16;
constexpr int kMassTile = kMassThreads * kMassItems;

// Of a tile of a row, e^(z - its largest logit): the sum of what is known or estimated, and two
// that bound it. Bytes: 8 for each row of the vocabulary. Grid: x counts tiles of 2048, y rows.
__global__ __launch_bounds__(kMassThreads) void screen_mass_kernel(ScreenTask task) {
  __shared__ float scratch[3 * (kMassThreads / kWarp)];
  const int r = static_cast<int>(blockIdx.y);
  if (task.full[r] != 0) return;
  const StatsOptions& options = task.options;
  const float level = treat_logit(task.row[r].top, options);
  // tanh of neighbours may be in the wrong order.
  const float wrong = __fmul_rn(options.softcap, options.inverse_temperature) * 0x1p-20f;
  const bool treats = treats_logits(options);
  const int64_t first = blockIdx.x * int64_t{kMassTile}, at = r * task.upper_stride() + first;
  const int count = tile_count(first, task.upper_stride(), kMassTile);
  // On their way before one is looked at.
  float logits[kMassItems], upper[kMassItems];
  load_tile<float>(task.logits + at, count, -INFINITY, logits);
  load_tile<float>(task.upper + at, count, -INFINITY, upper);
  float sums[3] = {};
#pragma unroll
  for (int i = 0; i < kMassItems; ++i) {
    // A mask has no bound.
    float z = logits[i], high = upper[i], low = z == -INFINITY ? z : z - (high - z);
    if (treats) {
      z = treat_logit(z, options);
      low = treat_logit(low, options) - wrong;
      high = treat_logit(high, options) + wrong;
    }
    sums[0] += expf(fminf(z - level, 0.0f));
    sums[1] += expf(fminf(low - level, 0.0f));
    sums[2] += expf(fminf(high - level, 0.0f));
  }
  block_reduce<Sum, kMassThreads / kWarp, 3>(sums, scratch);
  if (threadIdx.x == 0) {
    float* const to = task.sums + (r * task.sum_tiles + blockIdx.x) * 3;
#pragma unroll
    for (int k = 0; k < 3; ++k) to[k] = sums[k];
  }
}

// Writes a row's outputs: what was found, or what the full head says. One block per row.
__global__ __launch_bounds__(kMergeThreads) void screen_finish_kernel(ScreenTask task) {
  __shared__ MergeShared shared;
  __shared__ double scratch[3 * (kMergeThreads / kWarp)];
  const int r = static_cast<int>(blockIdx.x);
  const int64_t to = task.first_row + r;
  if (task.full[r] != 0) {
    const StatsState state = merge_row<Softmax<float>>(task.states + r * task.head_tiles,
                                                       task.head_tiles, task.options, shared);
    if (threadIdx.x != 0) return;
    const float p1 = write_stats<Softmax<float>>(task.out, to, state, task.options);
    put(task.certified, to, kCertifiedNot);
    put(task.rows_read, to, static_cast<int32_t>(task.vocabulary));
    put(task.p1_low, to, p1);
    put(task.p1_high, to, p1);
    return;
  }
  double sums[3] = {};
  if (task.logits != nullptr) {
    for (int64_t i = threadIdx.x; i < task.sum_tiles; i += kMergeThreads) {
      const float* const segment = task.sums + (r * task.sum_tiles + i) * 3;
#pragma unroll
      for (int k = 0; k < 3; ++k) sums[k] += static_cast<double>(segment[k]);
    }
  }
  block_reduce<Sum, kMergeThreads / kWarp, 3>(sums, scratch);
  if (threadIdx.x != 0) return;
  const ScreenRow& row = task.row[r];
  const float level = treat_logit(row.top, task.options);
  put(task.out.valid, to, uint8_t{1});
  put(task.out.argmax, to, row.leader);
  put(task.out.max_logit, to, level);
  put(task.certified, to, task.factor == 0.0f ? kCertifiedProven : kCertifiedCalibrated);
  put(task.rows_read, to, row.read);
  // What f32 loses of terms and sums is far below this share, and the full head's 1e-6 too.
  constexpr float kSlack = 1e-5f;
  const float sum = fmaxf(static_cast<float>(sums[0]), 1.0f);
  const float least = fmaxf(static_cast<float>(sums[1]), 1.0f);
  const float largest = fmaxf(static_cast<float>(sums[2]), 1.0f);
  put(task.out.lse, to, level + logf(sum));
  put(task.out.p1, to, 1.0f / sum);
  put(task.p1_low, to, (1.0f - kSlack) / largest);
  put(task.p1_high, to, fminf((1.0f + kSlack) / least, 1.0f));
}

}  // namespace exn::cuda
