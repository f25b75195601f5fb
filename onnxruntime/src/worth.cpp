// SPDX-License-Identifier: Apache-2.0
#include "worth.h"

#include <exeunt/exeunt.h>

#include "elementwise.h"

namespace exn::ort {
namespace {

// What decides who is faster at a product.
enum Kind {
  kWide,         // f32
  kWideGelu,     // the same with an activation of several passes
  kWideGroup,    // the same beside others with the same input, whose weights count together
  kWideFused,    // the same with a norm before or after it
  kWideHead,     // the same as a head that writes no logits
  kNarrow,       // f16, and f32 that bf16 holds: half of the bytes
  kNarrowFused,  // the same with a norm
  kNarrowHead,
  kBlocks,     // bytes or 4 bits that ONNX Runtime widens before it multiplies
  kBytes,      // those that it multiplies by inputs rounded to bytes
  kBytesLong,  // the same with a scale for more than 32 elements
  kKinds
};

// From how many weights (K N) on a product is taken.
struct Least {
  int64_t few;      // fewer than 4 rows
  int64_t several;  // 4 to 63
  int64_t many;     // 64 or more
  int64_t unknown;
};

constexpr int64_t kKi = 1024, kNever = INT64_MAX;
constexpr Least kLeast[kKinds] = {
    {2048 * kKi, 512 * kKi, 2048 * kKi, 2048 * kKi},   // kWide
    {2048 * kKi, 512 * kKi, 512 * kKi, 512 * kKi},     // kWideGelu
    {1536 * kKi, 384 * kKi, 1024 * kKi, 384 * kKi},    // kWideGroup
    {2048 * kKi, 0, 0, 0},                             // kWideFused
    {512 * kKi, 1024 * kKi, kNever, 2048 * kKi},       // kWideHead
    {128 * kKi, 512 * kKi, 2048 * kKi, 512 * kKi},     // kNarrow
    {0, 0, 0, 0},                                      // kNarrowFused
    {128 * kKi, 512 * kKi, kNever, 512 * kKi},         // kNarrowHead
    {64 * kKi, 128 * kKi, 512 * kKi, 128 * kKi},       // kBlocks
    {4096 * kKi, 1024 * kKi, 1024 * kKi, 4096 * kKi},  // kBytes
    {8192 * kKi, 4096 * kKi, 4096 * kKi, 8192 * kKi},  // kBytesLong
};

// The first release, 1.25, that multiplies what DequantizeLinear makes of bytes, with a scale for a
// column or a block, as it multiplies MatMulNBits of accuracy_level 4.
constexpr int kRoundsBytes = 25;

Kind kind_of(const Graph& g, const Group& group, const Product& p, int release) {
  if (p.storage == Storage::kDense) {
    const bool fused = group.prologue_norm != EXN_NORM_NONE || p.norm != EXN_NORM_NONE;
    if (p.product_type != kFloat || holds_bf16(view_of(g.api, g.values[p.weight].constant))) {
      return p.head ? kNarrowHead : fused ? kNarrowFused : kNarrow;
    }
    if (p.head) return kWideHead;
    if (fused) return kWideFused;
    if (group.products.size() > 1) return kWideGroup;
    const bool simple = p.activation == Activation::kNone || p.activation == Activation::kRelu;
    return simple ? kWide : kWideGelu;
  }
  if (p.storage == Storage::kBits) {
    if (g.integer(g.nodes[p.node], "accuracy_level", 0) != 4) return kBlocks;
    return p.block > 32 ? kBytesLong : kBytes;
  }
  return p.block < 0 || release < kRoundsBytes ? kBlocks : kBytes;
}

int64_t least(const Least& of, int64_t rows) {
  return rows < 0 ? of.unknown : rows < 4 ? of.few : rows < 64 ? of.several : of.many;
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
