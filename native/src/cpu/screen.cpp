// SPDX-License-Identifier: Apache-2.0
// Makes the image of a screen (exeunt/screen.h): directions of the states, then row by row of the
// head its rotation, its blocks, and the norms of what they lost.
#include "base/args/linear.h"
#include "screen.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "base/status.h"
#include "eigen.h"
#include "pool.h"

namespace exn::cpu {
namespace {

constexpr int kMostSeen = 16;  // states whose errors are looked at
constexpr int64_t kRowsAtOnce = 1024;
// Beyond what sums in double lose.
constexpr double kUp = 1 + 1e-9;

float float_of_half(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16, rest = half & 0x7fff;
  float f;
  if (rest >= 0x7c00) {
    const uint32_t bits = sign | 0x7f800000 | (rest & 0x3ff) << 13;
    std::memcpy(&f, &bits, sizeof f);
    return f;
  }
  const uint32_t bits = rest << 13;
  std::memcpy(&f, &bits, sizeof f);
  f *= 0x1p112f;
  return sign != 0 ? -f : f;
}

// To nearest; what is too large becomes the largest.
uint16_t half_of(float x) {
  const auto sign = static_cast<uint16_t>(std::signbit(x) ? 0x8000 : 0);
  const double size = std::min(std::fabs(static_cast<double>(x)), 65504.0);
  if (size < 0x1p-14) return static_cast<uint16_t>(sign | std::lrint(size * 0x1p24));
  int exponent;
  const double fraction = std::frexp(size, &exponent);  // in [1/2, 1)
  const auto bits = static_cast<long>(exponent + 14) * 1024 + std::lrint(fraction * 2048 - 1024);
  return static_cast<uint16_t>(sign | std::min(bits, 0x7bffL));
}

float float_up(double x) {
  const auto f = static_cast<float>(x);
  return static_cast<double>(f) >= x ? f : std::nextafterf(f, HUGE_VALF);
}

// ---- elements of a head -------------------------------------------------------------------------

// A row's elements, and beside each what the sums of its products are made of.
class RowReader {
 public:
  explicit RowReader(const Matrix& m) : m_(m) {}

  void read(int64_t row, double* w, double* terms) const {
    if (m_.blocks == Blocks::kNone) {
      plain(row, w);
      for (int64_t i = 0; i < m_.cols; ++i) terms[i] = std::fabs(w[i]);
      return;
    }
    const auto* p = static_cast<const uint8_t*>(m_.data) + row * m_.stride;
    const BlockShape shape = shape_of(m_.blocks);
    for (int64_t at = 0; at < m_.cols; at += shape.elements, p += shape.bytes) {
      for (int i = 0; i < shape.elements; ++i) {
        const Element e = element(p, i);
        w[at + i] = e.scale * e.q + e.shift;
        terms[at + i] = std::fabs(e.scale * e.q) + std::fabs(e.shift) + std::fabs(e.scale);
      }
    }
  }

 private:
  struct Element {
    double scale;
    double q;
    double shift;
  };

  void plain(int64_t row, double* w) const {
    const char* const p = static_cast<const char*>(m_.data) + row * m_.stride * size_of(m_.dtype);
    for (int64_t i = 0; i < m_.cols; ++i) {
      if (m_.dtype == DType::kF32) {
        float f;
        std::memcpy(&f, p + 4 * i, 4);
        w[i] = static_cast<double>(f);
        continue;
      }
      uint16_t bits;
      std::memcpy(&bits, p + 2 * i, 2);
      if (m_.dtype == DType::kF16) {
        w[i] = static_cast<double>(float_of_half(bits));
      } else {
        const uint32_t wide = static_cast<uint32_t>(bits) << 16;
        float f;
        std::memcpy(&f, &wide, 4);
        w[i] = static_cast<double>(f);
      }
    }
  }

  static double half_at(const uint8_t* p) {
    return static_cast<double>(float_of_half(static_cast<uint16_t>(p[0] | p[1] << 8)));
  }
  static int nibble(const uint8_t* p, int i) { return i < 16 ? p[i] & 15 : p[i - 16] >> 4; }
  static int fifth(const uint8_t* p, int i) { return (p[i / 8] >> i % 8 & 1) * 16; }

  Element element(const uint8_t* p, int i) const {
    switch (m_.blocks) {
      case Blocks::kNone:
      case Blocks::kPanelsF32:
      case Blocks::kPanelsF16:
      case Blocks::kPanelsBF16:
        break;
      case Blocks::kQ4_0:
        return {half_at(p), static_cast<double>(nibble(p + 2, i) - 8), 0};
      case Blocks::kQ4_1:
        return {half_at(p), static_cast<double>(nibble(p + 4, i)), half_at(p + 2)};
      case Blocks::kQ5_0:
        return {half_at(p), static_cast<double>(nibble(p + 6, i) + fifth(p + 2, i) - 16), 0};
      case Blocks::kQ5_1:
        return {half_at(p), static_cast<double>(nibble(p + 8, i) + fifth(p + 4, i)),
                half_at(p + 2)};
      case Blocks::kQ8_0:
        return {half_at(p), static_cast<double>(static_cast<int8_t>(p[2 + i])), 0};
      case Blocks::kQ4_K:
      case Blocks::kQ5_K:
        return of_group(p, i, m_.blocks == Blocks::kQ5_K);
      case Blocks::kQ6_K: {
        const int half = i / 128, l = i % 128;
        const int low = p[half * 64 + l % 64], two = p[128 + half * 32 + l % 32] >> l / 32 * 2 & 3;
        const int q = (l < 64 ? low & 15 : low >> 4) | two << 4;
        return {half_at(p + 208) * static_cast<int8_t>(p[192 + i / 16]),
                static_cast<double>(q - 32), 0};
      }
    }
    return {};
  }

  static Element of_group(const uint8_t* p, int i, bool five) {
    const int g = i / 32, l = i % 32;
    const uint8_t* const six = p + 4;
    const int s = g < 4 ? six[g] & 63 : (six[g + 4] & 15) | six[g - 4] >> 6 << 4;
    const int t = g < 4 ? six[g + 4] & 63 : six[g + 4] >> 4 | six[g] >> 6 << 4;
    const int pair = p[(five ? 48 : 16) + g / 2 * 32 + l];
    const int high = five ? (p[16 + l] >> g & 1) * 16 : 0;
    const int q = (g % 2 == 0 ? pair & 15 : pair >> 4) + high;
    return {half_at(p) * s, static_cast<double>(q), -half_at(p + 2) * t};
  }

  Matrix m_;
};

// ---- blocks -------------------------------------------------------------------------------------

// Quants of 32 values for one scale, by what they are worth.
struct Quants {
  float scale;
  float at[32];
};

float nearest(float x) {
  constexpr float kShift = 12582912.0f;
  return (x + kShift) - kShift;
}

// Quants for an inverse scale, and how much of the values their best scale explains.
float fitted(const float* v, const float* worth, float inverse, float least, float most,
             Quants* to) {
  float with[4] = {}, own[4] = {};
  for (int i = 0; i < 32; i += 4) {
    for (int k = 0; k < 4; ++k) {
      float q = v[i + k] * inverse;
      q = q < least ? least : q > most ? most : q;
      q = nearest(q);
      to->at[i + k] = q;
      with[k] += worth[i + k] * q * v[i + k];
      own[k] += worth[i + k] * q * q;
    }
  }
  const float product = (with[0] + with[1]) + (with[2] + with[3]);
  const float square = (own[0] + own[1]) + (own[2] + own[3]);
  to->scale = square > 0 ? product / square : 0;
  return square > 0 ? product * product / square : 0;
}

// The best of a few scales, as an f16, and quants for it.
Quants quantise(const float* v, const float* worth, float least, float most) {
  Quants best = {};
  float top = 0;
  for (int i = 0; i < 32; ++i) top = std::fabs(v[i]) > std::fabs(top) ? v[i] : top;
  if (top == 0 || !std::isfinite(top)) return best;
  float gained = -1;
  // The largest value meets the end of the range that has one more, or comes near it.
  const int tries = most > 100 ? 2 : 9;
  for (int n = -tries; n <= tries; ++n) {
    Quants next;
    const float gain =
        fitted(v, worth, (least + 0.12f * static_cast<float>(n)) / top, least, most, &next);
    if (gain > gained) {
      gained = gain;
      best = next;
    }
  }
  best.scale = float_of_half(half_of(best.scale));
  if (best.scale == 0) return {};
  fitted(v, worth, 1 / best.scale, least, most, &best);
  return best;
}

// One block of a format, and what it stands for.
void put_block(Blocks format, const float* v, const float* worth, uint8_t* to, double* stands) {
  const int bits = format == Blocks::kQ8_0 ? 8 : format == Blocks::kQ5_0 ? 5 : 4;
  const float end = static_cast<float>(1 << (bits - 1));
  Quants quants = quantise(v, worth, bits == 8 ? -127 : -end, end - 1);
  // fitted() has made a scale of its own, the quants are for the one before.
  float scale = 0;
  bool any = false;
  for (const float q : quants.at) any = any || q != 0;
  if (any) scale = float_of_half(half_of(quants.scale));
  const uint16_t half = half_of(scale);
  if (scale == 0) quants = {};
  to[0] = static_cast<uint8_t>(half);
  to[1] = static_cast<uint8_t>(half >> 8);
  uint8_t raw[32];
  for (int i = 0; i < 32; ++i) {
    stands[i] = static_cast<double>(scale) * static_cast<double>(quants.at[i]);
    raw[i] =
        static_cast<uint8_t>(static_cast<int>(quants.at[i]) + (bits == 8 ? 0 : 1 << (bits - 1)));
  }
  if (bits == 8) {
    std::memcpy(to + 2, raw, sizeof raw);
    return;
  }
  uint8_t* const low = to + (bits == 5 ? 6 : 2);
  for (int i = 0; i < 16; ++i)
    low[i] = static_cast<uint8_t>((raw[i] & 15) | (raw[i + 16] & 15) << 4);
  if (bits == 4) return;
  uint32_t high = 0;
  for (int i = 0; i < 32; ++i) high |= static_cast<uint32_t>(raw[i] >> 4) << i;
  for (int i = 0; i < 4; ++i) to[2 + i] = static_cast<uint8_t>(high >> 8 * i);
}

// ---- the builder --------------------------------------------------------------------------------

class Builder {
 public:
  Builder(const ScreenArgs& args, const Kernels& kernels)
      : a_(args),
        h_(*args.header),
        kernels_(kernels),
        reader_(args.weight),
        dim_(args.weight.cols),
        vocabulary_(args.weight.rows),
        columns_((dim_ + 31) / 32 * 32) {}

  exn_status run() {
    exn_status status = take_means();
    if (status == EXN_OK) status = look_at_head();
    if (status != EXN_OK) return status;
    std::memset(a_.image, 0, static_cast<size_t>(h_.bytes));
    find_directions();
    if (status == EXN_OK) status = order_columns();
    if (status != EXN_OK) return status;
    split();
    at_ = layout_of(h_);
    write_directions();
    see_states();
    status = write_rows();
    if (status != EXN_OK) return status;
    write_codes();
    finish();
    return EXN_OK;
  }

 private:
  size_t size(int64_t n) const { return static_cast<size_t>(n); }
  const float* state(int64_t n) const {
    return static_cast<const float*>(a_.states.data) + n * a_.states.stride;
  }
  int32_t level(int64_t n) const { return a_.levels == nullptr ? 0 : a_.levels[n]; }
  float* floats(int64_t offset) const { return reinterpret_cast<float*>(a_.image + offset); }

  exn_status take_means() {
    std::vector<double> sums(size(h_.levels * dim_));
    std::vector<int64_t> counts(size(h_.levels));
    for (int64_t n = 0; n < a_.states.rows; ++n) {
      const int32_t l = level(n);
      if (l < 0 || l >= h_.levels) {
        return fail(EXN_INVALID_ARGUMENT, "exn_screen_build: levels[%lld] is %d, expected 0..%d",
                    static_cast<long long>(n), l, h_.levels - 1);
      }
      const float* const x = state(n);
      for (int64_t i = 0; i < dim_; ++i) {
        if (!std::isfinite(x[i])) {
          return fail(EXN_INVALID_ARGUMENT,
                      "exn_screen_build: states[%lld,%lld] is %g, expected a finite value",
                      static_cast<long long>(n), static_cast<long long>(i),
                      static_cast<double>(x[i]));
        }
        sums[size(l * dim_ + i)] += static_cast<double>(x[i]);
      }
      ++counts[size(l)];
    }
    means_.resize(sums.size());
    for (int32_t l = 0; l < h_.levels; ++l) {
      if (counts[size(l)] == 0) {
        return fail(EXN_INVALID_ARGUMENT,
                    "exn_screen_build: level %d has 0 states, expected at least 1", l);
      }
      for (int64_t i = 0; i < dim_; ++i) {
        const size_t at = size(l * dim_ + i);
        means_[at] = static_cast<float>(sums[at] / static_cast<double>(counts[size(l)]));
      }
    }
    return EXN_OK;
  }

  exn_status look_at_head() {
    std::vector<uint8_t> wrong(size(vocabulary_));
    parallel_for((vocabulary_ + 255) / 256, 1, [&](int64_t begin, int64_t end) {
      std::unique_ptr<double[]> row(new (std::nothrow) double[size(2 * dim_)]);
      for (int64_t v = begin * 256; v < std::min(end * 256, vocabulary_); ++v) {
        double sum = row == nullptr ? HUGE_VAL : 0;
        if (row != nullptr) reader_.read(v, row.get(), row.get() + dim_);
        for (int64_t i = 0; i < dim_ && row != nullptr; ++i) sum += std::fabs(row[size(i)]);
        wrong[size(v)] = std::isfinite(sum) ? 0 : row == nullptr ? 2 : 1;
      }
    });
    for (int64_t v = 0; v < vocabulary_; ++v) {
      if (wrong[size(v)] == 2) throw std::bad_alloc();
      if (wrong[size(v)] == 1) {
        return fail(EXN_INVALID_ARGUMENT,
                    "exn_screen_build: row %lld of weight has an element that is not finite",
                    static_cast<long long>(v));
      }
    }
    return EXN_OK;
  }

  // Eigenvectors of the covariance around the means.
  void find_directions() {
    const int64_t count = a_.states.rows;
    std::vector<double> covariance(size(dim_ * dim_));
    {
      std::vector<float> centred(size(count * dim_));
      for (int64_t n = 0; n < count; ++n) {
        for (int64_t i = 0; i < dim_; ++i) {
          centred[size(n * dim_ + i)] = state(n)[i] - means_[size(level(n) * dim_ + i)];
        }
      }
      parallel_for(dim_, 8, [&](int64_t begin, int64_t end) {
        for (int64_t n = 0; n < count; ++n) {
          const float* const x = centred.data() + n * dim_;
          for (int64_t i = begin; i < end; ++i) {
            double* const to = covariance.data() + i * dim_;
            const double factor = static_cast<double>(x[i]);
            for (int64_t j = 0; j <= i; ++j) to[j] += factor * static_cast<double>(x[j]);
          }
        }
      });
    }
    double trace = 0;
    for (int64_t i = 0; i < dim_; ++i) {
      for (int64_t j = 0; j <= i; ++j) {
        covariance[size(i * dim_ + j)] /= static_cast<double>(count);
        covariance[size(j * dim_ + i)] = covariance[size(i * dim_ + j)];
      }
      trace += covariance[size(i * dim_ + i)];
    }
    std::vector<double> values;
    if (std::isfinite(trace)) {
      eigenvectors(&covariance, dim_, &values, &directions_);
    }
    sigma_.resize(size(columns_));
    const double mean = trace / static_cast<double>(dim_);
    for (int64_t i = 0; i < dim_; ++i) {
      const double s =
          std::isfinite(trace) ? std::sqrt(std::fmax(values[size(i)], 0) + mean / 100) : 0;
      const auto narrow = static_cast<float>(s);
      sigma_[size(i)] = narrow > 0 && std::isfinite(narrow) ? narrow : 1;
    }
    bool sound = std::isfinite(trace);
    for (const double r : directions_) sound = sound && std::isfinite(r);
    if (!sound) {  // of states beyond all measure: any directions will do
      directions_.assign(size(dim_ * dim_), 0);
      for (int64_t i = 0; i < dim_; ++i) directions_[size(i * dim_ + i)] = 1;
    }
  }

  // to [rows,D] = from [rows,D] P^T in f32.
  exn_status rotate(const float* from, const float* rotation, int64_t rows, float* to) {
    LinearArgs linear;
    linear.input = {const_cast<float*>(from), DType::kF32, rows, dim_, dim_, Blocks::kNone};
    linear.weight = {const_cast<float*>(rotation), DType::kF32, dim_, dim_, dim_, Blocks::kNone};
    linear.out = {to, DType::kF32, rows, dim_, dim_, Blocks::kNone};
    Workspace counter;
    kernels_.linear(linear, counter);
    if (space_.size() < counter.used() + kScreenAlign) space_.resize(counter.used() + kScreenAlign);
    const auto at = reinterpret_cast<uintptr_t>(space_.data());
    const uintptr_t skip = (kScreenAlign - at % kScreenAlign) % kScreenAlign;
    Workspace carved(space_.data() + skip, counter.used());
    return kernels_.linear(linear, carved);
  }

  // The row as doubles, what its sums are made of, and as floats.
  void read_rows(int64_t first, int64_t count, int64_t step) {
    wide_.resize(size(2 * kRowsAtOnce * dim_));
    narrow_.resize(size(kRowsAtOnce * dim_));
    rotated_.resize(size(kRowsAtOnce * dim_));
    parallel_for(count, 16, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        double* const w = wide_.data() + 2 * r * dim_;
        reader_.read(first + r * step, w, w + dim_);
        for (int64_t i = 0; i < dim_; ++i) narrow_[size(r * dim_ + i)] = static_cast<float>(w[i]);
      }
    });
  }

  // Sorts the directions by what their columns of the head contribute to logits.
  exn_status order_columns() {
    std::vector<float> rotation(directions_.begin(), directions_.end());
    const int64_t sample = std::min<int64_t>(vocabulary_, 4 * kRowsAtOnce);
    const int64_t step = vocabulary_ / sample;
    std::vector<double> squares(size(dim_));
    for (int64_t done = 0; done < sample; done += kRowsAtOnce) {
      const int64_t count = std::min(sample - done, kRowsAtOnce);
      read_rows(done * step, count, step);
      const exn_status status = rotate(narrow_.data(), rotation.data(), count, rotated_.data());
      if (status != EXN_OK) return status;
      for (int64_t r = 0; r < count; ++r) {
        for (int64_t i = 0; i < dim_; ++i) {
          const double w = static_cast<double>(rotated_[size(r * dim_ + i)]);
          squares[size(i)] += w * w;
        }
      }
    }
    std::vector<int64_t> order(size(dim_));
    std::vector<double> worth(size(dim_));
    for (int64_t i = 0; i < dim_; ++i) {
      order[size(i)] = i;
      const double s = static_cast<double>(sigma_[size(i)]);
      worth[size(i)] = s * s * squares[size(i)] / static_cast<double>(sample);
      if (!std::isfinite(worth[size(i)])) worth[size(i)] = HUGE_VAL;
    }
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return worth[size(a)] > worth[size(b)]; });
    const std::vector<double> directions = directions_;
    const std::vector<float> sigma = sigma_;
    worth_.assign(size(columns_), 0);
    for (int64_t i = 0; i < dim_; ++i) {
      const int64_t from = order[size(i)];
      sigma_[size(i)] = sigma[size(from)];
      worth_[size(i)] = worth[size(from)];
      std::copy_n(directions.begin() + from * dim_, dim_, directions_.begin() + i * dim_);
    }
    for (int64_t i = dim_; i < columns_; ++i) sigma_[size(i)] = sigma_[size(dim_ - 1)];
    return EXN_OK;
  }

  // Of as many steps, the number of blocks in Q8_0 with the least expected error.
  void split() {
    const int64_t blocks = columns_ / 32;
    const int64_t steps = 4 * h_.segments[0] + h_.segments[1];
    // Of the values, with the best scales: the share that 8, 5 and 4 bits lose of their deviation.
    constexpr double kLost[kScreenSegments] = {0.005, 0.038, 0.078};
    std::vector<double> sizes(size(blocks));
    for (int64_t b = 0; b < blocks; ++b) {
      for (int i = 0; i < 32; ++i) sizes[size(b)] += worth_[size(b * 32 + i)];
      sizes[size(b)] = std::sqrt(sizes[size(b)]);
    }
    double least = HUGE_VAL;
    for (int64_t eight = 0; 4 * eight <= steps; ++eight) {
      const int64_t five = steps - 4 * eight;
      if (!may_split(blocks, eight, five)) continue;
      double sum = 0;
      for (int64_t b = 0; b < blocks; ++b)
        sum += sizes[size(b)] * kLost[b < eight ? 0 : b < eight + five ? 1 : 2];
      if (!(sum < least) && least < HUGE_VAL) continue;
      least = sum;
      h_.segments[0] = static_cast<int32_t>(eight);
      h_.segments[1] = static_cast<int32_t>(five);
      h_.segments[2] = static_cast<int32_t>(blocks - eight - five);
    }
    for (int32_t g = 0; g < h_.groups; ++g)
      h_.ends[g] = static_cast<int32_t>((g + 1) * blocks / h_.groups);
  }

  void write_directions() {
    std::memcpy(floats(at_.means), means_.data(), means_.size() * sizeof(float));
    float* const rotation = floats(at_.rotation);
    for (int64_t i = 0; i < dim_ * dim_; ++i)
      rotation[i] = static_cast<float>(directions_[size(i)]);
    std::memcpy(floats(at_.sigma), sigma_.data(), sigma_.size() * sizeof(float));
    // I - P^T P, of P as it is stored.
    std::vector<double> off(size(dim_));
    parallel_for(dim_, 8, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        double* const row = directions_.data() + i * dim_;  // which are stored by now
        std::fill_n(row, dim_, 0.0);
        for (int64_t k = 0; k < dim_; ++k) {
          const double factor = static_cast<double>(rotation[k * dim_ + i]);
          for (int64_t j = 0; j < dim_; ++j)
            row[j] += factor * static_cast<double>(rotation[k * dim_ + j]);
        }
        row[i] -= 1;
        for (int64_t j = 0; j < dim_; ++j) off[size(i)] += row[j] * row[j];
      }
    });
    double residual = 0, whole = 0;
    for (const double o : off) residual += o;
    lengths_.assign(size(h_.groups), 0);
    int32_t g = 0;
    for (int64_t i = 0; i < dim_; ++i) {
      while (i / 32 >= h_.ends[g]) ++g;
      double square = 0;
      for (int64_t j = 0; j < dim_; ++j) {
        const double p = static_cast<double>(rotation[i * dim_ + j]);
        square += p * p;
      }
      whole += square;
      const double s = static_cast<double>(sigma_[size(i)]);
      lengths_[size(g)] += s * s * square;
    }
    for (double& length : lengths_) length = std::sqrt(length) * kUp;
    // Sums of D terms of at most 1 + R each lose that much at most.
    const double lost = static_cast<double>(dim_) * static_cast<double>(dim_) * 0x1p-52;
    h_.residual = float_up((std::sqrt(residual) + 2 * lost) * kUp);
    h_.frobenius = float_up(std::sqrt(whole) * kUp);
  }

  // Some of the states as they meet the blocks, to look at their errors.
  void see_states() {
    const int64_t count = std::min<int64_t>(a_.states.rows, kMostSeen);
    seen_.assign(size(count * columns_), 0);
    seen_norms_.assign(size(count * h_.groups), 0);
    const float* const rotation = floats(at_.rotation);
    for (int64_t k = 0; k < count; ++k) {
      const int64_t n = k * a_.states.rows / count;
      int32_t g = 0;
      for (int64_t i = 0; i < dim_; ++i) {
        while (i / 32 >= h_.ends[g]) ++g;
        double y = 0;
        for (int64_t j = 0; j < dim_; ++j) {
          y += static_cast<double>(rotation[i * dim_ + j]) *
               (static_cast<double>(state(n)[j]) -
                static_cast<double>(means_[size(level(n) * dim_ + j)]));
        }
        seen_[size(k * columns_ + i)] = static_cast<float>(y);
        const double over = y / static_cast<double>(sigma_[size(i)]);
        seen_norms_[size(k * h_.groups + g)] += over * over;
      }
    }
    for (double& norm : seen_norms_) norm = std::sqrt(norm);
  }

  exn_status write_rows() {
    norms_.resize(size(vocabulary_ * (h_.groups + 1)));
    squares_.resize(size(columns_));
    for (int64_t i = 0; i < columns_; ++i) {
      const float s = sigma_[size(i)] / sigma_[0];
      squares_[size(i)] = s * s > 1e-12f ? std::fmin(s * s, 1e12f) : 1e-12f;
    }
    std::vector<float> worst(size((vocabulary_ + kRowsAtOnce - 1) / kRowsAtOnce * kRowsAtOnce));
    for (int64_t first = 0; first < vocabulary_; first += kRowsAtOnce) {
      const int64_t count = std::min(vocabulary_ - first, kRowsAtOnce);
      read_rows(first, count, 1);
      const exn_status status =
          rotate(narrow_.data(), floats(at_.rotation), count, rotated_.data());
      if (status != EXN_OK) return status;
      parallel_for(count, 8, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) worst[size(first + r)] = write_row(first + r, r);
      });
    }
    h_.worst_ratio = *std::max_element(worst.begin(), worst.end());
    return EXN_OK;
  }

  // Writes row v, which is the r-th that were read; returns the worst of its errors.
  float write_row(int64_t v, int64_t r) {
    const double* const w = wide_.data() + 2 * r * dim_;
    double own = 0, terms = 0;
    for (int64_t i = 0; i < dim_; ++i) {
      own += w[i] * w[i];
      terms += w[dim_ + i] * w[dim_ + i];
    }
    for (int32_t l = 0; l < h_.levels; ++l) {
      double sum = 0;
      for (int64_t i = 0; i < dim_; ++i)
        sum += w[i] * static_cast<double>(means_[size(l * dim_ + i)]);
      floats(at_.base)[l * vocabulary_ + v] = static_cast<float>(sum);
    }
    own = std::sqrt(own);
    // What the rotation in f32 may have moved, by column P_i gamma |w|.
    const double n = static_cast<double>(dim_ / 8 + 16);
    const double moved = n * 0x1p-24 / (1 - n * 0x1p-24) * own;

    const float* const y = rotated_.data() + r * dim_;
    double stored = 0, weighted = 0;
    double sums[kMostSeen] = {}, squares[kMostSeen] = {};
    const int64_t seen = static_cast<int64_t>(seen_.size()) / columns_;
    int32_t g = 0, segment = 0, in_segment = 0;
    for (int64_t b = 0; b < columns_ / 32; ++b) {
      while (in_segment == h_.segments[segment]) {
        ++segment;
        in_segment = 0;
      }
      float values[32] = {};
      const int64_t some = std::min<int64_t>(dim_ - b * 32, 32);
      std::copy_n(y + b * 32, some, values);
      const int64_t bytes = shape_of(kScreenFormats[segment]).bytes;
      auto* const to = reinterpret_cast<uint8_t*>(a_.image) + at_.segments[segment] +
                       (v * h_.segments[segment] + in_segment) * bytes;
      double stands[32];
      put_block(kScreenFormats[segment], values, squares_.data() + b * 32, to, stands);
      ++in_segment;
      float errors[32];
      for (int i = 0; i < 32; ++i) {
        const double e = static_cast<double>(values[i]) - stands[i];
        const double es = e * static_cast<double>(sigma_[size(b * 32 + i)]);
        weighted += es * es;
        stored += stands[i] * stands[i];
        errors[i] = static_cast<float>(e);
      }
      for (int64_t k = 0; k < seen; ++k) {
        const float* const x = seen_.data() + k * columns_ + b * 32;
        float four[4] = {};
        for (int i = 0; i < 32; i += 4) {
          for (int j = 0; j < 4; ++j) four[j] += errors[i + j] * x[i + j];
        }
        sums[k] += static_cast<double>((four[0] + four[1]) + (four[2] + four[3]));
      }
      if (b + 1 < h_.ends[g]) continue;
      const double norm = std::sqrt(weighted);
      norms_[size(v * (h_.groups + 1) + g)] = float_up((norm + moved * lengths_[size(g)]) * kUp);
      const int64_t width = 32 * (h_.ends[g] - (g == 0 ? 0 : h_.ends[g - 1]));
      for (int64_t k = 0; k < seen; ++k) {
        const double bound = norm * seen_norms_[size(k * h_.groups + g)];
        squares[k] += bound * bound / static_cast<double>(width);
      }
      weighted = 0;
      ++g;
    }
    norms_[size(v * (h_.groups + 1) + h_.groups)] =
        float_up(std::fmax(std::fmax(own, std::sqrt(terms)), std::sqrt(stored)) * kUp);
    double worst = 0;
    for (int64_t k = 0; k < seen; ++k) {
      if (squares[k] > 0) worst = std::fmax(worst, std::fabs(sums[k]) / std::sqrt(squares[k]));
    }
    return static_cast<float>(worst);
  }

  // Norms as multiples of a 255th of the largest, rounded up.
  void write_codes() {
    const int32_t all = h_.groups + 1;
    for (int32_t g = 0; g < all; ++g) {
      float most = 0;
      for (int64_t v = 0; v < vocabulary_; ++v) most = std::fmax(most, norms_[size(v * all + g)]);
      const float unit = float_up(static_cast<double>(most) / 255 * kUp);
      h_.units[g] = unit;
      auto* const to = reinterpret_cast<uint8_t*>(a_.image) + at_.codes + g * at_.codes_stride;
      for (int64_t v = 0; v < vocabulary_; ++v) {
        const double norm = static_cast<double>(norms_[size(v * all + g)]);
        double code = unit > 0 ? std::ceil(norm / static_cast<double>(unit)) : 0;
        if (code * static_cast<double>(unit) < norm) code += 1;
        // As signed bytes, which is how every instruction set widens them.
        to[v] = static_cast<uint8_t>(static_cast<int>(std::fmin(code, 255)) - 128);
      }
    }
  }

  void finish() {
    h_.states = a_.states.rows;
    digest_of(a_.weight).take(h_.head);
    Digest body;
    body.bytes(a_.image + kScreenHeaderBytes, h_.bytes - kScreenHeaderBytes);
    body.take(h_.body);
    h_.own = own_digest(h_);
    std::memcpy(a_.image, &h_, sizeof h_);
  }

  const ScreenArgs& a_;
  ScreenHeader h_;
  const Kernels& kernels_;
  RowReader reader_;
  const int64_t dim_, vocabulary_, columns_;
  ScreenLayout at_{};
  std::vector<float> means_;        // [levels, D]
  std::vector<double> directions_;  // [D, D], as rows
  std::vector<float> sigma_;        // [columns]
  std::vector<double> worth_;       // [columns]: mean squares of what columns contribute
  std::vector<float> squares_;      // [columns]: of sigma, relative
  std::vector<double> lengths_;     // [groups]: |(s_i |P_i|)_g|
  std::vector<char> space_;
  std::vector<double> wide_;
  std::vector<float> narrow_, rotated_;
  std::vector<float> norms_;  // [V, groups + 1]
  std::vector<float> seen_;   // [seen, columns]
  std::vector<double> seen_norms_;
};

}  // namespace

exn_status make_screen(const ScreenArgs& args, const Kernels& kernels) {
  try {
    Builder builder(args, kernels);
    return builder.run();
  } catch (const std::bad_alloc&) {
    return fail(EXN_OUT_OF_MEMORY,
                "exn_screen_build: memory for %lld states and %lld rows of %lld "
                "columns cannot be had",
                static_cast<long long>(args.states.rows), static_cast<long long>(args.weight.rows),
                static_cast<long long>(args.weight.cols));
  }
}

}  // namespace exn::cpu
