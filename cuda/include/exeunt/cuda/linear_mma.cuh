// SPDX-License-Identifier: Apache-2.0
//
// A tile of linear_tile.cuh on tensor cores, for weights of bf16.
//
// Sixteen rows of W meet eight of x in one instruction; which row of W is which, and which element
// of the depth, is ours to choose: so every lane reads 16 bytes at a time, and no two of them from
// one bank. An f32 of x is the sum of three bf16, each with eight of its bits, which meet W one
// after the other; x that was bf16, or was rounded to it, is one. Products are exact. In a stage
// those of the least significant bits are added first, from left to right each; what a tensor core
// cuts off of a sum is then nearly that of the first bits alone.
//
// Where a row of x or W has an infinity, 0 times it may come of bits that are all zero, or of an
// infinity less itself. A tile with a NaN among its results is multiplied again, with care.
#pragma once

#include "linear_fma.cuh"
#include "mma.cuh"
#include "reduce.cuh"

namespace exn::cuda {

// The first 16 bits of two floats.
__device__ __forceinline__ unsigned first_bits(float a, float b) {
  return __byte_perm(__float_as_uint(a), __float_as_uint(b), 0x7632);
}
// What they leave.
__device__ __forceinline__ float without_first_bits(float x) {
  return x - __uint_as_float(__float_as_uint(x) & 0xffff0000u);
}

// Each of two bf16, or 0 where it is infinite.
__device__ __forceinline__ unsigned pair_without_infinities(unsigned pair) {
  if ((pair & 0x7fffu) == 0x7f80u) pair &= 0xffff0000u;
  if ((pair & 0x7fff0000u) == 0x7f800000u) pair &= 0xffffu;
  return pair;
}

// A warp has 32 outputs: kParts matrices of 16 rows of W, whatever ROWS is, so that a row's results
// have the same bits in every batch.
template <int ROWS>
struct MmaShape {
  using Element = __nv_bfloat16;
  static constexpr bool kOnTensorCores = true;
  static constexpr int kThreads = 128;
  static constexpr int kDepth = kStageRowBytes / static_cast<int>(sizeof(Element));
  static constexpr int kQuads = kDepth / 4;
  static constexpr int kTiles = (ROWS + 7) / 8;  // of eight rows of x
  static constexpr int kParts = 2;
  static constexpr int kSteps = kDepth / 16;
  static constexpr int kStages = ROWS <= 32 ? 3 : 2;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
  static constexpr int kBlocksPerSm = 2;  // shared memory allows no more
#else
  static constexpr int kBlocksPerSm = ROWS <= 16 ? 3 : 2;
#endif
  static constexpr int kWeightBytes = kLinearOutputs * kStageRowBytes;
  // Of x: four elements as f32, or their first and middle bits; then their last bits, or all of
  // what is bf16.
  static constexpr int kRowPairBytes = kDepth * static_cast<int>(sizeof(float));
  static constexpr int kPairBytes = kTiles * 8 * kRowPairBytes;
  static constexpr int kLastBytes = kTiles * 8 * kStageRowBytes;
  static constexpr int kStageBytes = kWeightBytes + kPairBytes + kLastBytes;

  // Of a lane, as mma_bf16 has them.
  using Results = float[kTiles][kParts][4];

  static __device__ __forceinline__ bool is_raw(Storage storage) {
    return storage == Storage::kBF16;
  }

  static __device__ __forceinline__ int weight_place(int output, int byte) {
    return output * kStageRowBytes + (byte ^ (output & 1) << 6);
  }

  static __device__ __forceinline__ int place(int row, int quad) {
    return row * kQuads + (quad ^ (row & 1) * 5);
  }

  // Of a byte of a row's last bits.
  static __device__ __forceinline__ int last_place(int row, int byte) {
    return kPairBytes + row * kStageRowBytes + (byte ^ ((row & 1) << 6 | (row & 2) << 4));
  }

  // Puts four elements of x where they are multiplied: `first` and `last` are places of the quad.
  template <bool AGAIN>
  static __device__ __forceinline__ void put_bits(float4* first, uint2* last, float4 v) {
    if (AGAIN) v = make_float4(v.x + 0.0f, v.y + 0.0f, v.z + 0.0f, v.w + 0.0f);  // quiet NaNs
    float rest[4] = {without_first_bits(v.x), without_first_bits(v.y), without_first_bits(v.z),
                     without_first_bits(v.w)};
    if (AGAIN) {
      rest[0] = fabsf(v.x) < INFINITY ? rest[0] : 0.0f;
      rest[1] = fabsf(v.y) < INFINITY ? rest[1] : 0.0f;
      rest[2] = fabsf(v.z) < INFINITY ? rest[2] : 0.0f;
      rest[3] = fabsf(v.w) < INFINITY ? rest[3] : 0.0f;
    }
    *reinterpret_cast<uint4*>(first) =
        make_uint4(first_bits(v.x, v.y), first_bits(v.z, v.w), first_bits(rest[0], rest[1]),
                   first_bits(rest[2], rest[3]));
    *last = make_uint2(first_bits(without_first_bits(rest[0]), without_first_bits(rest[1])),
                       first_bits(without_first_bits(rest[2]), without_first_bits(rest[3])));
  }

  static __device__ __forceinline__ uint2* last_quad(float4* x, int row, int quad) {
    return reinterpret_cast<uint2*>(reinterpret_cast<unsigned char*>(x) +
                                    last_place(row, quad * 8));
  }

  static __device__ __forceinline__ void put(float4* x, int row, int quad, const float4& v,
                                             bool is_rounded, bool again) {
    float4* const first = x + place(row, quad);
    uint2* const last = last_quad(x, row, quad);
    if (is_rounded) {
      *last = make_uint2(first_bits(v.x, v.y), first_bits(v.z, v.w));
    } else if (again) {
      put_bits<true>(first, last, v);
    } else {
      put_bits<false>(first, last, v);
    }
  }

  // How rows of x that lie in memory come there: 16 bytes at a time, each thread the same columns of
  // every eighth row, of 16 bits every sixteenth. What follows from the thread is found once.
  struct StoredRows {
    int64_t step;  // bytes between a thread's rows
    const unsigned char* from;
    int first;  // places of the first row's piece, and of its last bits
    int last;
    int left;  // rows from there on
    bool raw, rounded;

    __device__ __forceinline__ explicit StoredRows(const RowsOfX& all)
        : raw(is_raw(all.storage)), rounded(all.is_rounded) {
      const int size = raw ? 2 : 4, pieces = kDepth * size / 16;
      const int row = static_cast<int>(threadIdx.x) / pieces;
      const int piece = static_cast<int>(threadIdx.x) % pieces;
      step = all.stride * size * (kThreads / pieces);
      from = static_cast<const unsigned char*>(all.x) +
             (row * all.stride + static_cast<int64_t>(all.first_stage) * kDepth) * size +
             piece * 16;
      first = place(row, piece) * 16;
      last = last_place(row, piece * (raw ? 16 : 8));
      left = all.rows - row;
    }

    __device__ __forceinline__ bool is_rounded() const { return raw || rounded; }
    __device__ __forceinline__ int rows_at_once() const { return raw ? 16 : 8; }

    __device__ __forceinline__ void begin(float4* to, int stage) const {
      const unsigned char* next = from + static_cast<int64_t>(stage) * (raw ? 2 : 4) * kDepth;
      unsigned char* put_at = reinterpret_cast<unsigned char*>(to) + (raw ? last : first);
      const int put_step = 8 * kRowPairBytes;
      static_assert(8 * kRowPairBytes == 16 * kStageRowBytes, "as many rows at once");
#pragma unroll(ROWS > 16 ? 4 : 1)
      for (int i = left; i > 0; i -= rows_at_once()) {
        __pipeline_memcpy_async(put_at, next, 16);
        next += step;
        put_at += put_step;
      }
    }

    __device__ __forceinline__ void prepare() const {}

    // What a thread has copied, it puts.
    __device__ __forceinline__ void finish(float4* x, int /*stage*/, bool again) const {
      if (raw) return;
      auto* quad = reinterpret_cast<float4*>(reinterpret_cast<unsigned char*>(x) + first);
      auto* bits = reinterpret_cast<uint2*>(reinterpret_cast<unsigned char*>(x) + last);
      const auto each = [&](auto&& put) {
#pragma unroll 1
        for (int i = left; i > 0; i -= 8) {
          put(*quad);
          quad += 8 * kRowPairBytes / 16;
          bits += kStageRowBytes;
        }
      };
      if (rounded) {
        each([&](const float4& v) {
          *bits = make_uint2(first_bits(v.x, v.y), first_bits(v.z, v.w));
        });
      } else if (again) {
        each([&](const float4& v) { put_bits<true>(quad, bits, v); });
      } else {
        each([&](const float4& v) { put_bits<false>(quad, bits, v); });
      }
    }
  };

  // Zeros for the rows of x that there are not, of all stages.
  static __device__ __forceinline__ void clear_absent(unsigned char* shared, int rows) {
    const uint4 zeros = make_uint4(0, 0, 0, 0);
#pragma unroll 1
    for (int stage = 0; stage < kStages; ++stage) {
      unsigned char* const x = shared + stage * kStageBytes + kWeightBytes;
#pragma unroll 1
      for (int i = rows * kRowPairBytes + static_cast<int>(threadIdx.x) * 16; i < kPairBytes;
           i += kThreads * 16) {
        *reinterpret_cast<uint4*>(x + i) = zeros;
      }
#pragma unroll 1
      for (int i = rows * kStageRowBytes + static_cast<int>(threadIdx.x) * 16; i < kLastBytes;
           i += kThreads * 16) {
        *reinterpret_cast<uint4*>(x + kPairBytes + i) = zeros;
      }
    }
  }

  static __device__ __forceinline__ void clear_results(Results& results) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) clear(results[n]);
  }

  // The first of a lane's four outputs; the others follow eight apart.
  static __device__ __forceinline__ int first_output() {
    const int thread = static_cast<int>(threadIdx.x);
    return thread / kWarp * 32 + thread % kWarp / 4;
  }

  using Weights = unsigned[kParts][kSteps][4];

  static __device__ __forceinline__ void load_weights(const unsigned char* base, Weights& a) {
    const int part = static_cast<int>(threadIdx.x) % 4, output = first_output();
#pragma unroll
    for (int i = 0; i < kParts * 2; ++i) {
#pragma unroll
      for (int step = 0; step < kSteps; step += 2) {
        const uint4 raw = *reinterpret_cast<const uint4*>(
            base + weight_place(output + 8 * i, step * 32 + part * 16));
        a[i / 2][step][i % 2] = raw.x;
        a[i / 2][step][i % 2 + 2] = raw.y;
        a[i / 2][step + 1][i % 2] = raw.z;
        a[i / 2][step + 1][i % 2 + 2] = raw.w;
      }
    }
  }

  static __device__ __forceinline__ void remove_infinities(Weights& a) {
#pragma unroll
    for (int i = 0; i < kParts * kSteps * 4; ++i) {
      unsigned& pair = a[i / (kSteps * 4)][i / 4 % kSteps][i % 4];
      pair = pair_without_infinities(pair);
    }
  }

  using Inputs = unsigned[kSteps][2];

  // A row's last bits, or all of what is bf16.
  static __device__ __forceinline__ void load_last(const unsigned char* x, int row, Inputs& b) {
    const int part = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int step = 0; step < kSteps; step += 2) {
      const uint4 raw = *reinterpret_cast<const uint4*>(x + last_place(row, step * 32 + part * 16));
      b[step][0] = raw.x;
      b[step][1] = raw.y;
      b[step + 1][0] = raw.z;
      b[step + 1][1] = raw.w;
    }
  }

  static __device__ __forceinline__ void load_first(const unsigned char* x, int row, Inputs& first,
                                                    Inputs& middle) {
    const int part = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const uint4 raw =
          reinterpret_cast<const uint4*>(x)[place(row, step / 2 * 8 + part * 2 + step % 2)];
      first[step][0] = raw.x;
      first[step][1] = raw.y;
      middle[step][0] = raw.z;
      middle[step][1] = raw.w;
    }
  }

  // Adds what multiply(row, sums) makes of each eight rows of x.
  template <class F>
  static __device__ __forceinline__ void add_tiles(Results& results, F&& multiply) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      float sums[kParts][4];
      clear(sums);
      multiply(n * 8 + static_cast<int>(threadIdx.x) % kWarp / 4, sums);
#pragma unroll
      for (int m = 0; m < kParts; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) results[n][m][i] += sums[m][i];
      }
    }
  }

  static __device__ __forceinline__ void add_stage(const unsigned char* base, bool is_rounded,
                                                   bool again, Results& results) {
    const unsigned char* const x = base + kWeightBytes;
    Weights a;
    load_weights(base, a);
    if (is_rounded) {
      add_tiles(results, [&](int row, float (&sums)[kParts][4]) {
        Inputs all;
        load_last(x, row, all);
        mma_bf16(sums, a, all);
      });
      return;
    }
    add_tiles(results, [&](int row, float (&sums)[kParts][4]) {
      Inputs first, middle, last;
      load_last(x, row, last);
      load_first(x, row, first, middle);
      if (again) remove_infinities(a);
      mma_bf16(sums, a, last);
      mma_bf16(sums, a, middle);
      if (again) load_weights(base, a);
      mma_bf16(sums, a, first);
    });
  }

  template <class F>
  static __device__ __forceinline__ void for_each(const Results& results, F&& f) {
    const int part = static_cast<int>(threadIdx.x) % 4, output = first_output();
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int m = 0; m < kParts; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i)
          f(n * 8 + part * 2 + i % 2, output + m * 16 + i / 2 * 8, results[n][m][i]);
      }
    }
  }
};

}  // namespace exn::cuda
