// SPDX-License-Identifier: Apache-2.0
#include "worth.h"

#include <exeunt/exeunt.h>

#include <algorithm>

#include "elementwise.h"

namespace exn::ort {
namespace {

// What decides which of the two is faster at a product.
enum Kind {
  kFused,       // f32 and f16 with a norm before or after it
  kWide,        // f32
  kWideGelu,    // the same with an activation of several passes
  kWideGroup,   // the same beside others with the same input, whose weights count together
  kWideHead,    // the same as a head that writes no logits
  kNarrow,      // f16, and f32 that bf16 holds: half of the bytes
  kNarrowHead,  // the same as a head
  kEighths,     // bytes that ONNX Runtime widens before it multiplies
  kFourths,     // the same of 4 bits
  kBytes,       // both where it multiplies them by inputs rounded to bytes
  kBytesLong,   // the same with a scale for more than 32 elements
  kKinds
};

// From how many weights (K N) on a product is taken.
struct Least {
  int64_t few;      // fewer than 4 rows
  int64_t several;  // 4 to 63
  int64_t many;     // 64 or more
};

constexpr int64_t kKi = 1024, kNever = INT64_MAX;
constexpr Least kLeast[kKinds] = {
    {64 * kKi, 0, 0},                       // kFused
    {2048 * kKi, 512 * kKi, 2048 * kKi},    // kWide
    {512 * kKi, 512 * kKi, 512 * kKi},      // kWideGelu
    {1536 * kKi, 1024 * kKi, 2048 * kKi},   // kWideGroup
    {1024 * kKi, 1024 * kKi, kNever},       // kWideHead
    {128 * kKi, 512 * kKi, 1024 * kKi},     // kNarrow
    {128 * kKi, 512 * kKi, 16384 * kKi},    // kNarrowHead
    {64 * kKi, 128 * kKi, 512 * kKi},       // kEighths
    {64 * kKi, 128 * kKi, 1024 * kKi},      // kFourths
    {16384 * kKi, 1024 * kKi, 1024 * kKi},  // kBytes
    {16384 * kKi, 4096 * kKi, 4096 * kKi},  // kBytesLong
};

// The first release, 1.25, that multiplies what DequantizeLinear makes of bytes, with a scale for a
// column or a block, as it multiplies MatMulNBits of accuracy_level 4.
constexpr int kRoundsBytes = 25;

Kind kind_of(const Graph& g, const Group& group, const Product& p, int release) {
  if (p.storage == Storage::kDense) {
    const bool narrow =
        p.product_type != kFloat || holds_bf16(view_of(g.api, g.values[p.weight].constant));
    if (p.head) return narrow ? kNarrowHead : kWideHead;
    if (group.prologue_norm != EXN_NORM_NONE || p.norm != EXN_NORM_NONE) return kFused;
    if (narrow) return kNarrow;
    if (group.products.size() > 1) return kWideGroup;
    const bool simple = p.activation == Activation::kNone || p.activation == Activation::kRelu;
    return simple ? kWide : kWideGelu;
  }
  if (p.storage == Storage::kBits) {
    if (g.integer(g.nodes[p.node], "accuracy_level", 0) != 4) {
      return p.bits == 4 ? kFourths : kEighths;
    }
    return p.block > 32 ? kBytesLong : kBytes;
  }
  return p.block < 0 || release < kRoundsBytes ? kEighths : kBytes;
}

// Of rows that are not known (-1) there may be any number.
int64_t least(const Least& of, int64_t rows) {
  if (rows < 0) return std::max({of.few, of.several, of.many});
  return rows < 4 ? of.few : rows < 64 ? of.several : of.many;
}

}  // namespace

bool worth(const Graph& g, const Group& group, int release) {
  const std::vector<int64_t>& shape = g.values[group.input].shape;
  int64_t rows = shape.empty() ? -1 : 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) {
    rows = shape[i] < 0 || rows < 0 ? -1 : rows * shape[i];
  }
  int64_t worthy = 0, all = 0;  // weights
  for (const Product& p : group.products) all += p.rows * p.columns;
  for (const Product& p : group.products) {
    const Kind kind = kind_of(g, group, p, release);
    const int64_t weights = p.rows * p.columns;
    // ONNX Runtime alone has no products of bf16.
    if (p.product_type == kBfloat16 ||
        (kind == kWideGroup ? all : weights) >= least(kLeast[kind], rows)) {
      worthy += weights;
    }
  }
  return 2 * worthy >= all;
}

}  // namespace exn::ort
