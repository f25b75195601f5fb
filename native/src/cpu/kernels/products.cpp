// SPDX-License-Identifier: Apache-2.0
// The products of products.h: one input is a matrix-vector product (GEMV), several are a small
// matrix product (GEMM). A microkernel holds a register tile of MR weight rows x NR inputs in
// accumulators.
//
// How the weights are read decides the speed. A core reads far enough ahead only where it reads on
// in one direction, so the GEMV takes rows one at a time, and where that pays prefetches a line
// some KiB further on with each; or, where the additions of a row take longer than its bytes, one
// row each of four streams. That needs an input that stays in L1; otherwise, and for several
// inputs, rows are taken side by side and prefetched, well ahead, into L2, evenly over the time
// that their products take. From about five inputs on the multipliers are the bottleneck, which
// leave half a load to each; see chain_gemm, weight_stationary_gemm, and long_rows, where there are
// registers for the accumulators of all. docs/tuning.md has the figures.
#include "long_tiles.h"
#include "chain_tiles.h"

namespace exn::cpu::EXN_ISA {

// For many inputs, each weight is widened once, not once per register tile. The products are the
// same.
static EXN_SIMD bool widening_pays(int64_t inputs, int64_t dim) {
  return inputs > 16 && padded(dim, false) * kMR <= ProductScratch::kFloats;
}

template <class T>
static EXN_SIMD void widened_gemm(const WeightRows<T>& weight, const Inputs& in, int64_t inputs,
                                  int64_t dim, float* out, int64_t out_stride,
                                  ProductScratch& scratch) {
  float* const wide = scratch.at;
  const float** const wide_rows = scratch.rows;
  const int64_t stride = padded(dim, false);
  const int64_t panel = (4096 / stride / kMR + 1) * kMR;
  const int64_t rows = panel * stride <= ProductScratch::kFloats ? panel : kMR;
  for (int64_t r = 0; r < rows; ++r) wide_rows[r] = wide + r * stride;
  for (int64_t first = 0; first < weight.count; first += rows) {
    const int64_t count = weight.count - first < rows ? weight.count - first : rows;
    for (int64_t r = 0; r < count; ++r) {
      const T* from = weight.at[first + r];
      float* to = wide + r * stride;
      for (int64_t k = 0; k < dim; k += kPair) {
        f32v a, b;
        if (k + kPair <= dim) {
          load_pair(from + k, a, b);
        } else {
          load_pair_n(from + k, static_cast<int>(dim - k), a, b);
        }
        store(to + k, a);
        store(to + k + kLanes, b);
      }
    }
    // A pair of bf16 fills its two vectors even where the row ends in between.
    const int64_t wide_dim = (dim + kPair - 1) / kPair * kPair;
    for (int64_t x = 0; x < inputs; x += kNR) {
      const int64_t begin = x + kNR <= inputs ? x : inputs - kNR;
      block_gemm<float, kNR, Prefetch::kNothing>(wide_rows, 0, count, count, 0, in, begin,
                                                 begin + kNR, wide_dim, out + first, out_stride);
    }
  }
}

// Whether lines are prefetched several times: what lies before one must be what is read before it.
template <class T>
static EXN_SIMD bool prefetches_again(const WeightRows<T>& weight, int64_t dim) {
  const int64_t last = weight.count - 1;
  return last > 0 && weight.at[last] == weight.at[0] + last * dim && tuning().prefetch_again;
}

// Weights that no cache has kept, in streams.
template <class T>
static EXN_SIMD void in_streams_from_memory(const WeightRows<T>& weight, const Inputs& in,
                                            int64_t dim, float* out) {
  const int requests = tuning().stream_requests;
  if (requests == 0) return streamed_gemv<T, Prefetch::kNothing>(weight, in, dim, out);
  if (requests == 1) return streamed_gemv<T, Prefetch::kOwn>(weight, in, dim, out);
  streamed_gemv<T, Prefetch::kOwnAgain>(weight, in, dim, out);
}

template <class T>
static EXN_SIMD void gemv(const WeightRows<T>& weight, const Inputs& in, int64_t dim, float* out,
                          bool again) {
  // The two chains of a row of 16-bit weights take AVX2 as long as memory does, or longer; but
  // short rows from memory come slower side by side.
  const bool chains_wait = kChainwise && sizeof(T) == 2 && dim >= 1024;
  const int64_t input_bytes = dim * (in.bf != nullptr ? 2 : 4);
  if constexpr (kLanes == 16) {
    const bool narrow = sizeof(T) == 2;
    const bool near = input_bytes <= (in.bf != nullptr ? kInputBytes : kNearInput);
    if (!tuning().prefetch_streams && in_streams(weight, dim)) {
      // Sums of f32 weights keep up with memory: there it is long inputs that four rows read less
      // often. Requests cost more than they bring where a cache has kept the weights.
      if (in.far ? narrow || !near : narrow && !near && input_bytes < kInputBytes) {
        in_streams_from_memory(weight, in, dim, out);
        return;
      }
      if (narrow && near) {
        streamed_gemv<T, Prefetch::kNothing>(weight, in, dim, out);
        return;
      }
    }
  }
  if (chains_wait || input_bytes >= kInputBytes) {
    again ? row_block_gemv<T, Prefetch::kAllAgain>(weight, in, dim, out)
          : row_block_gemv<T, Prefetch::kAll>(weight, in, dim, out);
    return;
  }
  if (!tuning().prefetch_streams) {
    plain_gemv(weight, in, dim, out);
    return;
  }
#if defined(EXN_HAS_BF16_DOT)
  if constexpr (std::is_same_v<T, bf16>) {
    if (in.bf != nullptr) {
      prefetched_gemv(weight, in.bf, dim, out);
      return;
    }
  }
#endif
  prefetched_gemv(weight, in.f32, dim, out);
}

// Up to 2 * kNR inputs: one register tile, or two of half as many, goes through all rows.
template <class T>
static void few_inputs_gemm(const WeightRows<T>& weight, const Inputs& in, int64_t inputs,
                            int64_t dim, float* out, int64_t out_stride, bool again) {
  const int64_t row_bytes = dim * static_cast<int64_t>(sizeof(T));
  const int64_t ahead = prefetch_distance(int64_t{64} << 10, row_bytes, kMR);
  const int64_t group = inputs <= kNR ? inputs : (inputs + 1) / 2;
  const int64_t count = weight.count, limit = count + weight.reach;
  with_count<2, kNR>(group, [&](auto size) EXN_FLAT {
    constexpr int kX = decltype(size)::value;
    const auto run = [&](auto all, auto half) EXN_FLAT {
      if (inputs <= kX) {
        block_gemm<T, kX, decltype(all)::value>(weight.at, 0, count, limit, ahead, in, 0, kX, dim,
                                                out, out_stride);
      } else if constexpr (2 * kX > kNR) {  // of more than kNR inputs
        block_gemm<T, kX, decltype(half)::value>(weight.at, 0, count, limit, ahead, in, 0, inputs,
                                                 dim, out, out_stride);
      }
    };
    again ? run(PrefetchAs<Prefetch::kAllAgain>(), PrefetchAs<Prefetch::kHalfAgain>())
          : run(PrefetchAs<Prefetch::kAll>(), PrefetchAs<Prefetch::kHalf>());
  });
}

// More: all inputs go through a panel of rows after the other. Where they stay in L1, so do the
// weights of a panel; otherwise these stay in L2.
template <class T>
static void many_inputs_gemm(const WeightRows<T>& weight, const Inputs& in, int64_t inputs,
                             int64_t input_bytes, int64_t dim, float* out, int64_t out_stride,
                             bool again) {
  const int64_t row_bytes = dim * static_cast<int64_t>(sizeof(T));
  const int64_t panel_bytes = int64_t{input_bytes <= kInputBytes ? 12 : 128} << 10;
  const int64_t panel = prefetch_distance(panel_bytes, row_bytes, kMR);
  const int64_t ahead = prefetch_distance(int64_t{64} << 10, row_bytes, panel);
  const auto run = [&](auto half) EXN_FLAT {
    panel_gemm<T, decltype(half)::value>(weight, panel, ahead, in, inputs, dim, out, out_stride);
  };
  again ? run(PrefetchAs<Prefetch::kHalfAgain>()) : run(PrefetchAs<Prefetch::kHalf>());
}

template <class T>
void row_products(const WeightRows<T>& weight, const Inputs& in, int64_t inputs, int64_t dim,
                  float* out, int64_t out_stride, ProductScratch& scratch) {
  if (inputs == 0) return;
#if defined(EXN_HAS_TILES)
  if constexpr (std::is_same_v<T, bf16>) {
    if (in.tiles != nullptr)
      return tile_products(weight, in, inputs, dim, out, out_stride, scratch);
  }
#endif
  const bool again = prefetches_again(weight, dim);
  if (inputs == 1) {
    gemv(weight, in, dim, out, again);
    return;
  }
  if constexpr (kLanes == 16) {
    // Four weight rows of bf16 and four inputs of it fill L1 from 2048 columns on; of f32 inputs
    // L2 delivers enough.
    const bool fits = in.bf == nullptr || dim < 2048;
    if (inputs >= 3 * kNR && weight.count >= kMR && fits && tuning().blocks_stay) {
      if (again) {
        weight_stationary_gemm<T, Prefetch::kHalfAgain>(weight, in, inputs, dim, out, out_stride);
      } else {
        weight_stationary_gemm<T, Prefetch::kHalf>(weight, in, inputs, dim, out, out_stride);
      }
      return;
    }
  }
  if constexpr (kChains == 1) {
    if (long_tile_pays(weight, in, inputs, dim)) {
      long_gemm(weight, in, inputs, dim, out, out_stride, scratch);
      return;
    }
  }
#if defined(EXN_HAS_ODD_LOADS)
  // Fewer inputs wait for memory, and short ones for the ends of rows: the blocks below suit them.
  constexpr int64_t kFew = std::is_same_v<T, float> ? 4 : 2;
  if (inputs > kFew && weight.count >= kChainMR && dim >= (dim % kPair == 0 ? 4 : 24) * kPair) {
    chain_gemm(weight, in, inputs, dim, out, out_stride, scratch);
    return;
  }
#endif
  if constexpr (!std::is_same_v<T, float>) {
    if (in.bf == nullptr && widening_pays(inputs, dim)) {
      widened_gemm(weight, in, inputs, dim, out, out_stride, scratch);
      return;
    }
  }
  const int64_t input_bytes = inputs * in.stride * (in.bf != nullptr ? 2 : 4);
  if (inputs <= 2 * kNR && (inputs <= kNR || input_bytes <= kInputBytes)) {
    few_inputs_gemm(weight, in, inputs, dim, out, out_stride, again);
  } else {
    many_inputs_gemm(weight, in, inputs, input_bytes, dim, out, out_stride, again);
  }
}

template void row_products(const WeightRows<float>&, const Inputs&, int64_t, int64_t, float*,
                           int64_t, ProductScratch&);
template void row_products(const WeightRows<f16>&, const Inputs&, int64_t, int64_t, float*, int64_t,
                           ProductScratch&);
template void row_products(const WeightRows<bf16>&, const Inputs&, int64_t, int64_t, float*,
                           int64_t, ProductScratch&);

}  // namespace exn::cpu::EXN_ISA
