// SPDX-License-Identifier: Apache-2.0
//
// Where a fuzzer's choices come from: a seed, or the bytes that libFuzzer hands out. Either way
// the same source makes the same case.
#pragma once

#include <initializer_list>

#include "tensor.h"

namespace exn::test {

class Random {
 public:
  Random(uint64_t seed, uint64_t stream) : state_(mix(seed) ^ mix(~stream)) {}
  // Zeros once the bytes are used up: a short input makes a plain case.
  Random(const uint8_t* bytes, size_t size) : bytes_(bytes), left_(size), counts_bytes_(true) {}

  uint64_t bits() { return counts_bytes_ ? taken(8) : mix(state_ += kGolden); }

  // 0 .. count - 1, for counts below 2^32.
  int64_t below(int64_t count) {
    if (count <= 1) return 0;
    if (counts_bytes_)
      return static_cast<int64_t>(taken(count <= 256 ? 1 : 4) % static_cast<uint64_t>(count));
    return static_cast<int64_t>((bits() >> 32) * static_cast<uint64_t>(count) >> 32);
  }
  int64_t between(int64_t least, int64_t most) {
    return least + below(most - least < INT64_MAX ? most - least + 1 : INT64_MAX);
  }
  bool one_in(int64_t count) { return below(count) == count - 1; }

  template <class T>
  T pick(std::initializer_list<T> values) {
    return values.begin()[below(static_cast<int64_t>(values.size()))];
  }
  template <class T, size_t kSize>
  const T& pick(const T (&values)[kSize]) {
    return values[below(kSize)];
  }

 private:
  uint64_t taken(int count) {
    uint64_t value = 0;
    for (int i = 0; i < count && left_ > 0; ++i, --left_) value = value << 8 | *bytes_++;
    return value;
  }

  uint64_t state_ = 0;
  const uint8_t* bytes_ = nullptr;
  size_t left_ = 0;
  bool counts_bytes_ = false;
};

}  // namespace exn::test
