// SPDX-License-Identifier: Apache-2.0
#include "blocks.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace exn::test {
namespace {

double half_at(const unsigned char* p) {
  return static_cast<double>(float_from_f16(static_cast<uint16_t>(p[0] | p[1] << 8)));
}

void put_half(unsigned char* p, uint16_t bits) {
  p[0] = static_cast<unsigned char>(bits);
  p[1] = static_cast<unsigned char>(bits >> 8);
}

// Four bits of element i of 32, in 16 bytes.
int nibble_of(const unsigned char* p, int64_t i) { return i < 16 ? p[i] & 15 : p[i - 16] >> 4; }
int bit_of(const unsigned char* p, int64_t i) { return p[i / 8] >> i % 8 & 1; }

// s or t of group g, from the twelve bytes of Q4_K and Q5_K.
int six_bits(const unsigned char* p, int64_t g, bool second) {
  if (g < 4) return p[g + (second ? 4 : 0)] & 63;
  const int low = second ? p[g + 4] >> 4 : p[g + 4] & 15;
  return low | p[second ? g : g - 4] >> 6 << 4;
}

double element(const unsigned char* p, int32_t tag, int64_t i) {
  switch (tag) {
    case EXN_BLOCKS_Q4_0:
      return half_at(p) * (nibble_of(p + 2, i) - 8);
    case EXN_BLOCKS_Q4_1:
      return half_at(p) * nibble_of(p + 4, i) + half_at(p + 2);
    case EXN_BLOCKS_Q5_0:
      return half_at(p) * (nibble_of(p + 6, i) + 16 * bit_of(p + 2, i) - 16);
    case EXN_BLOCKS_Q5_1:
      return half_at(p) * (nibble_of(p + 8, i) + 16 * bit_of(p + 4, i)) + half_at(p + 2);
    case EXN_BLOCKS_Q8_0:
      return half_at(p) * static_cast<signed char>(p[2 + i]);
    case EXN_BLOCKS_Q4_K:
    case EXN_BLOCKS_Q5_K: {
      const bool five = tag == EXN_BLOCKS_Q5_K;
      const int64_t g = i / 32, l = i % 32;
      const int pair = p[(five ? 48 : 16) + g / 2 * 32 + l];
      const int high = five ? p[16 + l] >> g & 1 : 0;
      const int q = (g % 2 == 0 ? pair & 15 : pair >> 4) + 16 * high;
      return half_at(p) * six_bits(p + 4, g, false) * q - half_at(p + 2) * six_bits(p + 4, g, true);
    }
    case EXN_BLOCKS_Q6_K: {
      const int64_t half = i / 128, l = i % 128;
      const int low = p[half * 64 + l % 64], two = p[128 + half * 32 + l % 32] >> l / 32 * 2 & 3;
      const int q = (l < 64 ? low & 15 : low >> 4) | two << 4;
      return half_at(p + 208) * static_cast<signed char>(p[192 + i / 16]) * (q - 32);
    }
  }
  return std::numeric_limits<double>::quiet_NaN();
}

// Makes the scales of one block; its other bytes are random already.
class Scales {
 public:
  Scales(const BlockFormat& format, const std::string& kind, float scale)
      : format_(format), kind_(kind), scale_(scale) {}

  void put(unsigned char* p, uint64_t w) const {
    const bool ints = kind_ == "ints", zero = kind_ == "zero";
    const bool k = format_.elements == 256, six = format_.tag == EXN_BLOCKS_Q6_K;
    unsigned char* const d = six ? p + 208 : p;
    // Elements are about d * most off the middle of their range.
    const double most = largest() * (k ? (six ? 127 : 63) : 1);
    const double size =
        zero   ? 0
        : ints ? 1
               : static_cast<double>(scale_) * (1 + static_cast<double>(unit(w))) / most;
    put_half(d, f16_from_float(static_cast<float>(w & 1 && !ints ? -size : size)));
    if (has_second()) {
      const double second = zero   ? 0
                            : ints ? 1
                                   : size * (0.25 + 0.5 * static_cast<double>(unit(w << 20)));
      // m is added, and of the size of the largest q d; dmin is multiplied by t.
      const double m = k ? second : ints ? -static_cast<double>(w >> 60) : -second * most;
      put_half(p + 2, f16_from_float(static_cast<float>(m)));
    }
    if (ints && k) make_small(p);
    if (kind_ == "extreme") make_extreme(p, w);
  }

 private:
  double largest() const {
    switch (format_.tag) {
      case EXN_BLOCKS_Q8_0:
        return 127;
      case EXN_BLOCKS_Q6_K:
      case EXN_BLOCKS_Q5_1:
      case EXN_BLOCKS_Q5_K:
        return 31;
      case EXN_BLOCKS_Q4_0:
        return 8;
      default:
        return 15;
    }
  }
  bool has_second() const {
    return format_.tag == EXN_BLOCKS_Q4_1 || format_.tag == EXN_BLOCKS_Q5_1 ||
           format_.tag == EXN_BLOCKS_Q4_K || format_.tag == EXN_BLOCKS_Q5_K;
  }
  // s and t below 4.
  void make_small(unsigned char* p) const {
    if (format_.tag == EXN_BLOCKS_Q6_K) {
      for (int i = 192; i < 208; ++i) p[i] = static_cast<unsigned char>((p[i] & 7) - 4);
    } else {
      for (int i = 4; i < 12; ++i) p[i] &= 3;
      for (int i = 12; i < 16; ++i) p[i] &= 0x33;
    }
  }
  // One block in two all ones, the others with every quant as small as it gets.
  void make_extreme(unsigned char* p, uint64_t w) const {
    const bool ones = w & 2;
    const int64_t first = format_.tag == EXN_BLOCKS_Q6_K ? 0 : has_second() ? 4 : 2;
    const int64_t last = format_.tag == EXN_BLOCKS_Q6_K ? 208 : format_.bytes;
    for (int64_t i = first; i < last; ++i) p[i] = ones ? 0xFF : 0;
    if (format_.tag == EXN_BLOCKS_Q8_0) {
      for (int64_t i = first; i < last; ++i) p[i] = ones ? 0x7F : 0x80;
    }
    if (format_.tag == EXN_BLOCKS_Q6_K) {
      for (int i = 192; i < 208; ++i) p[i] = i % 2 == 0 ? 0x80 : 0x7F;
    } else if (format_.elements == 256 && !ones) {
      for (int i = 4; i < 16; ++i) p[i] = 0xFF;
    }
  }

  const BlockFormat& format_;
  const std::string& kind_;
  float scale_;
};

// In elements, of [rows, cols].
int64_t place_in_panels(int32_t tag, int64_t rows, int64_t cols, int64_t row, int64_t col) {
  const int64_t panel = row / 32 * 32, width = std::min<int64_t>(32, rows - panel);
  int64_t place = row - panel;
  if (tag == EXN_BLOCKS_PACKED_BF16 && width == 32) {
    place = place < 16 ? 2 * place : 2 * (place - 16) + 1;
  }
  return panel * cols + col * width + place;
}

uint16_t special_half(const std::string& special) {
  return special == "nan" ? 0x7E00 : special == "pinf" ? 0x7C00 : special == "ninf" ? 0xFC00 : 0;
}

}  // namespace

const std::vector<BlockFormat>& block_formats() {
  static const std::vector<BlockFormat> all = {
      {EXN_BLOCKS_Q4_0, "q4_0", 32, 18},   {EXN_BLOCKS_Q4_1, "q4_1", 32, 20},
      {EXN_BLOCKS_Q5_0, "q5_0", 32, 22},   {EXN_BLOCKS_Q5_1, "q5_1", 32, 24},
      {EXN_BLOCKS_Q8_0, "q8_0", 32, 34},   {EXN_BLOCKS_Q4_K, "q4_k", 256, 144},
      {EXN_BLOCKS_Q5_K, "q5_k", 256, 176}, {EXN_BLOCKS_Q6_K, "q6_k", 256, 210}};
  return all;
}

const std::vector<BlockFormat>& panel_formats() {
  static const std::vector<BlockFormat> all = {{EXN_BLOCKS_PACKED_F32, "packed_f32", 1, 4},
                                               {EXN_BLOCKS_PACKED_F16, "packed_f16", 1, 2},
                                               {EXN_BLOCKS_PACKED_BF16, "packed_bf16", 1, 2}};
  return all;
}

const BlockFormat* block_format(const std::string& name) {
  for (const auto* formats : {&block_formats(), &panel_formats()}) {
    for (const BlockFormat& format : *formats) {
      if (name == format.name) return &format;
    }
  }
  return nullptr;
}

const BlockFormat* block_format(int32_t tag) {
  for (const auto* formats : {&block_formats(), &panel_formats()}) {
    for (const BlockFormat& format : *formats) {
      if (tag == format.tag) return &format;
    }
  }
  return nullptr;
}

bool in_panels(int32_t tag) {
  return tag == EXN_BLOCKS_PACKED_F32 || tag == EXN_BLOCKS_PACKED_F16 ||
         tag == EXN_BLOCKS_PACKED_BF16;
}

Type type_in_panels(int32_t tag) {
  return tag == EXN_BLOCKS_PACKED_F32   ? Type::kF32
         : tag == EXN_BLOCKS_PACKED_F16 ? Type::kF16
                                        : Type::kBF16;
}

HostTensor panels_of(const HostTensor& rows, int64_t offset) {
  const int64_t size = size_of(rows.type);
  const int32_t tag = rows.type == Type::kF32   ? EXN_BLOCKS_PACKED_F32
                      : rows.type == Type::kF16 ? EXN_BLOCKS_PACKED_F16
                                                : EXN_BLOCKS_PACKED_BF16;
  HostTensor t = make_blocks(*block_format(tag), rows.rows, rows.cols, 0, offset);
  for (int64_t r = 0; r < rows.rows; ++r) {
    for (int64_t k = 0; k < rows.cols; ++k) {
      std::memcpy(t.bytes.data() + place_in_panels(tag, rows.rows, rows.cols, r, k) * size,
                  rows.bytes.data() + (r * rows.stride + k) * size, static_cast<size_t>(size));
    }
  }
  return t;
}

HostTensor make_blocks(const BlockFormat& format, int64_t rows, int64_t cols, int64_t pad,
                       int64_t offset) {
  HostTensor t = make_tensor(Type::kU8, {rows, cols / format.elements * format.bytes}, pad, offset);
  t.blocks = format.tag;
  return t;
}

void fill_blocks(HostTensor* tensor, uint64_t seed, uint64_t stream, const std::string& kind,
                 float scale, const std::string& special) {
  const BlockFormat& format = *block_format(tensor->blocks);
  const Scales scales(format, kind, scale);
  const int64_t blocks = tensor->cols / format.bytes, words = (format.bytes + 7) / 8;
  const uint64_t scale_stream = stream + 1000;
  for (int64_t r = 0; r < tensor->rows; ++r) {
    unsigned char* p = tensor->bytes.data() + r * tensor->stride;
    for (int64_t b = 0; b < blocks; ++b, p += format.bytes) {
      const int64_t index = (kind == "twins" ? r / 2 * 2 : r) * blocks + b;
      for (int64_t i = 0; i < format.bytes; i += 8) {
        uint64_t w = word(seed, stream, static_cast<uint64_t>(index * words + i / 8));
        for (int64_t k = i; k < std::min(i + 8, format.bytes); ++k, w >>= 8) {
          p[k] = static_cast<unsigned char>(w);
        }
      }
      scales.put(p, word(seed, scale_stream, static_cast<uint64_t>(index)));
    }
    if (special == "-" || blocks == 0 || (r % 3 != 1 && tensor->rows > 1)) continue;
    const int64_t b = pick(seed, scale_stream + 1, r, blocks);
    unsigned char* const at = tensor->bytes.data() + r * tensor->stride + b * format.bytes;
    put_half(format.tag == EXN_BLOCKS_Q6_K ? at + 208 : at, special_half(special));
  }
}

std::vector<double> unpacked_row(const HostTensor& tensor, int64_t row) {
  const BlockFormat& format = *block_format(tensor.blocks);
  std::vector<double> values(static_cast<size_t>(tensor.cols / format.bytes * format.elements));
  if (in_panels(tensor.blocks)) {
    const auto cols = static_cast<int64_t>(values.size());
    for (int64_t k = 0; k < cols; ++k) {
      const int64_t place = place_in_panels(tensor.blocks, tensor.rows, cols, row, k);
      values[static_cast<size_t>(k)] =
          load(tensor.bytes.data() + place * format.bytes, type_in_panels(tensor.blocks));
    }
    return values;
  }
  const unsigned char* p = tensor.bytes.data() + row * tensor.stride;
  for (auto value = values.begin(); value != values.end(); p += format.bytes) {
    for (int64_t i = 0; i < format.elements; ++i) *value++ = element(p, format.tag, i);
  }
  return values;
}

}  // namespace exn::test
