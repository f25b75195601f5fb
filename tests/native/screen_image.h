// SPDX-License-Identifier: Apache-2.0
// The image of a screen, as a test reads it by its own means.
#pragma once

#include "screen_fixture.h"

namespace exn::test {

// Bytes of a header that its checksum is of, which comes after them, in version 1.
constexpr size_t kSigned = 184;

// Makes the header's checksum what it should be.
inline void sign(const Model& m) {
  uint64_t a[2] = {0x9e3779b97f4a7c15u, 0xc2b2ae3d27d4eb4fu};
  const auto turned = [](uint64_t x, int by) { return x << by | x >> (64 - by); };
  const auto take = [&](uint64_t w) {
    a[0] = turned(a[0] ^ w, 29) * 0x9fb21c651e98df25u;
    a[1] = turned(a[1] + w, 23) * 0xd6e8feb86659fd93u;
  };
  for (size_t i = 0; i < kSigned; i += 8) {
    uint64_t w;
    std::memcpy(&w, m.image->at.get() + i, 8);
    take(w);
  }
  take(kSigned);
  const uint64_t all = a[0] ^ a[1];
  std::memcpy(m.image->at.get() + kSigned, &all, 8);
}

// What a test reads of an image by its own means, in double.
struct Image {
  const Model& m;
  int64_t blocks, stride, means, base, rotation, sigma, codes, parts[3];
  int32_t count[3], groups, ends[8];
  float units[9], residual, frobenius;

  explicit Image(const Model& model) : m(model) {
    const char* const p = bytes();
    std::memcpy(count, p + 40, sizeof count);
    std::memcpy(&groups, p + 52, 4);
    std::memcpy(ends, p + 56, sizeof ends);
    read_numbers();
    const auto up = [](int64_t n) { return (n + 63) / 64 * 64; };
    blocks = (m.dim + 31) / 32;
    stride = up(m.vocabulary);
    means = 4096;
    base = means + up(4 * m.levels * m.dim);
    rotation = base + up(4 * m.levels * m.vocabulary);
    sigma = rotation + up(4 * m.dim * m.dim);
    codes = sigma + up(128 * blocks);
    int64_t end = codes + (groups + 1) * stride;
    for (int i = 0; i < 3; ++i) {
      parts[i] = end;
      end += up(m.vocabulary * count[i] * kBytes[i]);
    }
  }
  const char* bytes() const { return m.image->at.get(); }
  void read_numbers() {
    std::memcpy(units, bytes() + 88, sizeof units);
    std::memcpy(&residual, bytes() + 124, 4);
    std::memcpy(&frobenius, bytes() + 128, 4);
  }
  double number(int64_t at, int64_t i) const {
    float f;
    std::memcpy(&f, bytes() + at + 4 * i, 4);
    return static_cast<double>(f);
  }
  // Q_v.
  std::vector<double> row(int64_t v) const {
    static const char* const kNames[3] = {"q8_0", "q5_0", "q4_0"};
    std::vector<double> all;
    for (int i = 0; i < 3; ++i) {
      if (count[i] == 0) continue;
      HostTensor t = make_blocks(*block_format(kNames[i]), 1, 32 * count[i], 0, 0);
      std::memcpy(t.bytes.data(), bytes() + parts[i] + v * count[i] * kBytes[i],
                  static_cast<size_t>(count[i] * kBytes[i]));
      const std::vector<double> part = unpacked_row(t, 0);
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  }
  // P, by rows.
  std::vector<double> directions() const {
    std::vector<double> p;
    for (int64_t i = 0; i < m.dim * m.dim; ++i) p.push_back(number(rotation, i));
    return p;
  }
  void set(int64_t at, int64_t i, double value) const {
    const auto f = static_cast<float>(value);
    std::memcpy(m.image->at.get() + at + 4 * i, &f, 4);
  }
  void set_code(int32_t group, int64_t v, int code) const {
    m.image->at.get()[codes + group * stride + v] = static_cast<char>(code - 128);
  }
  double norm(int32_t group, int64_t v) const {
    const auto code = static_cast<signed char>(bytes()[codes + group * stride + v]);
    return (code + 128) * static_cast<double>(units[group]);
  }

 private:
  static constexpr int64_t kBytes[3] = {34, 22, 18};
};

inline double length_of(const std::vector<double>& x) {
  double sum = 0;
  for (const double v : x) sum += v * v;
  return std::sqrt(sum);
}

// What is exact of P x, padded with zeros.
inline std::vector<double> rotated(const Image& image, const std::vector<double>& p,
                                   const std::vector<double>& x) {
  std::vector<double> y(static_cast<size_t>(image.blocks * 32));
  const size_t dim = x.size();
  for (size_t i = 0; i < dim; ++i) {
    for (size_t k = 0; k < dim; ++k) y[i] += p[i * dim + k] * x[k];
  }
  return y;
}

// |(f x)_g|, where f is s or 1 / s.
inline std::vector<double> by_groups(const Image& image, const std::vector<double>& x, bool over) {
  std::vector<double> by(static_cast<size_t>(image.groups));
  int32_t g = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const auto at = static_cast<int64_t>(i);
    while (at / 32 >= image.ends[g]) ++g;
    const double s = image.number(image.sigma, at), v = over ? x[i] / s : x[i] * s;
    by[static_cast<size_t>(g)] += v * v;
  }
  for (double& b : by) b = std::sqrt(b);
  return by;
}

}  // namespace exn::test
