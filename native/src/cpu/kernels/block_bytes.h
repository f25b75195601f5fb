// SPDX-License-Identifier: Apache-2.0
// Microkernels for quantised weights that multiply bytes, where there are instructions for that:
// unsigned quants by the two halves of an input's integers, both with a sign.
//
// A step is 16 scales of a row side by side, each with a lane of its own: 512 elements, or 256
// where scales have 16 each. A vector has four bytes of every scale, so that one vector of sums
// suits all, and there is one conversion to f32 for each step. Where a row ends, half a step has
// two lanes for each scale, and of short blocks a quarter of one has four.
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

// The microkernel: adds the products of a step of kX inputs, or of its half or quarter, with that
// of kW rows to their accumulators; those of an input lie kPitch apart. quant(w, i) is the i-th
// vector of a row, of kVectors; scales(w) are its scales. between(turn) is called before the
// products of each half of each vector.
template <class S, int kW, int kX, int kVectors, int kPitch = kW, class Quant, class Scales,
          class Between>
static EXN_SIMD void add_products(Quant&& quant, Scales&& scales, const char* input, int64_t stride,
                                  f32v* sums, Between&& between) {
  // Few sums would wait for their own additions: there the halves have some each. So have those of
  // eight inputs, which would take five cycles for each eight products.
  constexpr bool kApart = kX * kW <= 2 || (kW == 1 && kX > 4);
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
      between(upper_half ? i : kVectors + i);
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
  add_halves(true, kApart);
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
    if constexpr (kX > 1) in_order();  // loads quants again, as there are no registers for all
    add_halves(false, true);
  }
  scale_sums<S, kW, kX, kPitch>(ints, scales, input, stride, sums);
}

// The same with rows of blocks.
template <class S, int kW, int kX, Extent kExtent, Valid kValid>
static EXN_SIMD void add_blocks(const uint8_t* const* rows, int64_t at, int64_t edge,
                                const char* input, int64_t stride, f32v* sums) {
  constexpr int kVectors = S::vectors_of(kExtent);
#pragma GCC unroll 4
  for (int w = 0; w < kW; ++w) {
    const uint8_t* const p = rows[w] + at;
    if constexpr (kExtent == Extent::kStep && kValid == Valid::kAll) {
      prefetch_lines<(S::kBytes + 63) / 64>(p + kBlockPrefetchDistance);
      in_order();
    }
    bytes_v q[kVectors];  // of more rows the registers do not hold them
    S::template quants<kExtent, kValid>(p, edge, q);
    const typename S::Scales scales = S::template scales<kExtent, kValid>(p, edge);
    add_products<S, 1, kX, kVectors, kW>([&](int, int i) EXN_FLAT { return q[i]; },
                                         [&](int) EXN_FLAT { return scales; }, input, stride,
                                         sums + w, [](int) EXN_FLAT {});
  }
}
template <class S, int kW, int kX>
static EXN_SIMD void add_step(const uint8_t* const* rows, int64_t at, const char* input,
                              int64_t stride, f32v* sums) {
  add_blocks<S, kW, kX, Extent::kStep, Valid::kAll>(rows, at, 0, input, stride, sums);
}

// The last groups of a row, at `at` with whole steps before them or not, as f(integral_constant
// extent, integral_constant valid, where the extent begins in the row, edge) takes them. They are
// the last ones of an extent that ends with the row, or the first ones of a step: nothing is loaded
// that lies beside a row.
template <class S, class F>
static EXN_SIMD void with_rest(int64_t at, int groups, F&& f) {
  const auto run = [&](auto extent, auto valid, int64_t from, int64_t edge) EXN_FLAT {
    f(std::integral_constant<Extent, decltype(extent)::value>(),
      std::integral_constant<Valid, decltype(valid)::value>(), from, edge);
  };
  constexpr std::integral_constant<Extent, Extent::kStep> kStep;
  constexpr std::integral_constant<Extent, Extent::kHalf> kHalf;
  if constexpr (S::kSuperBlock) {
    run(kHalf, std::integral_constant<Valid, Valid::kAll>(), at, 0);
  } else {
    constexpr std::integral_constant<Extent, Extent::kQuarter> kQuarter;
    constexpr std::integral_constant<Valid, Valid::kFrom> kFrom;
    const int64_t bytes = groups * S::kBlockBytes;
    const auto from = [&](auto extent) EXN_FLAT {
      const int64_t before = S::bytes_of(decltype(extent)::value) - bytes;
      run(extent, kFrom, at - before, before);
    };
    if (at == 0) {
      run(kStep, std::integral_constant<Valid, Valid::kBefore>(), 0, bytes);
    } else if (S::extent_of(groups) == Extent::kQuarter) {
      from(kQuarter);
    } else if (S::extent_of(groups) == Extent::kHalf) {
      from(kHalf);
    } else {
      from(kStep);
    }
  }
}
// Of `count` rows. A call of its own, as there are as many ways through it as formats and extents;
// so the sums are copies, or they would never be in registers.
template <class S, int kX>
static __attribute__((noinline)) void add_rests(const uint8_t* const* rows, int count, int64_t at,
                                                int groups, const char* input, int64_t stride,
                                                f32v* sums) {
  with_rest<S>(at, groups, [&](auto extent, auto valid, int64_t from, int64_t edge) EXN_FLAT {
    for (int w = 0; w < count; ++w) {
      f32v own[kX];
#pragma GCC unroll 8
      for (int x = 0; x < kX; ++x) own[x] = sums[x * count + w];
      add_blocks<S, 1, kX, decltype(extent)::value, decltype(valid)::value>(rows + w, from, edge,
                                                                            input, stride, own);
#pragma GCC unroll 8
      for (int x = 0; x < kX; ++x) sums[x * count + w] = own[x];
    }
  });
}
template <class S, int kW, int kX>
static EXN_SIMD void add_rest(const uint8_t* const* rows, int64_t at, int groups, const char* input,
                              int64_t stride, f32v* sums) {
  f32v copies[kW * kX];
#pragma GCC unroll 16
  for (int i = 0; i < kW * kX; ++i) copies[i] = sums[i];
  add_rests<typename S::Plain, kX>(rows, kW, at, groups, input, stride, copies);
#pragma GCC unroll 16
  for (int i = 0; i < kW * kX; ++i) sums[i] = copies[i];
}

// The same of `count` rows, unpacked; S is plain.
template <class S>
static __attribute__((noinline)) void unpack_plain_rests(const uint8_t* const* rows, int64_t count,
                                                         int64_t at, int groups, char* to,
                                                         int64_t pitch) {
  with_rest<S>(at, groups, [&](auto extent, auto valid, int64_t from, int64_t edge) EXN_FLAT {
    for (int64_t w = 0; w < count; ++w) {
      S::template unpack_to<decltype(extent)::value, decltype(valid)::value>(rows[w] + from, edge,
                                                                             to + w * pitch);
    }
  });
}
template <class S>
static EXN_SIMD void unpack_rests(const uint8_t* const* rows, int64_t count, int64_t at, int groups,
                                  char* to, int64_t pitch) {
  unpack_plain_rests<typename S::Plain>(rows, count, at, groups, to, pitch);
}
// Whether a rest that is taken as so many groups is a step like any other, once it is unpacked.
template <class S>
constexpr bool is_step(int groups) {
  return S::kRests && groups > 0 && S::extent_of(groups) == Extent::kStep;
}
template <class S>
static EXN_SIMD void unpack_step(const uint8_t* p, char* to) {
  S::template unpack_to<Extent::kStep, Valid::kAll>(p, 0, to);
}

// `count` times 32 elements of an input into its steps, which hold zeros.
template <class S>
static EXN_SIMD void put_input(const float* x, int64_t count, char* input) {
  const int64_t whole = count / S::kGroups * S::kGroups;
  const int rest = static_cast<int>(count % S::kGroups);
  const Extent extent = S::extent_of(S::taken_as(whole, rest));
  const int moved = whole > 0 ? S::groups_of(extent) - rest : 0;
  for (int64_t n = 0; n < count; ++n) {
    char* const step = input + n / S::kGroups * S::kInputBytes;
    const int group = static_cast<int>(n % S::kGroups);
    const Rounded rounded(x + n * 32);
    if (n < whole || extent == Extent::kStep) {
      S::template put<Extent::kStep>(rounded, n < whole ? group : group + moved, step);
    } else if constexpr (S::kRests) {
      if (extent == Extent::kHalf) {
        S::template put<Extent::kHalf>(rounded, group + moved, step);
      } else {
        S::template put<Extent::kQuarter>(rounded, group + moved, step);
      }
    }
    if constexpr (!S::kHasMin) {
      if (group + 1 == S::kGroups || n + 1 == count) S::put_zero_point(step);
    }
  }
}

// Rows of so few blocks that several, one after the other, are a step together.
template <class S>
constexpr bool kHasShortRows = !S::kSuperBlock && !S::kHasMin;

// An input of `groups` times 32 elements once for each of them.
template <class S>
static EXN_SIMD void put_input_repeated(const float* x, int groups, char* step) {
  for (int n = 0; n < S::kGroups; ++n)
    S::template put<Extent::kStep>(Rounded(x + n % groups * 32), n, step);
  S::put_zero_point(step);
}

// Lanes of a step so that the first groups of its rows come first, then the second ones.
template <class S>
constexpr LaneOrder by_group(int groups) {
  return LaneOrder::of([=](int i) {
    const int rows = S::kGroups / groups;
    return S::step_lane_of(i % rows * groups + i / rows);
  });
}

// Products of `count` rows that begin at p with some inputs.
template <class S>
static __attribute__((noinline)) void short_row_products(const uint8_t* p, int64_t count,
                                                         int groups, const char* input,
                                                         int64_t stride, int64_t inputs, float* out,
                                                         int64_t out_stride) {
  static constexpr LaneOrder kOrders[4] = {by_group<S>(1), by_group<S>(2), by_group<S>(4),
                                           by_group<S>(8)};
  static constexpr LaneOrder kRotated[3] = {LaneOrder::of([](int i) { return (i + 8) % 16; }),
                                            LaneOrder::of([](int i) { return (i + 4) % 16; }),
                                            LaneOrder::of([](int i) { return (i + 2) % 16; })};
  const int rows = S::kGroups / groups, level = groups == 1 ? 0 : groups == 2 ? 1 : groups / 4 + 1;
  const bytes_v order = kOrders[level];
  const auto multiply = [&](auto valid, int64_t w, int n) EXN_FLAT {
    constexpr Valid kValid = decltype(valid)::value;
    const int64_t edge = n * groups * S::kBlockBytes;
    bytes_v q[S::kVectors];
    S::template quants<Extent::kStep, kValid>(p, edge, q);
    const typename S::Scales scales = S::template scales<Extent::kStep, kValid>(p, edge);
    for (int64_t x = 0; x < inputs; ++x) {
      f32v sum = zero();
      add_products<S, 1, 1, S::kVectors>([&](int, int i) EXN_FLAT { return q[i]; },
                                         [&](int) EXN_FLAT { return scales; }, input + x * stride, 0,
                                         &sum, [](int) EXN_FLAT {});
      sum = pick_lanes(order, sum);
      for (int i = 0; i < level; ++i) sum = add(sum, pick_lanes(kRotated[i], sum));
      store_part(out + x * out_stride + w, sum, n);
    }
  };
  int64_t w = 0;
  for (; w + rows <= count; w += rows, p += S::kBytes) {
    prefetch_lines<(S::kBytes + 63) / 64>(p + kBlockPrefetchDistance);
    multiply(std::integral_constant<Valid, Valid::kAll>(), w, rows);
  }
  if (w < count) {
    multiply(std::integral_constant<Valid, Valid::kBefore>(), w, static_cast<int>(count - w));
  }
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
static EXN_SIMD void add_unpacked_rest(const char* const* rows, int64_t at, int groups,
                                       const char* input, int64_t stride, f32v* sums) {
  if constexpr (S::kRests) {
    const auto nothing = [](int) EXN_FLAT {};
    switch (S::extent_of(groups)) {
      case Extent::kStep:  // is_step: it went with the steps
        return;
      case Extent::kHalf:
        return add_unpacked<S, kW, kX, S::vectors_of(Extent::kHalf)>(rows, at, input, stride, sums,
                                                                     nothing);
      case Extent::kQuarter:
        return add_unpacked<S, kW, kX, S::vectors_of(Extent::kQuarter)>(rows, at, input, stride,
                                                                        sums, nothing);
    }
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
