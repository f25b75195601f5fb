// SPDX-License-Identifier: Apache-2.0
// Microkernels for quantised weights that multiply bytes, where there are instructions for that:
// unsigned quants by the two halves of an input's integers, both with a sign, or by the
// lower one alone, where those have 8 bits.
//
// A step is 16 scales of a row side by side, each with a lane of its own: 512 elements, or 256
// where scales have 16 each. A vector has four bytes of every scale, so that one vector of sums
// suits all, and there is one conversion to f32 for each step. A row of long blocks may end with
// half a step, which has two lanes for each scale. What rows of short blocks end with is multiplied
// apart: the last eight, four, two and one blocks of several rows are a step together.
#pragma once

#include "block_step.h"

namespace exn::cpu::EXN_ISA {

// Adds the integer sums of kX inputs with kW rows, times their scales, to accumulators that lie
// kPitch apart.
template <class S, int kW, int kX, int kPitch, class Scales>
static EXN_SIMD void scale_sums(const bytes_v (&ints)[kX * kW], Scales&& scales, const char* input,
                                int64_t stride, f32v* sums) {
#pragma GCC unroll 8
  for (int x = 0; x < kX; ++x) {
    const char* const from = input + x * stride;
    const f32v with = load(reinterpret_cast<const float*>(from + S::kScales));
#pragma GCC unroll 4
    for (int w = 0; w < kW; ++w) {
      f32v& sum = sums[x * kPitch + w];
      const auto s = scales(w);
      if constexpr (S::kHasMin) {
        sum = fma(s.mins, load(reinterpret_cast<const float*>(from + S::kMins)), sum);
      }
      sum = fma(to_floats(ints[x * kW + w]), mul(s.scale, with), sum);
    }
  }
}

// The microkernel: adds the products of a step of kX inputs, or of its half, with that
// of kW rows to their accumulators; those of an input lie kPitch apart. quant(w, i) is the i-th
// vector of a row, of kVectors; scales(w) are its scales. between(turn) is called before the
// products of each half of each vector.
template <class S, int kW, int kX, int kVectors, int kPitch = kW, class Quant, class Scales,
          class Between>
static EXN_SIMD void add_products(Quant&& quant, Scales&& scales, const char* input, int64_t stride,
                                  f32v* sums, Between&& between) {
  // Few sums would wait for their own additions: there the halves have some each. So have those of
  // eight inputs, which would take five cycles for each eight products.
  constexpr bool kApart = S::kTwoPlanes && (kX * kW <= 2 || (kW == 1 && kX > 4));
  bytes_v ints[kX * kW], lower[kX * kW];
  const auto add_half = [&](bytes_v* to, int i, int half, const bytes_v(&q)[kW]) EXN_FLAT {
#pragma GCC unroll 8
    for (int x = 0; x < kX; ++x) {
      bytes_v p = load_bytes(input + x * stride + half + 64 * i);
      if constexpr (kW > 1) keep_loaded(p);
#pragma GCC unroll 4
      for (int w = 0; w < kW; ++w) to[x * kW + w] = dot_bytes(to[x * kW + w], q[w], p);
    }
  };
  const auto add_halves = [&](bool upper_half, bool lower_half) EXN_FLAT {
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) {
      bytes_v q[kW];
#pragma GCC unroll 4
      for (int w = 0; w < kW; ++w) q[w] = quant(w, i);
      if (upper_half || !S::kTwoPlanes) between(i);
      if (!upper_half) between(kVectors + i);
      if (upper_half) add_half(ints, i, S::kUpper, q);
      if (lower_half) add_half(kApart ? lower : ints, i, S::kLower, q);
    }
  };
#pragma GCC unroll 8
  for (int x = 0; x < kX; ++x) {
#pragma GCC unroll 4
    for (int w = 0; w < kW; ++w) {
      ints[x * kW + w] =
          S::kHasMin ? zero_bytes() : load_bytes(input + x * stride + S::kZeroPointSum);
      if constexpr (kApart) lower[x * kW + w] = zero_bytes();
    }
  }
  if constexpr (S::kTwoPlanes) add_halves(true, kApart);
#pragma GCC unroll 8
  for (int x = 0; x < kX; ++x) {
    const char* const left = input + x * stride + S::kZeroPointLow;
#pragma GCC unroll 4
    for (int w = 0; w < kW; ++w) {
      bytes_v& v = ints[x * kW + w];
      v = S::kHasMin ? times_256(v) : times_256(v, load_bytes(left));
      if constexpr (kApart) v = add_ints(v, lower[x * kW + w]);
    }
  }
  if constexpr (!kApart) {
    // Loads quants again, as there are no registers for all.
    if constexpr (S::kTwoPlanes && kX > 1) in_order();
    add_halves(false, true);
  }
  scale_sums<S, kW, kX, kPitch>(ints, scales, input, stride, sums);
}

// The same with rows of blocks; what lies `ahead` bytes further on is prefetched.
template <class S, int kW, int kX, Extent kExtent, class Ahead>
static EXN_SIMD void add_blocks(const uint8_t* const* rows, int64_t at, Ahead ahead,
                                const char* input, int64_t stride, f32v* sums) {
  constexpr int kVectors = S::vectors_of(kExtent);
#pragma GCC unroll 4
  for (int w = 0; w < kW; ++w) {
    const uint8_t* const p = rows[w] + at;
    if constexpr (kExtent == Extent::kStep) {
      prefetch_lines<(S::kBytes + 63) / 64>(p + ahead);
      in_order();
    }
    bytes_v q[kVectors];  // of more rows the registers do not hold them
    S::template quants<kExtent>(p, q);
    const typename S::Scales scales = S::template scales<kExtent>(p);
    add_products<S, 1, kX, kVectors, kW>([&](int, int i) EXN_FLAT { return q[i]; },
                                         [&](int) EXN_FLAT { return scales; }, input, stride,
                                         sums + w, [](int) EXN_FLAT {});
  }
}
template <class S, int kW, int kX, class Ahead>
static EXN_SIMD void add_step(const uint8_t* const* rows, int64_t at, Ahead ahead,
                              const char* input, int64_t stride, f32v* sums) {
  add_blocks<S, kW, kX, Extent::kStep>(rows, at, ahead, input, stride, sums);
}

// The half of a step that a row ends with. A call of its own, so the sums are copies, or they would
// never be in registers.
template <class S, int kX>
static __attribute__((noinline)) void add_halves(const uint8_t* const* rows, int count, int64_t at,
                                                 const char* input, int64_t stride, f32v* sums) {
  for (int w = 0; w < count; ++w) {
    f32v own[kX];
#pragma GCC unroll 8
    for (int x = 0; x < kX; ++x) own[x] = sums[x * count + w];
    add_blocks<S, 1, kX, Extent::kHalf>(rows + w, at, 0, input, stride, own);
#pragma GCC unroll 8
    for (int x = 0; x < kX; ++x) sums[x * count + w] = own[x];
  }
}
template <class S, int kW, int kX>
static EXN_SIMD void add_rest(const uint8_t* const* rows, int64_t at, int, const char* input,
                              int64_t stride, f32v* sums) {
  f32v copies[kW * kX];
#pragma GCC unroll 16
  for (int i = 0; i < kW * kX; ++i) copies[i] = sums[i];
  add_halves<typename S::Plain, kX>(rows, kW, at, input, stride, copies);
#pragma GCC unroll 16
  for (int i = 0; i < kW * kX; ++i) sums[i] = copies[i];
}

// The same of `count` rows, unpacked.
template <class S>
static EXN_SIMD void unpack_rests(const uint8_t* const* rows, int64_t count, int64_t at, int,
                                  char* to, int64_t pitch) {
  for (int64_t w = 0; w < count; ++w) {
    S::Plain::template unpack_to<Extent::kHalf>(rows[w] + at, to + w * pitch);
  }
}
template <class S>
static EXN_SIMD void unpack_step(const uint8_t* p, char* to) {
  S::template unpack_to<Extent::kStep>(p, to);
}

// An input's `groups` times 32 elements, a power of two, into a step: once for each of the rows that
// are one together.
template <class S>
static EXN_SIMD void put_together(const float* x, int groups, bool int8, char* step) {
  for (int n = 0; n < groups; ++n)
    S::template put<Extent::kStep>(Rounded(x + n * 32, int8), n, step);
  if constexpr (!S::kHasMin) S::put_zero_point(step);
  static constexpr auto in_turn = [](int count) {
    return LaneOrder::of([=](int i) { return S::step_lane_of(S::step_group_of(i) % count); });
  };
  static constexpr LaneOrder kInTurn[4] = {in_turn(1), in_turn(2), in_turn(4), in_turn(8)};
  const bytes_v order = kInTurn[groups < 4 ? groups - 1 : groups / 4 + 1];
  auto* const lanes = reinterpret_cast<float*>(step);
  for (int i = 0; i < S::kInputBytes / 4; i += kLanes)
    store(lanes + i, pick_lanes(order, load(lanes + i)));
}

// Calls f(integral_constant, group that it begins with) for each power of two of what rows of short
// blocks end with.
template <class F>
static EXN_SIMD void each_power(int rest, F&& f) {
  int first = 0;
  const auto run = [&](auto groups) EXN_FLAT {
    if ((rest & groups) == 0) return;
    f(groups, first);
    first += groups;
  };
  run(std::integral_constant<int, 8>());
  run(std::integral_constant<int, 4>());
  run(std::integral_constant<int, 2>());
  run(std::integral_constant<int, 1>());
}

// Steps of an input of so many groups.
template <class S>
constexpr int64_t input_steps(int64_t groups) {
  const int rest = static_cast<int>(groups % S::kGroups);
  int last = S::kRests && rest > 0 ? 1 : 0;
  for (int left = S::kRestsTogether ? rest : 0; left > 0; left &= left - 1) ++last;
  return groups / S::kGroups + last;
}

// `count` times 32 elements of an input into its steps, which hold zeros.
template <class S>
static EXN_SIMD void put_input(const float* x, int64_t count, bool int8, char* input) {
  const int64_t whole = count / S::kGroups * S::kGroups;
  const int rest = static_cast<int>(count - whole);
  for (int64_t n = 0; n < whole; ++n) {
    char* const step = input + n / S::kGroups * S::kInputBytes;
    S::template put<Extent::kStep>(Rounded(x + n * 32, int8), static_cast<int>(n % S::kGroups),
                                   step);
    if constexpr (!S::kHasMin) {
      if ((n + 1) % S::kGroups == 0) S::put_zero_point(step);
    }
  }
  char* end = input + whole / S::kGroups * S::kInputBytes;
  if constexpr (S::kRests) {
    for (int n = 0; n < rest; ++n)
      S::template put<Extent::kHalf>(Rounded(x + (whole + n) * 32, int8), n, end);
  }
  if constexpr (S::kRestsTogether) {
    each_power(rest, [&](int groups, int first) EXN_FLAT {
      put_together<S>(x + (whole + first) * 32, groups, int8, end);
      end += S::kInputBytes;
    });
  }
}

// Adds to `out`, or writes if kFirst, the products of kGroups blocks, at `at` in each of `count`
// rows, with some inputs. `adjacent`: these blocks are all that the rows have, which lie one after
// the other; elsewhere they are copied beside each other, those of some steps at a time, since a
// load waits for what was stored just before.
template <class S, int kGroups, bool kFirst>
static __attribute__((noinline)) void multiply_together(const uint8_t* const* rows, int64_t count,
                                                        int64_t at, bool adjacent,
                                                        const char* input, int64_t stride,
                                                        int64_t inputs, float* out,
                                                        int64_t out_stride) {
  constexpr int kRows = S::kGroups / kGroups, kBytes = kGroups * S::kBlockBytes, kSteps = 4;
  // The first group of each row, then the second ones; and what is added to these.
  static constexpr auto kByGroup =
      LaneOrder::of([](int i) { return S::step_lane_of(i % kRows * kGroups + i / kRows); });
  static constexpr LaneOrder kRotated[3] = {LaneOrder::of([](int i) { return (i + 8) % 16; }),
                                            LaneOrder::of([](int i) { return (i + 4) % 16; }),
                                            LaneOrder::of([](int i) { return (i + 2) % 16; })};
  constexpr int kLevels = kGroups == 8 ? 3 : kGroups / 2;
  alignas(64) uint8_t copied[kSteps * S::kBytes];
  const auto copy = [&](int64_t w) EXN_FLAT {
    const int64_t left = count - w, some = left < kSteps * kRows ? left : kSteps * kRows;
    for (int64_t i = 0; i < some; ++i) std::memcpy(copied + i * kBytes, rows[w + i] + at, kBytes);
    // The last step is filled up.
    for (int64_t i = some; i % kRows != 0; ++i)
      std::memcpy(copied + i * kBytes, rows[w] + at, kBytes);
  };
  int64_t until = 0;  // what was copied
  for (int64_t w = 0; w < count; w += kRows) {
    const int n = static_cast<int>(count - w < kRows ? count - w : kRows);
    const uint8_t* p = rows[w];
    if (adjacent && n == kRows) {
      prefetch_lines<(S::kBytes + 63) / 64>(p + kBlockPrefetchDistance);
      until = w + kRows;
    } else {
      if (w >= until) {
        copy(w);
        until = w + kSteps * kRows;
      }
      p = copied + (kSteps * kRows - (until - w)) * kBytes;
    }
    bytes_v q[S::kVectors];
    S::template quants<Extent::kStep>(p, q);
    const typename S::Scales scales = S::template scales<Extent::kStep>(p);
    for (int64_t x = 0; x < inputs; ++x) {
      f32v sum = zero();
      add_products<S, 1, 1, S::kVectors>([&](int, int i) EXN_FLAT { return q[i]; },
                                         [&](int) EXN_FLAT { return scales; }, input + x * stride, 0,
                                         &sum, [](int) EXN_FLAT {});
      sum = pick_lanes(kByGroup, sum);
#pragma GCC unroll 3
      for (int i = 0; i < kLevels; ++i) sum = add(sum, pick_lanes(kRotated[i], sum));
      float* const to = out + x * out_stride + w;
      if constexpr (!kFirst) sum = add(load_part(to, n, 0.0f), sum);
      store_part(to, sum, n);
    }
  }
}

// The same of all that rows of short blocks end with, `rest` groups after `whole` steps.
template <class S>
static EXN_SIMD void multiply_rests(const uint8_t* const* rows, int64_t count, int64_t whole,
                                    int rest, bool adjacent, const char* input, int64_t stride,
                                    int64_t inputs, float* out, int64_t out_stride) {
  input += whole * S::kInputBytes;
  each_power(rest, [&](auto groups, int first) EXN_FLAT {
    constexpr int kGroups = decltype(groups)::value;
    const int64_t at = whole * S::kBytes + first * S::kBlockBytes;
    const auto run = [&](auto begins) EXN_FLAT {
      multiply_together<S, kGroups, decltype(begins)::value>(rows, count, at, adjacent, input,
                                                             stride, inputs, out, out_stride);
    };
    if (at == 0) {
      run(std::true_type());
    } else {
      run(std::false_type());
    }
    input += S::kInputBytes;
  });
}

// What add_blocks does, with rows that were unpacked; between(turn) is called in kTurns turns.
template <class S, int kW, int kX, int kVectors = S::kVectors, class Between>
static EXN_SIMD void add_unpacked(const char* const* rows, int64_t at, const char* input,
                                  int64_t stride, f32v* sums, Between&& between) {
  const auto floats = [&](int w, int from) EXN_FLAT {
    return load(reinterpret_cast<const float*>(rows[w] + at + from));
  };
  add_products<S, kW, kX, kVectors>(
      [&](int w, int i) EXN_FLAT { return load_bytes(rows[w] + at + 64 * i); },
      [&](int w) EXN_FLAT {
        typename S::Scales s;
        s.scale = floats(w, S::kUnpackedScales);
        if constexpr (S::kHasMin) s.mins = floats(w, S::kUnpackedMins);
        return s;
      },
      input, stride, sums, between);
}
template <class S, int kW, int kX>
static EXN_SIMD void add_unpacked_rest(const char* const* rows, int64_t at, int, const char* input,
                                       int64_t stride, f32v* sums) {
  if constexpr (S::kHasMin) {  // of long blocks, which are as these once they are unpacked
    add_unpacked<S, kW, kX, 4>(rows, at, input, stride, sums, [](int) EXN_FLAT {});
  }
}

// Folds two vectors, or what they were folded into, at once: some lanes of the first stay and are
// joined by as many of the second, and the others are added, those of the second the other way
// round.
template <int kLevel>
static EXN_SIMD f32v fold_two(f32v a, f32v b) {
  static constexpr auto kQuarters = LaneOrder::of([](int i) { return (i ^ 4) + i / 4 % 2 * 16; });
  static constexpr auto kNeighbours = LaneOrder::of([](int i) { return (i ^ 1) + i % 2 * 16; });
  if constexpr (kLevel == 0) return add(select(0x00ff, a, b), inner_halves(a, b));
  if constexpr (kLevel == 1) return add(select(0x0f0f, a, b), pick_lanes(kQuarters, a, b));
  if constexpr (kLevel == 2) return add(select(0x3333, a, b), inner_pairs(a, b));
  return add(select(0x5555, a, b), pick_lanes(kNeighbours, a, b));
}
template <int kLevel, int kN>
static EXN_SIMD f32v fold_all(const f32v* v) {
  if constexpr (kLevel == 4) {
    return v[0];
  } else {
    f32v folded[(kN + 1) / 2];
#pragma GCC unroll 8
    for (int i = 0; i < kN; i += 2)
      folded[i / 2] = fold_two<kLevel>(v[i], v[i + 1 < kN ? i + 1 : i]);
    return fold_all<kLevel + 1, (kN + 1) / 2>(folded);
  }
}
// Sums of kN vectors; out has space for a multiple of 16.
template <int kN>
static EXN_SIMD void fold_sums(const f32v* v, float* out) {
  static constexpr auto kReversed =
      LaneOrder::of([](int i) { return i % 2 * 8 + i / 2 % 2 * 4 + i / 4 % 2 * 2 + i / 8; });
  store(out, pick_lanes(kReversed, fold_all<0, (kN < 16 ? kN : 16)>(v)));
  if constexpr (kN > 16) fold_sums<kN - 16>(v + 16, out + 16);
}

// The most inputs for which a row is unpacked in registers, all at once.
constexpr int kFewInputs = 2, kInputsAtOnce = 2;
// The register tile of unpacked rows, MR x NR, and the most inputs that are a single one.
constexpr int kUnpackedMR = 3, kUnpackedNR = 4, kMostUnpackedInputs = 8;
// MR for so many inputs at once: the tile has twelve accumulators, or about so many.
constexpr int unpacked_rows(int inputs) { return inputs > 5 ? 2 : inputs > 4 ? 3 : 4; }
// Inputs for each of which a step of a long row is unpacked in registers, which its sums fill.
template <class S>
constexpr int kHeldInputs = S::kHasMin ? 0 : 8;

// What formats have alike once they are unpacked.
template <Blocks kBlocks>
using UnpackedStep = Step<BlockTraits<kBlocks>::kHasMin       ? Blocks::kQ4_1
                          : BlockTraits<kBlocks>::kSuperBlock ? Blocks::kQ6_K
                                                              : Blocks::kQ4_0>;

}  // namespace exn::cpu::EXN_ISA
