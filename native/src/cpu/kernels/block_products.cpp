// SPDX-License-Identifier: Apache-2.0
// How quantised weights are read: for one input a tile is split into streams that are read side by
// side, since their rows share what is loaded of the input; for several, a panel of rows is
// unpacked once, for a depth block of so many columns that those of some inputs stay in L1, and is
// multiplied by these in register tiles, while what comes next is prefetched.
#include "block_products.h"

#if defined(EXN_HAS_BYTE_DOT)
#include "block_bytes.h"
#else
#include "block_words.h"
#endif

namespace exn::cpu::EXN_ISA {
namespace {

// Bytes of inputs that stay in L1 while each row is multiplied by all of them.
constexpr int64_t kNearInputs = 40 << 10;
// Elements of some inputs that stay in L1.
constexpr int64_t kDepthElements = 2048;
// Bytes of rows that were unpacked, beside those; and the most of both where inputs are so few that
// each row is multiplied by all of them at once.
constexpr int64_t kNearPanel = 16 << 10, kNearAll = 36 << 10;

// Steps of a row, the groups of 32 elements of a last one if that is not 0, and bytes that the row
// ends with which are multiplied apart, but come from memory with it.
struct Steps {
  int64_t whole;
  int rest;
  int64_t end_bytes;
};

// Adds the products of kW rows with kX inputs to their sums. What lies `ahead` bytes further on is
// prefetched: a constant, but near the end of a stream, since it takes a register.
template <class S, int kW, int kX, class Ahead>
EXN_SIMD void add_steps(const uint8_t* const* weight, const Steps& steps, Ahead ahead,
                        const char* input, int64_t stride, f32v (&sums)[kW * kX]) {
  const uint8_t* rows[kW];
  for (int w = 0; w < kW; ++w) rows[w] = weight[w];
  int64_t at = 0;
  for (const int64_t end = steps.whole * S::kBytes; at < end; at += S::kBytes) {
    add_step<S, kW, kX>(rows, at, ahead, input, stride, sums);
    input += S::kInputBytes;
  }
  if constexpr (S::kRests) {
    if (steps.rest > 0) add_rest<S, kW, kX>(rows, at, steps.rest, input, stride, sums);
  }
}

// Floats that fold_sums may write.
template <int kN>
constexpr int kFolded = (kN + 15) / 16 * 16;

// Rows that are read side by side for few inputs, each from a stream of its own.
constexpr int kStreams = kLanes < 16 ? 2 : 4;
// How many of them go through the steps together: with more than four inputs the registers hold the
// sums of one.
template <int kX>
constexpr int kStreamsAtOnce = kX > 4 ? 1 : kStreams;

template <class S, int kX>
__attribute__((noinline)) void few_inputs(const WeightRows<uint8_t>& weight, const char* input,
                                          int64_t stride, const Steps& steps, float* out,
                                          int64_t out_stride) {
  constexpr int kSide = kStreamsAtOnce<kX>;
  const int64_t each = (weight.count + kStreams - 1) / kStreams;
  // Where a stream ends, that of the next tile is prefetched, if that lies there.
  const int64_t pitch = weight.count > 1 ? weight.at[1] - weight.at[0] : 0;
  const bool goes_on = weight.reach > 0 && pitch > 0 &&
                       weight.at[weight.count - 1] == weight.at[0] + (weight.count - 1) * pitch;
  const int64_t last = goes_on ? each - kBlockPrefetchDistance / pitch : each;
  for (int64_t n = 0; n < each * kStreams; n += kSide) {
    const uint8_t* rows[kSide];
    int64_t ids[kSide];
    bool more = false;
    for (int i = 0; i < kSide; ++i) {
      // The last run is filled up.
      const int64_t id = (n + i) % kStreams * each + n / kStreams;
      more |= id < weight.count;
      ids[i] = id < weight.count ? id : weight.count - 1;
      rows[i] = weight.at[ids[i]];
    }
    if (!more) continue;
    f32v sums[kSide * kX];
#pragma GCC unroll 16
    for (f32v& sum : sums) sum = zero();
    const auto add_all = [&](auto ahead) EXN_FLAT {
      add_steps<S, kSide, kX>(rows, steps, ahead, input, stride, sums);
      const int64_t ends = steps.whole * S::kBytes + ahead;
      for (int64_t at = ends; at < ends + steps.end_bytes; at += kLine) {
        for (const uint8_t* row : rows) prefetch_lines<1>(row + at);
      }
    };
    if (n / kStreams < last) {
      add_all(std::integral_constant<int64_t, kBlockPrefetchDistance>());
    } else {
      add_all(kBlockPrefetchDistance + (goes_on ? (weight.count - each) * pitch : 0));
    }
    float folded[kFolded<kSide * kX>];
    fold_sums<kSide * kX>(sums, folded);
    for (int x = 0; x < kX; ++x) {
      for (int i = 0; i < kSide; ++i) out[x * out_stride + ids[i]] = folded[x * kSide + i];
    }
  }
}

// A panel of rows that were unpacked, in blocks of kUnpackedMR.
struct UnpackedPanel {
  const char* at;
  int64_t pitch, count;
  Steps steps;
  bool first, last;  // of the columns
};

// Accumulators that wait in memory for the next depth block: those of a tile of rows, and how far
// on those of the next lie for each of its rows.
struct PartialSums {
  float* at;
  int64_t pitch;
};

// What is prefetched meanwhile: of the `count` rows `at` that come next, bytes [begin, end).
struct Upcoming {
  const uint8_t* const* at;
  int64_t count, begin, end;
};

// Multiplies an unpacked panel by kX inputs, kW rows at a time.
template <class S, int kX, int kW>
__attribute__((noinline)) void panel_microkernel(const UnpackedPanel& unpacked,
                                                 const PartialSums& between, const char* input,
                                                 int64_t stride, const Upcoming& upcoming,
                                                 float* out, int64_t out_stride) {
  const int64_t whole = unpacked.steps.whole, most = kLine * (whole > 0 ? whole : 1);
  const int64_t lines = (upcoming.end - upcoming.begin + most - 1) / most;
  for (int64_t w = 0; w < unpacked.count; w += kW) {
    const char* rows[kW];
    const uint8_t* next[kW];
    for (int i = 0; i < kW; ++i) {
      // The last block is filled up.
      rows[i] = unpacked.at + (w + i < unpacked.count ? w + i : w) * unpacked.pitch;
      next[i] = w + i < upcoming.count ? upcoming.at[w + i] + upcoming.begin : nullptr;
    }
    const int64_t ahead = next[kW - 1] != nullptr ? lines : 0;
    float* const partial_sums = between.at + w * between.pitch;
    f32v sums[kX * kW];
#pragma GCC unroll 16
    for (int i = 0; i < kX * kW; ++i)
      sums[i] = unpacked.first ? zero() : load(partial_sums + i * kLanes);
    int64_t at = 0;
    const char* step_input = input;
    for (const int64_t end = whole * S::kUnpackedBytes; at < end; at += S::kUnpackedBytes) {
      // All at once they would hold up the loads: a core keeps few requests in flight.
      add_unpacked<S, kW, kX>(rows, at, step_input, stride, sums, [&](int turn) EXN_FLAT {
        constexpr int kEach = S::kTurns / kW;
        if (turn >= kW * kEach) return;
        in_order();
        for (int64_t line = turn / kW; line < ahead; line += kEach) {
          prefetch_l2(next[turn % kW] + line * kLine);
        }
        in_order();
      });
      for (const uint8_t*& p : next) p += ahead * kLine;
      step_input += S::kInputBytes;
    }
    if (unpacked.steps.rest > 0) {
      add_unpacked_rest<S, kW, kX>(rows, at, unpacked.steps.rest, step_input, stride, sums);
    }
    if (!unpacked.last) {
#pragma GCC unroll 16
      for (int i = 0; i < kX * kW; ++i) store(partial_sums + i * kLanes, sums[i]);
      continue;
    }
    float folded[kFolded<kX * kW>];
    fold_sums<kX * kW>(sums, folded);
    float* to = out + w;
    if (w + kW <= unpacked.count) {
#pragma GCC unroll 8
      for (int x = 0; x < kX; ++x, to += out_stride) {
        std::memcpy(to, folded + x * kW, kW * sizeof(float));
      }
      continue;
    }
    for (int x = 0; x < kX; ++x, to += out_stride) {
      for (int i = 0; w + i < unpacked.count; ++i) to[i] = folded[x * kW + i];
    }
  }
}

// Calls f(integral_constant inputs), of which there are kLeast to kMost.
template <int kLeast, int kMost, class F>
EXN_SIMD void with_inputs(int64_t inputs, F&& f) {
  if constexpr (kMost > kLeast) {
    if (inputs < kMost) {
      with_inputs<kLeast, kMost - 1>(inputs, f);
      return;
    }
  }
  f(std::integral_constant<int, kMost>());
}

// Inputs of the smallest of several groups: five are the fewest that make some.
constexpr int kLeastOfGroups = (kUnpackedNR + 1) / 2;

// Inputs that meet rows together, at most.
EXN_SIMD int most_at_once(bool long_rows) {
  const int chosen = tuning().blocks_at_once, most = long_rows && chosen < 8 ? kUnpackedNR : chosen;
  return most < kMostUnpackedInputs ? most : kMostUnpackedInputs;
}

// Calls f(integral_constant inputs), of which there are kMost, kMost / 2, ... or 1.
template <int kMost, class F>
EXN_SIMD void power_of_two(int64_t inputs, F&& f) {
  if constexpr (kMost > 1) {
    if (inputs < kMost) {
      power_of_two<kMost / 2>(inputs, f);
      return;
    }
  }
  f(std::integral_constant<int, kMost>());
}

// Steps of a panel, from `begin` on, as they are unpacked.
template <class S>
__attribute__((noinline)) void unpack_panel(const uint8_t* const* weight, int64_t count,
                                            int64_t begin, const Steps& steps, int64_t pitch,
                                            char* to) {
  const int64_t first = begin * S::kBytes, end = first + steps.whole * S::kBytes;
  for (int64_t w = 0; w < count; ++w) {
    char* made = to + w * pitch;
    for (int64_t at = first; at < end; at += S::kBytes, made += S::kUnpackedBytes) {
      unpack_step<S>(weight[w] + at, made);
    }
  }
  if constexpr (S::kRests) {
    char* const rests = to + steps.whole * S::kUnpackedBytes;
    if (steps.rest > 0) unpack_rests<S>(weight, count, end, steps.rest, rests, pitch);
  }
}

// Calls run(inputs, rows) with the register tile of so many inputs, of one group or of several.
template <class F>
static EXN_SIMD void with_register_tile(int64_t inputs, bool several, F&& run) {
  if (several) {
    with_inputs<kLeastOfGroups, kUnpackedNR>(
        inputs, [&](auto n) EXN_FLAT { run(n, std::integral_constant<int, kUnpackedMR>()); });
  } else {
    with_inputs<kFewInputs + 1, kMostUnpackedInputs>(inputs, [&](auto n) EXN_FLAT {
      run(n, std::integral_constant<int, unpacked_rows(decltype(n)::value)>());
    });
  }
}

// Calls f with a step of S, or of one plane, where the set has that.
template <class S, class F>
static EXN_SIMD void with_planes(bool int8, F&& f) {
  if constexpr (!std::is_same_v<OnePlane<S>, S>) {
    if (int8) return f(OnePlane<S>());
  }
  f(S());
}

template <class S>
void panel_gemm(const WeightRows<uint8_t>& weight, const Inputs& in, int64_t inputs,
                const Steps& all, float* out, int64_t out_stride, ProductScratch& scratch) {
  constexpr int kMost = 4;  // rows of a block
  constexpr int64_t kDepthSteps = kDepthElements / S::kElements;
  constexpr int64_t kBytes = int64_t{sizeof scratch.at}, kSum = kLanes * int64_t{sizeof(float)};
  static_assert(kMost * (kDepthSteps * S::kUnpackedBytes + kRowBlock * kSum) <= kBytes);
  const int64_t steps = all.whole + (all.rest > 0 ? 1 : 0);
  const int64_t depth_blocks = (steps + kDepthSteps - 1) / kDepthSteps;
  const int64_t most = (steps + depth_blocks - 1) / depth_blocks, pitch = most * S::kUnpackedBytes;
  const int64_t waits = depth_blocks > 1 ? inputs * kSum : 0;  // bytes for each row
  const int64_t groups =
      inputs <= most_at_once(depth_blocks > 1) ? 1 : (inputs + kUnpackedNR - 1) / kUnpackedNR;
  const int rows = groups > 1 ? kUnpackedMR : unpacked_rows(static_cast<int>(inputs));
  // Few groups do not wait for L2: rows stay in L1 from where they are unpacked.
  const int64_t beside = groups > 1 ? kNearPanel : kNearAll - inputs * most * S::kInputBytes;
  const int64_t near = beside < kNearPanel ? beside : kNearPanel;
  const int64_t blocks = (groups > 2 ? kBytes : near) / (rows * (pitch + waits));
  const int64_t panel = blocks < 1 ? rows : blocks * rows;
  char* const made = reinterpret_cast<char*>(scratch.at);
  float* const partial_sums = reinterpret_cast<float*>(made + panel * pitch);
  for (int64_t w = 0; w < weight.count; w += panel) {
    const int64_t count = w + panel < weight.count ? panel : weight.count - w;
    for (int64_t extent = 0; extent < depth_blocks; ++extent) {
      const int64_t begin = steps * extent / depth_blocks,
                    end = steps * (extent + 1) / depth_blocks;
      const bool last = extent + 1 == depth_blocks;
      const int rest = last ? all.rest : 0;
      const Steps here = {end - begin - (rest > 0 ? 1 : 0), rest, 0};
      unpack_panel<S>(weight.at + w, count, begin, here, pitch, made);
      // Next come the other columns of these rows, or the first ones of the next panel.
      const int64_t left = weight.count + weight.reach - w - count;
      const uint8_t* const* const next = weight.at + w + (last ? count : 0);
      const int64_t next_count = last && left < count ? left : count;
      const int64_t next_block = last ? 0 : extent + 1,
                    next_begin = steps * next_block / depth_blocks;
      const int64_t bytes = (steps * (next_block + 1) / depth_blocks - next_begin) * S::kBytes +
                            (next_block + 1 == depth_blocks ? all.end_bytes : 0);
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t x = inputs * g / groups, next_x = inputs * (g + 1) / groups;
        const UnpackedPanel unpacked = {made, pitch, count, here, extent == 0, last};
        const PartialSums sums = {partial_sums + x * rows * kLanes, inputs * kLanes};
        const int64_t from = next_begin * S::kBytes;
        const Upcoming upcoming = {next, next_count, from + bytes * g / groups,
                                   from + bytes * (g + 1) / groups};
        const auto run = [&](auto n, auto side) EXN_FLAT {
          static_assert(decltype(side)::value <= kMost);
          with_planes<UnpackedStep<S::kBlocks>>(in.int8, [&](auto step) EXN_FLAT {
            panel_microkernel<decltype(step), decltype(n)::value, decltype(side)::value>(
                unpacked, sums, in.rounded + x * in.rounded_stride + begin * S::kInputBytes,
                in.rounded_stride, upcoming, out + x * out_stride + w, out_stride);
          });
        };
        with_register_tile(next_x - x, groups > 1, run);
      }
    }
  }
}

// The products of whole steps, and of what rows end with as far as that goes with them.
template <class S>
void step_products(const WeightRows<uint8_t>& weight, const Inputs& in, int64_t inputs,
                   const Steps& steps, float* out, int64_t out_stride, ProductScratch& scratch) {
  if constexpr (kHeldInputs<S> > 0) {
    const bool near = inputs * in.rounded_stride <= kNearInputs;
    if (inputs == kHeldInputs<S> && inputs <= most_at_once(false) && near && steps.whole > 2 &&
        !in.int8) {
      few_inputs<S, kHeldInputs<S>>(weight, in.rounded, in.rounded_stride, steps, out, out_stride);
      return;
    }
  }
  if (inputs > kFewInputs) {
    panel_gemm<S>(weight, in, inputs, steps, out, out_stride, scratch);
    return;
  }
  for (int64_t x = 0; x < inputs; x += kInputsAtOnce) {
    power_of_two<kInputsAtOnce>(inputs - x, [&](auto n) EXN_FLAT {
      few_inputs<S, decltype(n)::value>(weight, in.rounded + x * in.rounded_stride,
                                        in.rounded_stride, steps, out + x * out_stride, out_stride);
    });
  }
}

template <class S>
void products(const WeightRows<uint8_t>& weight, const Inputs& in, int64_t inputs, int64_t dim,
              float* out, int64_t out_stride, ProductScratch& scratch) {
  const int64_t whole = dim / S::kElements;
  const int rest = static_cast<int>(dim % S::kElements) / 32;
#if defined(EXN_HAS_BYTE_DOT)
  if constexpr (S::kRestsTogether) {
    const Steps steps = {whole, 0, rest * int64_t{S::kBlockBytes}};
    if (whole > 0) step_products<S>(weight, in, inputs, steps, out, out_stride, scratch);
    const bool adjacent = in.adjacent_rows && whole == 0 && (rest & (rest - 1)) == 0;
    multiply_rests<typename S::Plain>(weight.at, weight.count, whole, rest, adjacent, in.rounded,
                                      in.rounded_stride, inputs, out, out_stride);
    return;
  }
#endif
  step_products<S>(weight, in, inputs, {whole, rest, 0}, out, out_stride, scratch);
}

// Calls f(integral_constant blocks).
template <class F>
EXN_SIMD void with_blocks(Blocks blocks, F&& f) {
  const auto as = [&](auto known) EXN_FLAT { f(known); };
  switch (format_of(blocks)) {
    case Blocks::kNone:
    case Blocks::kPanelsF32:
    case Blocks::kPanelsF16:
    case Blocks::kPanelsBF16:
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
  return product(input_steps<S>(dim / 32), int64_t{S::kInputBytes});
}

}  // namespace

int64_t rounded_bytes(const Matrix& weight) {
  int64_t bytes = 0;
  with_blocks(weight.blocks,
              [&](auto b) EXN_FLAT { bytes = input_bytes<decltype(b)::value>(weight.cols); });
  return bytes;
}

void round_input(const Matrix& weight, const float* x, bool int8, char* to) {
  with_blocks(weight.blocks, [&](auto b) EXN_FLAT {
    constexpr Blocks kBlocks = decltype(b)::value;
    std::memset(to, 0, static_cast<size_t>(input_bytes<kBlocks>(weight.cols)));
    put_input<Step<kBlocks>>(x, weight.cols / 32, int8, to);
  });
}

void into_blocks(const Matrix& weight, int64_t inputs, char* buffer, Inputs* in) {
  if (weight.blocks == Blocks::kNone) return;
  in->blocks = weight.blocks;
  in->rounded_stride = rounded_bytes(weight);
  in->rounded = buffer;
  parallel_for(inputs, 8192 / weight.cols + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      round_input(weight, in->f32 + row * in->stride, in->int8, buffer + row * in->rounded_stride);
    }
  });
}

template <>
void row_products(const WeightRows<uint8_t>& weight, const Inputs& in, int64_t inputs, int64_t dim,
                  float* out, int64_t out_stride, ProductScratch& scratch) {
  if (inputs == 0) return;
  with_blocks(in.blocks, [&](auto b) EXN_FLAT {
    constexpr Blocks kBlocks = decltype(b)::value;
#if defined(EXN_HAS_BYTE_DOT)
    if (is_packed(in.blocks)) {
      products<Step<kBlocks, true>>(weight, in, inputs, dim, out, out_stride, scratch);
      return;
    }
#endif
    products<Step<kBlocks>>(weight, in, inputs, dim, out, out_stride, scratch);
  });
}

}  // namespace exn::cpu::EXN_ISA
