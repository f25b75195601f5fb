// SPDX-License-Identifier: Apache-2.0
//
// Warp collectives. They are macros so that a report can name the source line: a return address
// would be ambiguous after unrolling.
#pragma once

namespace simt {

enum class WarpOp {
  kShuffle,
  kShuffleUp,
  kShuffleDown,
  kShuffleXor,
  kBallot,
  kMatchAny,
  kMatchAll,
  kSync,
  kAddU32,
  kMinU32,
  kMaxU32,
  kMinS32,
  kMaxS32,
  kAnd,
  kOr,
  kXor,
  kMma,  // `value` is the address of MmaFragments
};

// Hands `value` to the other lanes named by `mask` and returns this lane's result.
uint64_t warp_collective(WarpOp op, unsigned mask, uint64_t value, int argument, int width,
                         const char* file, int line);

template <class T>
inline uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= sizeof(uint64_t), "a warp exchanges at most 64 bits per lane");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(T));
  return bits;
}

template <class T>
inline T from_bits(uint64_t bits) {
  T value;
  memcpy(static_cast<void*>(&value), &bits, sizeof(T));
  return value;
}

template <class T>
inline T shuffle(const char* file, int line, WarpOp op, unsigned mask, T value, int argument,
                 int width = 32) {
  return from_bits<T>(warp_collective(op, mask, to_bits(value), argument, width, file, line));
}

inline unsigned ballot(const char* file, int line, unsigned mask, bool predicate) {
  return static_cast<unsigned>(
      warp_collective(WarpOp::kBallot, mask, predicate, 0, 32, file, line));
}

template <class T>
inline unsigned match_any(const char* file, int line, unsigned mask, T value) {
  return static_cast<unsigned>(
      warp_collective(WarpOp::kMatchAny, mask, to_bits(value), 0, 32, file, line));
}

template <class T>
inline unsigned match_all(const char* file, int line, unsigned mask, T value, int* predicate) {
  const auto lanes = static_cast<unsigned>(
      warp_collective(WarpOp::kMatchAll, mask, to_bits(value), 0, 32, file, line));
  *predicate = lanes != 0;
  return lanes;
}

inline void sync_warp(const char* file, int line, unsigned mask = 0xffffffffu) {
  warp_collective(WarpOp::kSync, mask, 0, 0, 32, file, line);
}

template <class T>
inline T reduce(const char* file, int line, WarpOp for_unsigned, WarpOp for_signed, unsigned mask,
                T value) {
  static_assert(std::is_integral<T>::value && sizeof(T) == 4, "only 32-bit integers reduce");
  const WarpOp op = std::is_signed<T>::value ? for_signed : for_unsigned;
  return from_bits<T>(warp_collective(op, mask, to_bits(value), 0, 32, file, line));
}

// A lane may be alone with any subset of its warp; the smallest legal answer catches code that
// hopes for the largest.
inline unsigned active_mask() { return 1u << current->lane; }

}  // namespace simt

#define __shfl_sync(...) ::simt::shuffle(__FILE__, __LINE__, ::simt::WarpOp::kShuffle, __VA_ARGS__)
#define __shfl_up_sync(...) \
  ::simt::shuffle(__FILE__, __LINE__, ::simt::WarpOp::kShuffleUp, __VA_ARGS__)
#define __shfl_down_sync(...) \
  ::simt::shuffle(__FILE__, __LINE__, ::simt::WarpOp::kShuffleDown, __VA_ARGS__)
#define __shfl_xor_sync(...) \
  ::simt::shuffle(__FILE__, __LINE__, ::simt::WarpOp::kShuffleXor, __VA_ARGS__)

#define __ballot_sync(mask, predicate) ::simt::ballot(__FILE__, __LINE__, (mask), (predicate) != 0)
#define __any_sync(mask, predicate) \
  (::simt::ballot(__FILE__, __LINE__, (mask), (predicate) != 0) != 0 ? 1 : 0)
#define __all_sync(mask, predicate) \
  (::simt::ballot(__FILE__, __LINE__, (mask), (predicate) == 0) == 0 ? 1 : 0)
#define __match_any_sync(mask, value) ::simt::match_any(__FILE__, __LINE__, (mask), (value))
#define __match_all_sync(mask, value, predicate) \
  ::simt::match_all(__FILE__, __LINE__, (mask), (value), (predicate))
#define __activemask() ::simt::active_mask()
#define __syncwarp(...) ::simt::sync_warp(__FILE__, __LINE__, ##__VA_ARGS__)

#define SIMT_REDUCE(for_unsigned, for_signed, mask, value)                                     \
  ::simt::reduce(__FILE__, __LINE__, ::simt::WarpOp::for_unsigned, ::simt::WarpOp::for_signed, \
                 (mask), (value))
#define __reduce_add_sync(mask, value) SIMT_REDUCE(kAddU32, kAddU32, mask, value)
#define __reduce_min_sync(mask, value) SIMT_REDUCE(kMinU32, kMinS32, mask, value)
#define __reduce_max_sync(mask, value) SIMT_REDUCE(kMaxU32, kMaxS32, mask, value)
#define __reduce_and_sync(mask, value) SIMT_REDUCE(kAnd, kAnd, mask, value)
#define __reduce_or_sync(mask, value) SIMT_REDUCE(kOr, kOr, mask, value)
#define __reduce_xor_sync(mask, value) SIMT_REDUCE(kXor, kXor, mask, value)
