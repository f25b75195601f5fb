// SPDX-License-Identifier: Apache-2.0
//
// Stored elements and the accumulators they are computed in: f32, f16 and bf16 in f32, f64 in f64.
//
// Rows are read in tiles that a block keeps in registers. Which thread holds which element depends
// on the index alone, never on the address: a row whose base is not 16-byte aligned is read element
// by element into the same places, so that its results have the same bits.
#pragma once

#include <cstdint>

#include "approximate.cuh"
#include "portable.cuh"

namespace exn::cuda {

template <class T>
struct Accumulator {
  using type = float;
};
template <>
struct Accumulator<double> {
  using type = double;
};
template <class T>
using acc_t = typename Accumulator<T>::type;

// Elements in one 128-bit load.
template <class T>
constexpr int kVector = 16 / static_cast<int>(sizeof(T));

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(__half x) { return __half2float(x); }
__device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }

// Rounds to the storage type, to nearest even.
template <class T>
__device__ __forceinline__ T narrow(acc_t<T> x) {
  return static_cast<T>(x);
}
template <>
__device__ __forceinline__ __half narrow<__half>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ __forceinline__ __nv_bfloat16 narrow<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

// A vector of packed elements is a uint4 in memory: only that compiles to one 128-bit instruction
// for every element type.
__device__ __forceinline__ void unpack_pair(float, unsigned word, float* out) {
  out[0] = __uint_as_float(word);
}
__device__ __forceinline__ void unpack_pair(__half, unsigned word, float* out) {
  const float2 pair = __half22float2(*reinterpret_cast<const __half2*>(&word));
  out[0] = pair.x;
  out[1] = pair.y;
}
__device__ __forceinline__ void unpack_pair(__nv_bfloat16, unsigned word, float* out) {
  out[0] = __uint_as_float(word << 16);
  out[1] = __uint_as_float(word & 0xffff0000u);
}

template <class T>
__device__ __forceinline__ void unpack(const uint4& raw, acc_t<T>* out) {
  constexpr int kPerWord = kVector<T> / 4;
  unpack_pair(T(), raw.x, out);
  unpack_pair(T(), raw.y, out + kPerWord);
  unpack_pair(T(), raw.z, out + 2 * kPerWord);
  unpack_pair(T(), raw.w, out + 3 * kPerWord);
}
template <>
__device__ __forceinline__ void unpack<double>(const uint4& raw, double* out) {
  out[0] = __hiloint2double(static_cast<int>(raw.y), static_cast<int>(raw.x));
  out[1] = __hiloint2double(static_cast<int>(raw.w), static_cast<int>(raw.z));
}

__device__ __forceinline__ unsigned pack_pair(const float* in, float) {
  return __float_as_uint(in[0]);
}
__device__ __forceinline__ unsigned pack_pair(const float* in, __half) {
  const __half2 pair = __floats2half2_rn(in[0], in[1]);
  return *reinterpret_cast<const unsigned*>(&pair);
}
__device__ __forceinline__ unsigned pack_pair(const float* in, __nv_bfloat16) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(in[0], in[1]);
  return *reinterpret_cast<const unsigned*>(&pair);
}

template <class T>
__device__ __forceinline__ uint4 pack(const acc_t<T>* in) {
  constexpr int kPerWord = kVector<T> / 4;
  return make_uint4(pack_pair(in, T()), pack_pair(in + kPerWord, T()),
                    pack_pair(in + 2 * kPerWord, T()), pack_pair(in + 3 * kPerWord, T()));
}
template <>
__device__ __forceinline__ uint4 pack<double>(const double* in) {
  return make_uint4(
      static_cast<unsigned>(__double2loint(in[0])), static_cast<unsigned>(__double2hiint(in[0])),
      static_cast<unsigned>(__double2loint(in[1])), static_cast<unsigned>(__double2hiint(in[1])));
}

// Whether 128-bit accesses are legal there.
__device__ __forceinline__ bool is_vector_aligned(const void* p) {
  return (reinterpret_cast<uintptr_t>(p) & 15u) == 0;
}

// Writes four elements, at once where their address allows it.
template <class T>
__device__ __forceinline__ void store_quad(T* to, const float (&values)[4]) {
  if ((reinterpret_cast<uintptr_t>(to) & (4 * sizeof(T) - 1)) != 0) {
#pragma unroll
    for (int i = 0; i < 4; ++i) to[i] = narrow<T>(values[i]);
  } else if constexpr (sizeof(T) == 4) {
    store_vector(to, pack<T>(values));
  } else {
    *reinterpret_cast<uint2*>(to) = make_uint2(pack_pair(values, T()), pack_pair(values + 2, T()));
  }
}

// ---- tiles: kTileThreads threads hold consecutive elements of a row, ITEMS each -----------------

constexpr int kTileThreads = 128;

// The usual tile: 32 values per thread, that is four to eight 128-bit loads in flight, and space for
// several blocks per SM. f64 values take two registers each, so there are half as many.
template <class T>
constexpr int kTileItems = sizeof(T) == 8 ? 16 : 32;
template <class T>
constexpr int kTile = kTileThreads * kTileItems<T>;

// Elements of a tile that lie before the end of its row.
__device__ __forceinline__ int tile_count(int64_t begin, int64_t end, int tile) {
  return end - begin < tile ? static_cast<int>(end - begin) : tile;
}

// Place of this thread's `item`-th value in its tile.
template <class T>
__device__ __forceinline__ int tile_place(int item) {
  constexpr int kV = kVector<T>;
  return static_cast<int>(threadIdx.x) * kV + item / kV * kTileThreads * kV + item % kV;
}

// Reads a tile; places from `count` on become `pad`.
template <class T, int ITEMS>
__device__ __forceinline__ void load_tile(const T* tile, int count, acc_t<T> pad,
                                          acc_t<T> (&values)[ITEMS]) {
  constexpr int kV = kVector<T>;
  if (is_vector_aligned(tile) && count % kV == 0) {
    uint4 raw[ITEMS / kV];
#pragma unroll
    for (int chunk = 0; chunk < ITEMS / kV; ++chunk) {
      raw[chunk] = make_uint4(0, 0, 0, 0);
      const int place = tile_place<T>(chunk * kV);
      if (place < count) raw[chunk] = *reinterpret_cast<const uint4*>(tile + place);
    }
#pragma unroll
    for (int chunk = 0; chunk < ITEMS / kV; ++chunk) {
      unpack<T>(raw[chunk], &values[chunk * kV]);
      if (tile_place<T>(chunk * kV) >= count) {
#pragma unroll
        for (int i = 0; i < kV; ++i) values[chunk * kV + i] = pad;
      }
    }
  } else {
#pragma unroll
    for (int item = 0; item < ITEMS; ++item) {
      const int place = tile_place<T>(item);
      values[item] = pad;
      if (place < count) values[item] = widen(tile[place]);
    }
  }
}

// Reads the tiles of ROWS rows, `stride` elements apart, all of them on their way before one is
// looked at. Places from `count` on become `pad`, and so do the rows from `rows` on.
template <class T, int ROWS, int ITEMS>
__device__ __forceinline__ void load_tiles(const T* tile, int64_t stride, int rows, int count,
                                           acc_t<T> pad, acc_t<T> (&values)[ROWS][ITEMS]) {
  constexpr int kV = kVector<T>;
  if (is_vector_aligned(tile) && (rows == 1 || stride % kV == 0) && count % kV == 0) {
    uint4 raw[ROWS][ITEMS / kV];
#pragma unroll
    for (int row = 0; row < ROWS; ++row) {
#pragma unroll
      for (int chunk = 0; chunk < ITEMS / kV; ++chunk) {
        raw[row][chunk] = make_uint4(0, 0, 0, 0);
        const int place = tile_place<T>(chunk * kV);
        if (row < rows && place < count) {
          raw[row][chunk] = *reinterpret_cast<const uint4*>(tile + row * stride + place);
        }
      }
    }
#pragma unroll
    for (int row = 0; row < ROWS; ++row) {
#pragma unroll
      for (int chunk = 0; chunk < ITEMS / kV; ++chunk) {
        unpack<T>(raw[row][chunk], &values[row][chunk * kV]);
        if (row >= rows || tile_place<T>(chunk * kV) >= count) {
#pragma unroll
          for (int i = 0; i < kV; ++i) values[row][chunk * kV + i] = pad;
        }
      }
    }
  } else {
#pragma unroll
    for (int row = 0; row < ROWS; ++row) {
#pragma unroll
      for (int item = 0; item < ITEMS; ++item) {
        const int place = tile_place<T>(item);
        values[row][item] = pad;
        if (row < rows && place < count) values[row][item] = widen(tile[row * stride + place]);
      }
    }
  }
}

// Writes a tile; places from `count` on are left alone.
template <class T, int ITEMS>
__device__ __forceinline__ void store_tile(T* tile, int count, const acc_t<T> (&values)[ITEMS]) {
  constexpr int kV = kVector<T>;
  if (is_vector_aligned(tile) && count % kV == 0) {
#pragma unroll
    for (int chunk = 0; chunk < ITEMS / kV; ++chunk) {
      const int place = tile_place<T>(chunk * kV);
      if (place < count) store_vector(tile + place, pack<T>(&values[chunk * kV]));
    }
  } else {
#pragma unroll
    for (int item = 0; item < ITEMS; ++item) {
      const int place = tile_place<T>(item);
      if (place < count) tile[place] = narrow<T>(values[item]);
    }
  }
}

}  // namespace exn::cuda
