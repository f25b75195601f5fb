// SPDX-License-Identifier: Apache-2.0
// How quantised weights are walked: for one input a tile is parted into runs that are read side by
// side, since their rows share what is loaded of the input; for several, rows are taken in pairs or
// singly, and unpacked once for up to eight inputs each, of which so many columns pass by as stay
// in L1.
#include "block_products.h"

#if defined(EXN_HAS_BYTE_DOT)
#include "block_bytes.h"
#else
#include "block_words.h"
#endif

namespace exn::cpu::EXN_ISA {
namespace {

// What a row prefetches of what it reads.
enum class Ahead { kNothing, kOwn };
constexpr int kBlocksAhead = 4 << 10;

// Steps of rows: [begin, whole), and then one with `rest` times 32 elements if that is not 0.
struct Steps {
  int64_t begin, whole;
  int rest;
};

// Adds to the sums of a block of kW x kX.
template <Blocks kBlocks, int kW, int kX, Ahead kAhead>
EXN_SIMD void add_steps(const uint8_t* const* weight, const Steps& steps, const char* input,
                        int64_t stride, f32v (&sums)[kW * kX]) {
  using S = Step<kBlocks>;
  const uint8_t* rows[kW];
  for (int w = 0; w < kW; ++w) rows[w] = weight[w];
  input += steps.begin * S::kInputBytes;
  int64_t at = steps.begin * S::kBytes;
  for (const int64_t end = steps.whole * S::kBytes; at < end; at += S::kBytes) {
    if constexpr (kAhead == Ahead::kOwn) {
      for (int w = 0; w < kW; ++w)
        prefetch_lines<(S::kBytes + 63) / 64>(rows[w] + at + kBlocksAhead);
      in_order();
    }
    add_step<kBlocks, kW, kX, true>(rows, at, 0, input, stride, sums);
    input += S::kInputBytes;
  }
  if constexpr (!S::kLong) {
    if (steps.rest > 0) {
      add_step<kBlocks, kW, kX, false>(rows, at, steps.rest, input, stride, sums);
    }
  }
}

// Runs that are read side by side for a single input.
constexpr int kRuns = kLanes == 16 ? 4 : 2;

template <Blocks kBlocks, int kW, Ahead kAhead>
EXN_SIMD void rows_by_one(const uint8_t* const* rows, const Steps& steps, const char* input,
                          float* out) {
  f32v sums[kW];
  for (f32v& sum : sums) sum = zero();
  add_steps<kBlocks, kW, 1, kAhead>(rows, steps, input, 0, sums);
  fold_vectors(sums, out);
}

template <Blocks kBlocks, Ahead kAhead>
__attribute__((noinline)) void single_input(const WeightRows<uint8_t>& weight, const char* input,
                                            const Steps& steps, float* out) {
  const int64_t each = weight.count / kRuns;
  for (int64_t w = 0; w < each; ++w) {
    const uint8_t* rows[kRuns];
    for (int i = 0; i < kRuns; ++i) rows[i] = weight.at[i * each + w];
    float sums[kRuns];
    rows_by_one<kBlocks, kRuns, kAhead>(rows, steps, input, sums);
    for (int i = 0; i < kRuns; ++i) out[i * each + w] = sums[i];
  }
  for (int64_t w = kRuns * each; w < weight.count; ++w) {
    rows_by_one<kBlocks, 1, Ahead::kNothing>(weight.at + w, steps, input, out + w);
  }
}

// Rows of a block for several inputs, and inputs.
template <Blocks kBlocks>
constexpr int kSide = BlockTraits<kBlocks>::kLong ? 1 : 2;
constexpr int kMost = kLanes == 16 ? 8 : 4;
// Rows whose sums wait in memory while inputs pass by in parts that stay in L1.
constexpr int64_t kPanelRows = 128;
static_assert(kPanelRows * kMost * kLanes <= ProductScratch::kFloats);

// Of kW rows and kX inputs; sums of other columns come in and go out unless these are the first or
// the last.
template <Blocks kBlocks, int kW, int kX>
EXN_SIMD void rows_by_several(const uint8_t* const* rows, const Steps& steps, bool last,
                              const char* input, int64_t stride, float* waiting, float* out,
                              int64_t out_stride) {
  f32v sums[kW * kX];
  for (int i = 0; i < kW * kX; ++i)
    sums[i] = steps.begin == 0 ? zero() : load(waiting + i * kLanes);
  add_steps<kBlocks, kW, kX, Ahead::kNothing>(rows, steps, input, stride, sums);
  if (!last) {
    for (int i = 0; i < kW * kX; ++i) store(waiting + i * kLanes, sums[i]);
    return;
  }
  float folded[kW * kX];
  fold_vectors(sums, folded);
  for (int x = 0; x < kX; ++x) {
    for (int w = 0; w < kW; ++w) out[x * out_stride + w] = folded[x * kW + w];
  }
}

template <Blocks kBlocks, int kX>
__attribute__((noinline)) void several_inputs(const uint8_t* const* weight, int64_t count,
                                              const Steps& all, const char* input, int64_t stride,
                                              float* out, int64_t out_stride, float* waiting) {
  constexpr int kW = kSide<kBlocks>;
  constexpr int64_t kStay = (int64_t{20} << 10) / (kX * Step<kBlocks>::kInputBytes);
  const int64_t parts = all.whole / (kStay + 1) + 1;
  for (int64_t part = 0; part < parts; ++part) {
    const bool last = part + 1 == parts;
    const Steps steps = {all.whole * part / parts, all.whole * (part + 1) / parts,
                         last ? all.rest : 0};
    int64_t w = 0;
    for (; w + kW <= count; w += kW) {
      rows_by_several<kBlocks, kW, kX>(weight + w, steps, last, input, stride,
                                       waiting + w * kX * kLanes, out + w, out_stride);
    }
    if constexpr (kW > 1) {
      for (; w < count; ++w) {
        rows_by_several<kBlocks, 1, kX>(weight + w, steps, last, input, stride,
                                        waiting + w * kX * kLanes, out + w, out_stride);
      }
    }
  }
}

template <Blocks kBlocks, int kX = kMost, class... Rest>
EXN_SIMD void up_to(int64_t inputs, const Rest&... rest) {
  if constexpr (kX > 1) {
    if (inputs < kX) {
      up_to<kBlocks, kX - 1>(inputs, rest...);
      return;
    }
  }
  several_inputs<kBlocks, kX>(rest...);
}

template <Blocks kBlocks>
void products(const WeightRows<uint8_t>& weight, const Inputs& in, int64_t inputs, int64_t dim,
              float* out, int64_t out_stride, float* waiting) {
  using S = Step<kBlocks>;
  const Steps steps = {0, dim / S::kElements, static_cast<int>(dim % S::kElements) / 32};
  if (inputs == 1) {
    in.far ? single_input<kBlocks, Ahead::kOwn>(weight, in.rounded, steps, out)
           : single_input<kBlocks, Ahead::kNothing>(weight, in.rounded, steps, out);
    return;
  }
  // Weights of a panel stay in L2 while the inputs pass by.
  const int64_t bytes = dim / BlockTraits<kBlocks>::kElements * BlockTraits<kBlocks>::kBytes;
  const int64_t fit = (int64_t{128} << 10) / bytes / 2 * 2;
  const int64_t panel = fit < 2 ? 2 : fit < kPanelRows ? fit : kPanelRows;
  const int64_t groups = (inputs + kMost - 1) / kMost;
  for (int64_t w = 0; w < weight.count; w += panel) {
    const int64_t count = w + panel < weight.count ? panel : weight.count - w;
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t x = inputs * g / groups, end = inputs * (g + 1) / groups;
      up_to<kBlocks>(end - x, weight.at + w, count, steps, in.rounded + x * in.rounded_stride,
                     in.rounded_stride, out + x * out_stride + w, out_stride, waiting);
    }
  }
}

// Calls f(integral_constant blocks).
template <class F>
EXN_SIMD void with_blocks(Blocks blocks, F&& f) {
  const auto as = [&](auto known) EXN_FLAT { f(known); };
  switch (blocks) {
    case Blocks::kNone:
      break;
    case Blocks::kQ4_0:
      as(std::integral_constant<Blocks, Blocks::kQ4_0>());
      break;
    case Blocks::kQ4_1:
      as(std::integral_constant<Blocks, Blocks::kQ4_1>());
      break;
    case Blocks::kQ5_0:
      as(std::integral_constant<Blocks, Blocks::kQ5_0>());
      break;
    case Blocks::kQ5_1:
      as(std::integral_constant<Blocks, Blocks::kQ5_1>());
      break;
    case Blocks::kQ8_0:
      as(std::integral_constant<Blocks, Blocks::kQ8_0>());
      break;
    case Blocks::kQ4_K:
      as(std::integral_constant<Blocks, Blocks::kQ4_K>());
      break;
    case Blocks::kQ5_K:
      as(std::integral_constant<Blocks, Blocks::kQ5_K>());
      break;
    case Blocks::kQ6_K:
      as(std::integral_constant<Blocks, Blocks::kQ6_K>());
      break;
  }
}

template <Blocks kBlocks>
constexpr int64_t input_bytes(int64_t dim) {
  using S = Step<kBlocks>;
  static_assert(S::kInputBytes % 64 == 0);
  return product((dim - 1) / S::kElements + 1, int64_t{S::kInputBytes});
}

}  // namespace

int64_t rounded_bytes(const Matrix& weight) {
  int64_t bytes = 0;
  with_blocks(weight.blocks,
              [&](auto b) EXN_FLAT { bytes = input_bytes<decltype(b)::value>(weight.cols); });
  return bytes;
}

void round_input(const Matrix& weight, const float* x, char* to) {
  with_blocks(weight.blocks, [&](auto b) EXN_FLAT {
    constexpr Blocks kBlocks = decltype(b)::value;
    std::memset(to, 0, static_cast<size_t>(input_bytes<kBlocks>(weight.cols)));
    for (int64_t n = 0; n < weight.cols / 32; ++n) {
      Step<kBlocks>::put(Rounded(x + n * 32), n, to);
    }
  });
}

void into_blocks(const Matrix& weight, int64_t inputs, char* room, Inputs* in) {
  if (weight.blocks == Blocks::kNone) return;
  in->blocks = weight.blocks;
  in->rounded_stride = rounded_bytes(weight);
  in->rounded = room;
  parallel_for(inputs, 8192 / weight.cols + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      round_input(weight, in->f32 + row * in->stride, room + row * in->rounded_stride);
    }
  });
}

template <>
void row_products(const WeightRows<uint8_t>& weight, const Inputs& in, int64_t inputs, int64_t dim,
                  float* out, int64_t out_stride, ProductScratch& scratch) {
  if (inputs == 0) return;
  with_blocks(in.blocks, [&](auto b) EXN_FLAT {
    products<decltype(b)::value>(weight, in, inputs, dim, out, out_stride, scratch.at);
  });
}

}  // namespace exn::cpu::EXN_ISA
