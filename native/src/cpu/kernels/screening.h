// SPDX-License-Identifier: Apache-2.0
// What exit_head reads of a screen (exeunt/screen.h has the mathematics): a logit for each row of
// the vocabulary, and how far the full head's may be from it.
#pragma once

#include "base/screen.h"

#include "block_products.h"
#include "products.h"
#include "stats.h"

namespace exn::cpu::EXN_ISA {

// Rows of hidden that share one reading of the screen.
constexpr int64_t kScreenRows = 8;
constexpr int64_t kScreenTile = 512;
static_assert(kScreenTile <= WeightRows<uint8_t>::kMost);
// Magnitudes below which no sum of a head overflows; what lies above is left to the full head.
constexpr double kScreenMost = 0x1p96;

// Reads an image by its header, which the ABI layer has checked.
struct ScreenImage {
  ScreenHeader header;
  ScreenLayout at;
  const char* image;

  EXN_SIMD explicit ScreenImage(const char* p) : image(p) {
    std::memcpy(&header, p, sizeof header);
    at = layout_of(header);
  }
  EXN_SIMD const float* floats(int64_t offset) const {
    return reinterpret_cast<const float*>(image + offset);
  }
  EXN_SIMD const float* mean(int32_t level) const { return floats(at.means) + level * header.dim; }
  EXN_SIMD const float* base(int32_t level) const {
    return floats(at.base) + level * header.vocabulary;
  }
  EXN_SIMD Matrix rotation() const {
    const int64_t dim = header.dim;
    return {const_cast<char*>(image + at.rotation), DType::kF32, dim, dim, dim, Blocks::kNone};
  }
  EXN_SIMD Matrix segment(int i) const {
    const int64_t bytes = header.segments[i] * int64_t{shape_of(kScreenFormats[i]).bytes};
    return {const_cast<char*>(image + at.segments[i]), DType::kU8, header.vocabulary,
            header.segments[i] * int64_t{32},          bytes,      kScreenFormats[i]};
  }
  // Codes of the norms of a group; after the last one those of K.
  EXN_SIMD const char* codes(int group) const { return image + at.codes + group * at.codes_stride; }
};

// What a row of hidden makes of the norms that are stored with the rows of a head.
struct ScreenRow {
  float by_group[kScreenGroups];  // of one step of a code
  float by_norm;
  bool full;  // the full head is to be read
};

static EXN_SIMD double norm_of(const float* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return ::sqrt(sum);
}

// |x~ - x| of an input as blocks meet it.
static EXN_SIMD double rounding_of(const float* x, int64_t dim) {
  double sum = 0;
  for (int64_t n = 0; n < dim; n += 32) {
    const Rounded r(x + n);
    for (int i = 0; i < 32; ++i) {
      const double e = static_cast<double>(r.scale) * r.q[i] - static_cast<double>(x[n + i]);
      sum += e * e;
    }
  }
  return ::sqrt(sum);
}

// x: what the head multiplies, d = x - m and y = P d in f32, y padded with zeros to whole 32s.
static __attribute__((noinline)) void screen_row(const ScreenImage& screen, int32_t level,
                                                 float factor, bool head_of_blocks, const float* x,
                                                 const float* d, const float* y, ScreenRow* row) {
  constexpr double kUnit = 0x1p-24, kSlack = 1 + 0x1p-16;
  const ScreenHeader& h = screen.header;
  const int64_t dim = h.dim;
  const auto gamma = [](double n) { return n * kUnit / (1 - n * kUnit); };
  const double n = static_cast<double>(dim / 8 + 16);
  const double of_x = norm_of(x, dim), of_d = norm_of(d, dim) * (1 + 2 * kUnit);
  const double of_m = norm_of(screen.mean(level), dim);
  const float* const sigma = screen.floats(screen.at.sigma);
  double total = 0, lost = 0;
  int64_t block = 0;
  for (int g = 0; g < h.groups; ++g) {
    const int64_t first = block;
    double weighted = 0;
    for (; block < h.ends[g]; ++block) {
      const Rounded r(y + block * 32);
      for (int i = 0; i < 32; ++i) {
        const int64_t k = block * 32 + i;
        const double v = static_cast<double>(r.scale) * r.q[i];
        const double e = v - static_cast<double>(y[k]);
        const double over = v / static_cast<double>(sigma[k]);
        total += v * v;
        lost += e * e;
        weighted += over * over;
      }
    }
    double by = ::sqrt(weighted) * static_cast<double>(h.units[g]) * kSlack;
    if (factor > 0) {
      by *= static_cast<double>(factor) / ::sqrt(static_cast<double>((block - first) * 32));
    }
    row->by_group[g] = static_cast<float>(by);
  }
  const double of_y = ::sqrt(total), residual = static_cast<double>(h.residual);
  const double off = ::sqrt(lost) + gamma(n) * static_cast<double>(h.frobenius) * of_d;
  double by_norm = residual * of_d + (1 + residual) * off + gamma(n) * (of_y + of_x) +
                   16 * kUnit * (of_m + of_x + of_y);
  if (head_of_blocks) by_norm += rounding_of(x, dim);
  const double unit = static_cast<double>(h.units[h.groups]);
  row->by_norm = static_cast<float>(by_norm * unit * kSlack);
  // Not of NaN either.
  const double all = (of_x + of_y + of_m) * (1 + 255 * unit);
  double bounds = static_cast<double>(row->by_norm);
  for (int g = 0; g < h.groups; ++g) bounds += static_cast<double>(row->by_group[g]);
  row->full = !(all < kScreenMost && bounds < kScreenMost);
}

// Of a tile and a row of hidden.
struct ScreenTile {
  float low;    // the largest lower bound of a logit
  float high;   // the largest upper one
  bool broken;  // a bias is NaN or too large
};

static EXN_SIMD f32v root(f32v v) {
  float lanes[kLanes];
  store(lanes, v);
  for (float& lane : lanes) lane = ::sqrtf(lane);
  return load(lanes);
}

// Upper bounds, and logits if they are wanted, of rows of the vocabulary from `first` on. The sum
// of all z is Q y~.
static EXN_SIMD ScreenTile bound_tile(const ScreenImage& screen, int32_t level, const float* bias,
                                      bool proven, const ScreenRow& row, int64_t first, int64_t n,
                                      const float* const (&z)[kScreenSegments], float* logits,
                                      float* upper) {
  const int groups = screen.header.groups;
  const float* const base = screen.base(level) + first;
  const auto* const norms = reinterpret_cast<const int8_t*>(screen.codes(groups)) + first;
  const f32v middle = set1(128.0f), none = set1(-INFINITY);
  const f32v most = set1(static_cast<float>(kScreenMost));
  f32v low = none, high = none;
  uint32_t broken = 0;
  // Arrays of codes go on for whole lines; what follows the last one is masked below.
  for (int64_t i = 0; i < n; i += kLanes) {
    const int valid = n - i < kLanes ? static_cast<int>(n - i) : kLanes;
    const auto code = [&](const int8_t* p) EXN_FLAT { return add(load(p + i), middle); };
    f32v sum = set1(proven ? 0x1p-80f : 0.0f);
    for (int g = 0; g < groups; ++g) {
      const f32v term = mul(code(reinterpret_cast<const int8_t*>(screen.codes(g)) + first),
                            set1(row.by_group[g]));
      sum = proven ? add(sum, term) : fma(term, term, sum);
    }
    if (!proven) sum = root(sum);
    f32v bound = fma(code(norms), set1(row.by_norm), sum);
    f32v v = load_part(base + i, valid, 0.0f), top, bottom;
    for (const float* one : z) {
      if (one != nullptr) v = add(v, load_part(one + i, valid, 0.0f));
    }
    if (bias != nullptr) {
      const f32v b = load_part(bias + first + i, valid, 0.0f);
      v = add(v, b);
      bound = fma(abs(b), set1(0x1p-20f), bound);
      // A bias of -inf is a mask. Comparisons with NaN are false.
      const auto masked = equal(b, none);
      broken |= ~(bits_of(less(abs(b), most)) | bits_of(masked));
      top = select(masked, none, add(v, bound));
      bottom = select(masked, none, sub(v, bound));
      v = select(masked, none, v);
    } else {
      top = add(v, bound);
      bottom = sub(v, bound);
    }
    if (valid < kLanes) {
      float lanes[2][kLanes];
      store(lanes[0], top);
      store(lanes[1], bottom);
      for (int l = valid; l < kLanes; ++l) lanes[0][l] = lanes[1][l] = -INFINITY;
      top = load(lanes[0]);
      bottom = load(lanes[1]);
    }
    store_part(upper + i, top, valid);
    if (logits != nullptr) store_part(logits + i, v, valid);
    low = max(bottom, low);
    high = max(top, high);
  }
  const uint32_t lanes = kLanes == 32 ? ~0u : (1u << kLanes) - 1;
  return {reduce_max(low), reduce_max(high), (broken & lanes) != 0};
}

}  // namespace exn::cpu::EXN_ISA
