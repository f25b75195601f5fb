// SPDX-License-Identifier: Apache-2.0
// The image of a screen (exeunt/screen.h): its header, and where its arrays are.
#pragma once

#include <cstddef>
#include <cstring>
#include <initializer_list>

#include "args.h"
#include "digest.h"

namespace exn {

constexpr int64_t kScreenHeaderBytes = 4096;
constexpr int kScreenSegments = 3;
constexpr int kScreenGroups = 8;  // at most
constexpr int64_t kScreenMostDim = 16384, kScreenMostLevels = 1024;
constexpr uint32_t kScreenVersion = 3;  // of what an image holds, and of what is proven of it
constexpr int64_t kScreenAlign = 64;
constexpr char kScreenMagic[9] = "EXNSCRN\n";
constexpr Blocks kScreenFormats[kScreenSegments] = {Blocks::kQ8_0, Blocks::kQ5_0, Blocks::kQ4_0};

// As it lies at the beginning of an image; zeros after it.
struct ScreenHeader {
  char magic[8];
  uint32_t version;
  int32_t levels;
  int64_t bytes;  // of the image
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
  uint64_t head[2];  // digests of the head, and of what follows the header
  uint64_t body[2];
  uint64_t own;  // of all before it
};
static_assert(sizeof(ScreenHeader) < kScreenHeaderBytes && sizeof(ScreenHeader) % 8 == 0);

// Where the arrays of an image begin, in bytes from its own beginning.
struct ScreenLayout {
  int64_t blocks;  // 32s of columns
  int64_t codes_stride;
  int64_t means;     // f32 [levels, D]
  int64_t base;      // f32 [levels, V]: w_v m
  int64_t rotation;  // f32 [D, D]: P
  int64_t sigma;     // f32 [32 blocks]: s
  int64_t codes;     // u8 [groups + 1, codes_stride]: norms by groups, and K
  int64_t segments[kScreenSegments];
  int64_t bytes;
};

EXN_INLINE int64_t whole_lines(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// What the products of a segment of so many blocks take at their fastest, in sixteenths of what 512
// columns do. Of short rows several share that if they fill it; other rests are unpacked for
// themselves.
EXN_INLINE int64_t screen_work(int64_t blocks) {
  const int64_t rest = blocks % 16;
  if (blocks < 16) return rest == 0 || 16 % rest == 0 ? rest : 24;
  return blocks - rest + (rest == 0 ? 0 : rest <= 4 ? 6 : rest <= 8 ? 9 : 20);
}

// Whether a row of so many blocks may be split so: at most an eighth more work than in one segment.
EXN_INLINE bool may_split(int64_t blocks, int64_t eight, int64_t five) {
  const int64_t four = blocks - eight - five, whole = screen_work(blocks);
  return four >= 0 &&
         screen_work(eight) + screen_work(five) + screen_work(four) <= whole + whole / 8;
}

// How much a row of Q takes beyond Q4_0 everywhere, in steps of 4 bytes: one for a block in Q5_0,
// four for one in Q8_0. The most that such bits pay for, and that some parting comes to.
EXN_INLINE int64_t screen_steps(int64_t blocks, float bits) {
  const auto bytes =
      static_cast<int64_t>(static_cast<double>(bits) * 4 * static_cast<double>(blocks));
  int64_t steps = (bytes - 18 * blocks) / 4;
  steps = steps < 0 ? 0 : steps > 4 * blocks ? 4 * blocks : steps;
  for (; steps > 0; --steps) {
    for (int64_t eight = 0; 4 * eight <= steps; ++eight) {
      if (may_split(blocks, eight, steps - 4 * eight)) return steps;
    }
  }
  return 0;
}

EXN_INLINE int32_t screen_groups(int64_t blocks) {
  return blocks < kScreenGroups ? static_cast<int32_t>(blocks) : kScreenGroups;
}

// Of sound numbers. The size is the same for every split with as many steps.
EXN_INLINE ScreenLayout layout_of(const ScreenHeader& h) {
  ScreenLayout at;
  const int64_t vocabulary = h.vocabulary, dim = h.dim, levels = h.levels;
  at.blocks = (dim + 31) / 32;
  at.codes_stride = whole_lines(vocabulary);
  at.means = kScreenHeaderBytes;
  at.base = at.means + whole_lines(levels * dim * 4);
  at.rotation = at.base + whole_lines(levels * vocabulary * 4);
  at.sigma = at.rotation + whole_lines(dim * dim * 4);
  at.codes = at.sigma + whole_lines(at.blocks * 32 * 4);
  int64_t end = at.codes + (h.groups + 1) * at.codes_stride, row = 0;
  for (int i = 0; i < kScreenSegments; ++i) {
    at.segments[i] = end;
    const int64_t bytes = h.segments[i] * int64_t{shape_of(kScreenFormats[i]).bytes};
    row += bytes;
    end += whole_lines(vocabulary * bytes);
  }
  at.bytes = at.segments[0] + whole_lines(vocabulary * row) + kScreenSegments * 64;
  return at;
}

// Of a head: its shape, what it is made of, and its rows. Nothing else of a model enters the proof:
// the norm before the head and a scale or cap of its logits are the same with a screen and without.
EXN_INLINE Digest digest_of(const Matrix& head) {
  Digest digest;
  for (const int64_t n : {head.rows, head.cols, static_cast<int64_t>(head.dtype),
                          static_cast<int64_t>(head.blocks)}) {
    digest.number(n);
  }
  const int64_t bytes = row_bytes(head);
  const int64_t pitch =
      head.blocks == Blocks::kNone ? head.stride * size_of(head.dtype) : head.stride;
  const int64_t pieces = pitch == bytes ? 1 : head.rows, piece = head.rows / pieces * bytes;
  for (int64_t i = 0; i < pieces; ++i)
    digest.bytes(static_cast<const char*>(head.data) + i * pitch, piece);
  return digest;
}

// Of a header, all before its own checksum, in words of eight bytes: every run takes it.
template <class Header>
EXN_INLINE uint64_t own_digest(const Header& h) {
  const auto turned = [](uint64_t x, int by) { return x << by | x >> (64 - by); };
  constexpr size_t kBytes = offsetof(Header, own);
  static_assert(kBytes % 8 == 0);
  uint64_t a = 0x9e3779b97f4a7c15u, b = 0xc2b2ae3d27d4eb4fu;
  for (size_t i = 0; i <= kBytes; i += 8) {
    uint64_t word = kBytes;
    if (i < kBytes) std::memcpy(&word, reinterpret_cast<const char*>(&h) + i, sizeof word);
    a = turned(a ^ word, 29) * 0x9fb21c651e98df25u;
    b = turned(b + word, 23) * 0xd6e8feb86659fd93u;
  }
  return a ^ b;
}

// What exn_screen_build works on.
struct ScreenArgs {
  Matrix weight;
  Matrix states;
  const int32_t* levels = nullptr;  // [states.rows]; null: all of level 0
  ScreenHeader* header = nullptr;   // planned; what only the data tell is filled in
  char* image = nullptr;
};

// What is wrong with a header at the beginning of `bytes` bytes, as a sentence's end; null if
// nothing is. Enough for a run to read nothing but the image.
EXN_INLINE const char* wrong_in(const ScreenHeader& h, int64_t bytes) {
  if (std::memcmp(h.magic, kScreenMagic, sizeof h.magic) != 0) return "does not begin as one";
  if (h.version != kScreenVersion) return "is of another version";
  if (own_digest(h) != h.own) return "has a damaged header: its checksum differs";
  if (h.vocabulary < 1 || h.vocabulary > INT32_MAX) return "has an impossible vocabulary";
  if (h.dim < 1 || h.dim > kScreenMostDim) return "has an impossible D";
  if (h.levels < 1 || h.levels > kScreenMostLevels) return "has an impossible number of levels";
  const int64_t blocks = (h.dim + 31) / 32;
  int64_t columns = 0;
  for (const int32_t segment : h.segments) {
    if (segment < 0 || segment > blocks) return "has impossible parts";
    columns += segment;
  }
  if (columns != blocks) return "has parts that are not all of its columns";
  if (h.groups < 1 || h.groups > kScreenGroups) return "has an impossible number of groups";
  int32_t end = 0;
  for (int g = 0; g < h.groups; ++g) {
    if (h.ends[g] <= end) return "has groups in no order";
    end = h.ends[g];
  }
  if (end != blocks) return "has groups that are not all of its columns";
  if (h.bytes != layout_of(h).bytes) return "has an impossible size";
  if (h.bytes != bytes) return "is not as long as it says";
  return nullptr;
}

}  // namespace exn
