// SPDX-License-Identifier: Apache-2.0
// Tensors in host memory, their storage types, and the generator that fills them.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <exeunt/exeunt.h>

namespace exn::test {

enum class Type { kF64, kF32, kF16, kBF16, kI32, kI64, kU8 };

inline int64_t size_of(Type type) {
  switch (type) {
    case Type::kF64:
    case Type::kI64:
      return 8;
    case Type::kF32:
    case Type::kI32:
      return 4;
    case Type::kF16:
    case Type::kBF16:
      return 2;
    case Type::kU8:
      return 1;
  }
  return 0;
}

DLDataType dl_type(Type type);
const char* name_of(Type type);

// Storage conversions, rounding to nearest even; NaN becomes the canonical quiet NaN.
uint16_t f16_from_float(float value);
uint16_t bf16_from_float(float value);
float float_from_f16(uint16_t bits);

inline float float_from_bf16(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

// One stored element; `store` takes floating-point types only.
double load(const unsigned char* p, Type type);
void store(unsigned char* p, Type type, double value);

// The value that `type` stores for `value`.
double rounded_to(Type type, double value);

// ---- generator ----------------------------------------------------------------------------------

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15ull;

inline uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

// The words of a seed's stream, by index.
class WordStream {
 public:
  WordStream(uint64_t seed, uint64_t stream) : start_(mix(seed * kGolden + stream)) {}
  uint64_t operator[](uint64_t i) const { return mix(start_ + (i + 1) * kGolden); }

 private:
  uint64_t start_;
};

inline uint64_t word(uint64_t seed, uint64_t stream, uint64_t i) {
  return WordStream(seed, stream)[i];
}

inline float unit(uint64_t w) { return static_cast<float>(w >> 40) * 0x1p-24f; }

inline float bell(uint64_t w) {
  const int64_t sum =
      static_cast<int64_t>((w & 0xFFFF) + ((w >> 16) & 0xFFFF) + ((w >> 32) & 0xFFFF) + (w >> 48));
  return static_cast<float>(sum - 131070) * 0x1p-15f;
}

// A number below `below`.
inline int64_t pick(uint64_t seed, uint64_t stream, int64_t i, int64_t below) {
  return static_cast<int64_t>(word(seed, stream, static_cast<uint64_t>(i)) %
                              static_cast<uint64_t>(below));
}

// A permutation of 0 .. n-1.
std::vector<int64_t> shuffled(int64_t n, uint64_t seed, uint64_t stream);

// A matrix in host memory: `rows` rows of `cols` elements, `stride` elements apart; what lies
// between rows is NaN (floating point) or 0x7B bytes. A vector is one row. `offset` says where a
// placed copy should begin, in elements past a 64-byte boundary.
struct HostTensor {
  Type type = Type::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;
  int64_t offset = 0;
  int32_t blocks = EXN_BLOCKS_NONE;  // else u8, and rows of such blocks (blocks.h)
  std::vector<int64_t> shape;        // as the op sees it
  std::vector<unsigned char> bytes;

  bool given() const { return !shape.empty(); }
  int64_t size() const { return rows * cols; }
  // Inline with short ways for f32 and bf16: inputs are made and compared element by element, which
  // is what most of a test's time goes into.
  double at(int64_t row, int64_t col) const {
    const unsigned char* p = bytes.data() + (row * stride + col) * size_of(type);
    if (type == Type::kBF16) {
      uint16_t v;
      std::memcpy(&v, p, sizeof v);
      return static_cast<double>(float_from_bf16(v));
    }
    if (type != Type::kF32) return load(p, type);
    float v;
    std::memcpy(&v, p, sizeof v);
    return static_cast<double>(v);
  }
  int64_t integer_at(int64_t index) const;  // of an integer vector
  void set(int64_t row, int64_t col, double value) {
    unsigned char* p = bytes.data() + (row * stride + col) * size_of(type);
    if (type != Type::kF32) return store(p, type, value);
    const float v = static_cast<float>(value);
    std::memcpy(p, &v, sizeof v);
  }
  void set_integer(int64_t index, int64_t value);
};

// Element i of an index tensor that may be left out.
inline int64_t id_or(const HostTensor& ids, int64_t i, int64_t otherwise) {
  return ids.given() ? ids.integer_at(i) : otherwise;
}

// The low bytes of word(seed, stream, first + i) for the `count` elements that begin at byte `at`.
inline void put_words(HostTensor* t, size_t at, int64_t count, uint64_t seed, uint64_t stream,
                      int64_t first) {
  const size_t size = static_cast<size_t>(size_of(t->type));
  unsigned char* to = t->bytes.data() + at;
  for (int64_t i = first; i < first + count; ++i, to += size) {
    const uint64_t w = word(seed, stream, static_cast<uint64_t>(i));
    std::memcpy(to, &w, size);
  }
}

// `shape` {R, C}: R rows with padding; any other rank: compact, seen as one row.
HostTensor make_tensor(Type type, std::vector<int64_t> shape, int64_t pad = 0, int64_t offset = 0);

// Rows first ... first + count of a matrix, or such elements of a vector, as a tensor of their own.
HostTensor part_of(const HostTensor& t, int64_t first, int64_t count);

// Puts the special values that a table's word names where they belong.
void fill_special(HostTensor* tensor, uint64_t seed, uint64_t stream, const std::string& special);

// A vector of i32.
inline HostTensor make_integers(const std::vector<int64_t>& values) {
  HostTensor t = make_tensor(Type::kI32, {static_cast<int64_t>(values.size())});
  for (size_t i = 0; i < values.size(); ++i) t.set_integer(static_cast<int64_t>(i), values[i]);
  return t;
}

// Strictly ascending, with negative entries after all others.
inline bool ascends(const std::vector<int64_t>& list) {
  for (size_t i = 1; i < list.size(); ++i) {
    if (list[i] >= 0 && list[i] <= list[i - 1]) return false;
    if (list[i] >= 0 && list[i - 1] < 0) return false;
  }
  return true;
}

// Fills all of `tensor`; `special` "-" leaves it at that.
void fill(HostTensor* tensor, uint64_t seed, uint64_t stream, const std::string& kind, float scale,
          const std::string& special);

// Makes b of the stored values of a, row by row, each times `scale` (ops/README.md); false if
// `relation` is none of those that do so.
bool derive(const HostTensor& a, const std::string& relation, uint64_t seed, float scale,
            HostTensor* b);

// The elements of a row, bit for bit, between matrices of one type and as many columns.
inline void copy_row(const HostTensor& from, int64_t row, HostTensor* to, int64_t to_row) {
  const int64_t size = size_of(from.type);
  std::memcpy(to->bytes.data() + to_row * to->stride * size,
              from.bytes.data() + row * from.stride * size, static_cast<size_t>(from.cols * size));
}

// [R,H,dh] with compact heads and padding between rows; for the generator one row has H * dh
// columns.
inline HostTensor make_heads(Type type, int64_t rows, int64_t heads, int64_t dim, int64_t pad,
                             int64_t offset) {
  HostTensor t = make_tensor(type, {rows, heads * dim}, pad, offset);
  t.shape = {rows, heads, dim};
  return t;
}

// shift + bell * scale, in f32. The product and the sum are exact for the scales in use.
inline HostTensor make_bell(Type type, std::vector<int64_t> shape, uint64_t seed, uint64_t stream,
                            float scale, float shift = 0) {
  HostTensor t = make_tensor(type, std::move(shape));
  for (int64_t i = 0; i < t.size(); ++i) {
    const float v = bell(word(seed, stream, static_cast<uint64_t>(i))) * scale + shift;
    t.set(i / t.cols, i % t.cols, static_cast<double>(v));
  }
  return t;
}

}  // namespace exn::test
