// SPDX-License-Identifier: Apache-2.0
//
// The image of a screen, whether it is sound, and what the kernels of screen.cuh hand on.
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
  bool has_blocks;    // the full head
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

}  // namespace exn::cuda
