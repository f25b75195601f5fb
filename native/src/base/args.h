// SPDX-License-Identifier: Apache-2.0
// What the ABI layer hands a backend: one plain struct per op (args/), every value checked, made of
// what is here. A pointer is null where an optional argument was left out, and nowhere else: that of
// an empty tensor is not, whatever its caller gave. So a null tells what was given, in every op and
// on every device.
#pragma once

#include <cstddef>
#include <cstdint>

#include <exeunt/blocks.h>
#include <exeunt/core.h>

namespace exn {

enum class DType : int32_t { kF32, kF16, kBF16, kF64, kI32, kI64, kU8 };

// Everything with code in this header is forced inline: the CPU kernels include it in translation
// units that are compiled for one instruction set each, and a shared out-of-line copy could carry
// instructions that another machine lacks.
#define EXN_INLINE inline __attribute__((always_inline))

EXN_INLINE int64_t size_of(DType t) {
  switch (t) {
    case DType::kF64:
    case DType::kI64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kF16:
    case DType::kBF16:
      return 2;
    case DType::kU8:
      return 1;
  }
  return 0;
}

// What the rows of a quantised matrix are made of: EXN_BLOCKS_*.
enum class Blocks : int32_t {
  kNone = EXN_BLOCKS_NONE,
  kQ4_0 = EXN_BLOCKS_Q4_0,
  kQ4_1 = EXN_BLOCKS_Q4_1,
  kQ5_0 = EXN_BLOCKS_Q5_0,
  kQ5_1 = EXN_BLOCKS_Q5_1,
  kQ8_0 = EXN_BLOCKS_Q8_0,
  kQ4_K = EXN_BLOCKS_Q4_K,
  kQ5_K = EXN_BLOCKS_Q5_K,
  kQ6_K = EXN_BLOCKS_Q6_K,
  kPanelsF32 = EXN_BLOCKS_PACKED_F32,
  kPanelsF16 = EXN_BLOCKS_PACKED_F16,
  kPanelsBF16 = EXN_BLOCKS_PACKED_BF16
};

// Elements, not blocks, that exn_pack_build arranged in panels of so many rows; and those of a type.
constexpr int64_t kPanelRows = 32;
EXN_INLINE constexpr bool in_panels(Blocks blocks) {
  return blocks == Blocks::kPanelsF32 || blocks == Blocks::kPanelsF16 ||
         blocks == Blocks::kPanelsBF16;
}
EXN_INLINE constexpr Blocks panels_of(DType dtype) {
  return dtype == DType::kF16    ? Blocks::kPanelsF16
         : dtype == DType::kBF16 ? Blocks::kPanelsBF16
                                 : Blocks::kPanelsF32;
}

// Whether exn_pack_build rearranged them, and what they were before.
EXN_INLINE constexpr bool is_packed(Blocks blocks) {
  return (static_cast<int32_t>(blocks) & EXN_BLOCKS_PACKED) != 0;
}
EXN_INLINE constexpr Blocks format_of(Blocks blocks) {
  return static_cast<Blocks>(static_cast<int32_t>(blocks) & ~EXN_BLOCKS_PACKED);
}
EXN_INLINE constexpr Blocks packed(Blocks blocks) {
  return static_cast<Blocks>(static_cast<int32_t>(blocks) | EXN_BLOCKS_PACKED);
}

// Of one block.
struct BlockShape {
  int32_t elements;
  int32_t bytes;
};

// {0, 0}: none has such a tag.
EXN_INLINE constexpr BlockShape shape_of(Blocks blocks) {
  if (in_panels(blocks)) return {1, blocks == Blocks::kPanelsF32 ? 4 : 2};
  switch (format_of(blocks)) {
    case Blocks::kNone:
    case Blocks::kPanelsF32:
    case Blocks::kPanelsF16:
    case Blocks::kPanelsBF16:
      break;
    case Blocks::kQ4_0:
      return {32, 18};
    case Blocks::kQ4_1:
      return {32, 20};
    case Blocks::kQ5_0:
      return {32, 22};
    case Blocks::kQ5_1:
      return {32, 24};
    case Blocks::kQ8_0:
      return {32, 34};
    case Blocks::kQ4_K:
      return {256, 144};
    case Blocks::kQ5_K:
      return {256, 176};
    case Blocks::kQ6_K:
      return {256, 210};
  }
  return {0, 0};
}

// Products of counts, which are not negative: INT64_MAX where one has no such number. Whatever a
// caller's numbers are multiplied with goes through here, unless a tensor has as many elements.
EXN_INLINE constexpr int64_t product(int64_t a, int64_t b) {
  int64_t all = 0;
  return __builtin_mul_overflow(a, b, &all) ? INT64_MAX : all;
}
template <class... More>
EXN_INLINE constexpr int64_t product(int64_t a, int64_t b, More... more) {
  return product(product(a, b), more...);
}

// Hands out pieces of the caller's workspace, each 64-byte aligned. Without one it only counts, and
// one that is too small turns out to have only counted: counting() tells, after the last piece. No
// workspace is large enough for more than kMostBytes, of which no count goes astray.
class Workspace {
 public:
  static constexpr size_t kMostBytes = size_t{1} << 62;

  EXN_INLINE Workspace() : base_(nullptr), bytes_(0), has_base_(false) {}
  EXN_INLINE Workspace(void* base, size_t bytes)
      : base_(static_cast<char*>(base)), bytes_(bytes), has_base_(true) {}

  template <class T>
  EXN_INLINE T* take(int64_t count) {
    const size_t at = used_;
    const auto bytes = static_cast<size_t>(product(count, static_cast<int64_t>(sizeof(T))));
    used_ += bytes < kMostBytes ? (bytes + 63) / 64 * 64 : kMostBytes + 1;
    if (used_ > kMostBytes) used_ = kMostBytes + 1;
    return counting() ? nullptr : reinterpret_cast<T*>(base_ + at);
  }
  EXN_INLINE bool counting() const { return !has_base_ || used_ > bytes_ || used_ > kMostBytes; }
  EXN_INLINE size_t used() const { return used_; }
  // Whether the call may multiply in tiles (AMX), which a backend without them never asks.
  EXN_INLINE void use_tiles(bool tiles) { tiles_ = tiles; }
  EXN_INLINE bool tiles() const { return tiles_; }
  // Whether products of two bf16 are made of pairs, where the set has them. Decides their bits.
  EXN_INLINE void use_pairs(bool pairs) { pairs_ = pairs; }
  EXN_INLINE bool pairs() const { return pairs_; }

 private:
  char* base_;
  size_t bytes_;
  size_t used_ = 0;
  bool has_base_;
  bool tiles_ = false, pairs_ = false;
};

// A matrix with unit column stride. data is null when the argument was left out, here as below.
struct Matrix {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;             // elements between rows
  Blocks blocks = Blocks::kNone;  // else dtype is u8, and stride in bytes; cols are elements still
};

// Bytes of a row without its padding.
EXN_INLINE int64_t row_bytes(const Matrix& m) {
  if (m.blocks == Blocks::kNone) return m.cols * size_of(m.dtype);
  const BlockShape block = shape_of(m.blocks);
  return m.cols / block.elements * block.bytes;
}

// Some rows of a matrix, which may be absent.
EXN_INLINE Matrix rows_of(const Matrix& matrix, int64_t first, int64_t count) {
  if (matrix.data == nullptr) return matrix;
  Matrix slice = matrix;
  slice.data = static_cast<char*>(matrix.data) + first * matrix.stride * size_of(matrix.dtype);
  slice.rows = count;
  return slice;
}

// A compact vector (or a compact tensor seen flat).
struct Vector {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t size = 0;
};

// [R,H,dh] with compact heads.
struct Heads {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t heads = 0;
  int64_t dim = 0;     // dh
  int64_t stride = 0;  // elements between rows
};

// A tensor of any rank, seen along one axis as [outer, size, inner]; strides in elements.
struct Axis {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t outer = 1;
  int64_t size = 0;
  int64_t inner = 1;
  int64_t outer_stride = 0;
  int64_t stride = 0;
};

// A described KV cache; strides in elements. Paged if `blocks` is not null: then
// sequence_stride is unused.
struct KvCache {
  void* k = nullptr;
  void* v = nullptr;
  DType dtype = DType::kF32;
  int64_t sequences = 0;
  int64_t heads = 0;
  int64_t slots = 0;  // T, capacity of a sequence
  int64_t dim = 0;
  int64_t sequence_stride = 0;
  int64_t head_stride = 0;
  int64_t slot_stride = 0;
  const int32_t* blocks = nullptr;  // [sequences, block_count]
  int64_t block_count = 0;
  int64_t page = 0;   // slots of a page
  int64_t pages = 0;  // P
  int64_t page_stride = 0;
};

// RoPE: cosines and sines [positions, pairs, 2].
struct RopeTable {
  const float* data = nullptr;
  int64_t positions = 0;
  int64_t pairs = 0;
};

// Null where not asked for.
struct StatsOut {
  int32_t* argmax = nullptr;
  float* max_logit = nullptr;
  float* lse = nullptr;
  float* p1 = nullptr;
  float* p2 = nullptr;
  float* margin = nullptr;
  float* entropy = nullptr;
  float* pow2_entropy = nullptr;
  float* mean_log_p = nullptr;
  uint8_t* valid = nullptr;
  const int32_t* labels = nullptr;  // with label_log_p
  float* label_log_p = nullptr;
  int32_t* draw = nullptr;  // with draw_key and draw_counter
  const int64_t* draw_key = nullptr;
  const int64_t* draw_counter = nullptr;
  const float* draw_temperature = nullptr;  // null: 1 each
};

// How many columns of each row are kept, and where the list goes (exn_selection). indices is null
// where none is made.
struct Selection {
  int32_t* indices = nullptr;         // [rows, capacity]
  int64_t capacity = 0;               // K
  int32_t* count = nullptr;           // [rows]
  uint8_t* valid = nullptr;           // [rows]
  const int32_t* budget = nullptr;    // [rows, segment_count]
  const int32_t* segments = nullptr;  // [segment_count + 1]; null: one of all columns
  int64_t segment_count = 1;
  const int32_t* keep = nullptr;  // [keep_count, 2] for each row, keep_stride elements apart
  int64_t keep_count = 0;
  int64_t keep_stride = 0;  // 0: one set for all rows
  const int32_t* drop = nullptr;
  int64_t drop_count = 0;
  int64_t drop_stride = 0;
  int64_t k = 0;

  EXN_INLINE bool writes() const { return capacity > 0 || count != nullptr || valid != nullptr; }
};

}  // namespace exn
