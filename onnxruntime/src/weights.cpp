// SPDX-License-Identifier: Apache-2.0
#include "weights.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "elementwise.h"

namespace exn::ort {
namespace {

// Rows of a panel.
constexpr int64_t kPanel = 32;

void put(void* at, uint16_t value) { std::memcpy(at, &value, sizeof value); }

// Blocks have their scales as f16, of which small ones have few digits, and which end at 65504.
constexpr float kLostOfScale = 0x1p-9f;

// "" or what is wrong with a scale, or with what is subtracted.
std::string unheld_scale(float scale) {
  const uint16_t bits = half_of(scale);
  const float kept = to_float({const_cast<uint16_t*>(&bits), kFloat16, {1}}, 0);
  if (std::fabs(kept - scale) <= std::fabs(scale) * kLostOfScale) return "";
  char text[64];
  std::snprintf(text, sizeof text, "a scale is %g, which f16 does not hold",
                static_cast<double>(scale));
  return text;
}

int32_t byte_of(const TensorView& t, int64_t i) {
  return t.type == kInt8 ? int32_t{t.as<int8_t>()[i]} : int32_t{t.as<uint8_t>()[i]};
}

// Of 4 bits, two in a byte.
int32_t nibble_of(const TensorView& t, int64_t row_bytes, int64_t row, int64_t i) {
  const uint8_t pair = t.as<uint8_t>()[row * row_bytes + i / 2];
  return i % 2 ? pair >> 4 : pair & 15;
}

// Where element [n,k] of DequantizeLinear is, and its scale and zero point.
int64_t element_at(const Product& p, int64_t n, int64_t k) {
  return p.transposed ? n * p.columns + k : k * p.rows + n;
}

int64_t scale_at(const Product& p, int64_t n, int64_t k) {
  if (p.block <= 0) return p.block < 0 ? 0 : n;
  return p.transposed ? n * (p.columns / p.block) + k / p.block : k / p.block * p.rows + n;
}

TensorView view_or_none(const Graph& g, int value) {
  return value >= 0 ? view_of(g.api, g.values[value].constant) : TensorView{};
}

Weights allocated(const Product& p, int32_t type, int32_t blocks, int64_t row_bytes) {
  Weights out;
  out.rows = p.rows;
  out.columns = p.columns;
  out.type = type;
  out.blocks = blocks;
  out.row_bytes = row_bytes;
  out.bytes = static_cast<size_t>(p.rows * row_bytes);
  out.memory = Memory(out.bytes);
  return out;
}

// An image of rows without blocks, and what it says of itself.
Memory image_of(const void* rows, int32_t type, int64_t n, int64_t columns, exn_pack_info* info) {
  Tensor weight(const_cast<void*>(rows), type, {n, columns});
  exn_pack_params params = {};
  params.struct_size = sizeof params;
  params.weight = weight.get();
  size_t bytes = 0;
  check(exn_pack_size(&params, &bytes));
  Memory image(bytes);
  Tensor to(image.data(), kUint8, {static_cast<int64_t>(bytes)});
  params.image = to.get();
  check(exn_pack_build(&params));
  params.weight = nullptr;
  check(exn_pack_check(&params, info));
  return image;
}

// How the panels of a type are tagged.
int32_t panels_of(int32_t type) {
  const float one = 0;
  exn_pack_info info = {};
  image_of(&one, type, 1, 1, &info);
  return info.blocks;
}

// The panels of [K,N]: of each 32 columns row after row, in the order that exeunt/pack.h describes.
// A few rows at a time, each of which is read from its begin to its end.
template <class T>
void panels_of_columns(const T* in, int64_t columns, int64_t rows, bool paired, T* out) {
  constexpr int64_t kTogether = 32;
  for (int64_t first = 0; first < columns; first += kTogether) {
    const int64_t end = std::min(columns, first + kTogether);
    for (int64_t begin = 0; begin < rows; begin += kPanel) {
      const int64_t n = std::min(kPanel, rows - begin);
      const T* from = in + first * rows + begin;
      T* to = out + begin * columns + first * n;
      for (int64_t k = first; k < end; ++k, from += rows, to += n) {
        if (!paired || n < kPanel) {
          std::memcpy(to, from, static_cast<size_t>(n) * sizeof(T));
          continue;
        }
        for (int i = 0; i < kPanel / 2; ++i) {
          to[2 * i] = from[i];
          to[2 * i + 1] = from[i + kPanel / 2];
        }
      }
    }
  }
}

// The panels of [N,K]. Some rows at a time, so that what lies between is still near.
void panels_of_rows(const char* in, const Weights& out, int32_t type) {
  const int64_t source = out.columns * bytes_of(type);
  const int64_t most = std::max(kPanel, (int64_t{1} << 18) / source / kPanel * kPanel);
  for (int64_t begin = 0; begin < out.rows; begin += most) {
    const int64_t n = std::min(most, out.rows - begin);
    exn_pack_info info = {};
    const Memory image = image_of(in + begin * source, type, n, out.columns, &info);
    std::memcpy(out.row(begin), image.as<char>() + info.offset,
                static_cast<size_t>(n * out.row_bytes));
  }
}

Weights dense(const Graph& g, const Product& p, bool panels) {
  const TensorView in = view_of(g.api, g.values[p.weight].constant);
  int32_t type = in.type;
  std::vector<uint16_t> narrow;
  const void* data = in.data;
  if (type == kFloat) {
    const auto* words = in.as<uint32_t>();
    const int64_t n = in.count();
    if (holds_bf16(in)) {
      narrow.resize(static_cast<size_t>(n));
      for (int64_t i = 0; i < n; ++i) narrow[i] = static_cast<uint16_t>(words[i] >> 16);
      type = kBfloat16;
      data = narrow.data();
    }
  }
  const int64_t bytes = bytes_of(type);
  Weights out = allocated(p, panels ? int32_t{kUint8} : type, panels ? panels_of(type) : 0,
                          p.columns * bytes);
  out.panels = panels;
  if (!panels && p.transposed) {
    std::memcpy(out.memory.data(), data, out.bytes);
  } else if (!panels) {
    transpose(data, p.columns, p.rows, bytes, out.memory.data());
  } else if (p.transposed) {
    panels_of_rows(static_cast<const char*>(data), out, type);
  } else if (type == kFloat) {
    panels_of_columns(static_cast<const uint32_t*>(data), p.columns, p.rows, false,
                      out.memory.as<uint32_t>());
  } else {
    panels_of_columns(static_cast<const uint16_t*>(data), p.columns, p.rows, type == kBfloat16,
                      out.memory.as<uint16_t>());
  }
  return out;
}

Weights in_blocks(const Product& p, int32_t format) {
  int64_t row_bytes = 0;
  check(exn_blocks_row_bytes(format, p.columns, &row_bytes));
  return allocated(p, kUint8, format, row_bytes);
}

// MatMulNBits: [N, K / block, block * bits / 8] bytes, elements from the low bits on; a scale for
// each block; zero points of 4 bits, packed for each row, or 2^(bits - 1).
Weights of_bits(const Graph& g, const Product& p) {
  const TensorView in = view_or_none(g, p.weight), scales = view_or_none(g, p.scales),
                   zeros = view_or_none(g, p.zeros);
  const int64_t per_row = p.columns / p.block, packed = (per_row + 1) / 2;
  const int32_t format = p.bits == 8    ? EXN_BLOCKS_Q8_0
                         : p.zeros >= 0 ? EXN_BLOCKS_Q4_1
                                        : EXN_BLOCKS_Q4_0;
  Weights out = in_blocks(p, format);
  auto* to = out.memory.as<uint8_t>();
  for (int64_t n = 0; n < p.rows; ++n) {
    for (int64_t k = 0; k < p.columns; k += 32) {
      const int64_t b = k / p.block;
      const float scale = to_float(scales, n * per_row + b);
      put(to, half_of(scale));
      to += 2;
      if (p.bits == 8) {
        const uint8_t* q = in.as<uint8_t>() + n * p.columns + k;
        for (int i = 0; i < 32; ++i) to[i] = static_cast<uint8_t>(q[i] ^ 0x80);  // q - 128
        to += 32;
        continue;
      }
      if (p.zeros >= 0) {
        put(to, half_of(-scale * static_cast<float>(nibble_of(zeros, packed, n, b))));
        to += 2;
      }
      const uint8_t* q = in.as<uint8_t>() + (n * p.columns + k) / 2;
      const auto element = [&](int i) { return i % 2 ? q[i / 2] >> 4 : q[i / 2] & 15; };
      for (int i = 0; i < 16; ++i) {
        to[i] = static_cast<uint8_t>(element(i) | element(i + 16) << 4);
      }
      to += 16;
    }
  }
  return out;
}

// DequantizeLinear of bytes: (q - zero) scale.
Weights dequantised(const Graph& g, const Product& p) {
  const TensorView in = view_or_none(g, p.weight), scales = view_or_none(g, p.scales),
                   zeros = view_or_none(g, p.zeros);
  Weights out = in_blocks(p, EXN_BLOCKS_Q8_0);
  auto* to = out.memory.as<uint8_t>();
  for (int64_t n = 0; n < p.rows; ++n) {
    for (int64_t k = 0; k < p.columns; k += 32) {
      const int64_t s = scale_at(p, n, k);
      put(to, half_of(to_float(scales, s)));
      to += 2;
      const int32_t zero = p.zeros >= 0 ? byte_of(zeros, s) : 0;
      for (int64_t i = k; i < k + 32; ++i) {
        *to++ = static_cast<uint8_t>(byte_of(in, element_at(p, n, i)) - zero);
      }
    }
  }
  return out;
}

Weights weights_of(const Graph& g, const Product& p, bool panels) {
  switch (p.storage) {
    case Storage::kDense:
      return dense(g, p, panels);
    case Storage::kBits:
      return of_bits(g, p);
    default:
      return dequantised(g, p);
  }
}

}  // namespace

std::string unheld(const Graph& g, const Product& p) {
  if (p.storage == Storage::kDense) return "";
  const TensorView in = view_or_none(g, p.weight), scales = view_or_none(g, p.scales),
                   zeros = view_or_none(g, p.zeros);
  std::string why;
  for (int64_t i = 0; i < scales.count() && why.empty(); ++i)
    why = unheld_scale(to_float(scales, i));
  if (p.storage == Storage::kBits) {
    const int64_t per_row = p.columns / p.block, packed = (per_row + 1) / 2;
    for (int64_t i = 0; p.zeros >= 0 && i < p.rows * per_row && why.empty(); ++i) {
      const int32_t zero = nibble_of(zeros, packed, i / per_row, i % per_row);
      why = unheld_scale(-to_float(scales, i) * static_cast<float>(zero));
    }
    return why;
  }
  // Around the middle of a type all of its numbers are bytes with a sign.
  const int32_t middle = in.type == kUint8 ? 128 : 0;
  bool centred = p.zeros >= 0 || middle == 0;
  for (int64_t i = 0; i < zeros.count() && p.zeros >= 0; ++i) {
    centred = centred && byte_of(zeros, i) == middle;
  }
  const int64_t outer = p.transposed ? p.rows : p.columns,
                inner = p.transposed ? p.columns : p.rows;
  for (int64_t i = 0; !centred && i < outer && why.empty(); ++i) {  // as they lie
    for (int64_t j = 0; j < inner && why.empty(); ++j) {
      const int64_t n = p.transposed ? i : j, k = p.transposed ? j : i;
      const int32_t zero = p.zeros >= 0 ? byte_of(zeros, scale_at(p, n, k)) : 0;
      const int32_t q = byte_of(in, element_at(p, n, k)) - zero;
      if (q < -128 || q > 127) {
        why = "a weight less its zero point is " + std::to_string(q) + ", which no byte holds";
      }
    }
  }
  return why;
}

std::shared_ptr<const Weights> Store::get(const Graph& g, const Product& p, bool panels) {
  // All but the elements, of which a few words: so that what differs is hardly ever compared.
  std::string key;
  const auto say = [&](int64_t number) { key += std::to_string(number) + ' '; };
  for (const int64_t number : {static_cast<int64_t>(p.storage), p.rows, p.columns, p.block, p.bits,
                               int64_t{p.transposed}, int64_t{panels}}) {
    say(number);
  }
  std::vector<const void*> sources;
  for (const int value : {p.weight, p.scales, p.zeros}) {
    if (value < 0) continue;
    const TensorView view = view_of(g.api, g.values[value].constant);
    const int64_t bytes = view.count() * bytes_of(view.type),
                  step = std::max<int64_t>(1, bytes / 64);
    uint64_t mixed = 0;
    for (int64_t i = 0; i < bytes; i += step) mixed = mixed * 0x100000001b3 + view.as<uint8_t>()[i];
    say(view.type);
    say(static_cast<int64_t>(mixed));
    sources.push_back(view.data);
  }
  std::vector<Entry>& list = entries_[key];
  list.erase(std::remove_if(list.begin(), list.end(),
                            [](const Entry& entry) { return entry.weights.expired(); }),
             list.end());
  for (const Entry& entry : list) {
    if (entry.graph == graph_ && entry.sources == sources) return entry.weights.lock();
  }
  // An address may have been another constant's in a graph before this one, and one constant may be
  // at several: what they have become is compared.
  const auto made = std::make_shared<const Weights>(weights_of(g, p, panels));
  for (const Entry& entry : list) {
    const std::shared_ptr<const Weights> known = entry.weights.lock();
    if (known->type == made->type && known->blocks == made->blocks && known->bytes == made->bytes &&
        std::memcmp(known->memory.data(), made->memory.data(), made->bytes) == 0) {
      list.push_back({known, std::move(sources), graph_});
      return known;
    }
  }
  list.push_back({made, std::move(sources), graph_});
  return made;
}

}  // namespace exn::ort
