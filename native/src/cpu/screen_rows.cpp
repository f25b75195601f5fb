// SPDX-License-Identifier: Apache-2.0
#include "screen_rows.h"

#include <algorithm>
#include <cmath>

#include "pool.h"
#include "screen_blocks.h"

namespace exn::cpu {
namespace {

constexpr int kMostSeen = 16;  // states whose errors are looked at

class RowWriter {
 public:
  RowWriter(ScreenDraft* draft, RotatedRows* rows) : d_(*draft), rows_(*rows) {}

  exn_status run() {
    see_states();
    d_.norms.resize(size(d_.vocabulary * (d_.h.groups + 1)));
    squares_.resize(size(d_.columns));
    for (int64_t i = 0; i < d_.columns; ++i) {
      const float s = d_.sigma[size(i)] / d_.sigma[0];
      squares_[size(i)] = s * s > 1e-12f ? std::fmin(s * s, 1e12f) : 1e-12f;
    }
    constexpr int64_t kAtOnce = RotatedRows::kAtOnce;
    std::vector<float> worst(size((d_.vocabulary + kAtOnce - 1) / kAtOnce * kAtOnce));
    for (int64_t first = 0; first < d_.vocabulary; first += kAtOnce) {
      const int64_t count = std::min(d_.vocabulary - first, kAtOnce);
      rows_.read(first, count, 1);
      const exn_status status = rows_.rotate(d_.floats(d_.at.rotation), count);
      if (status != EXN_OK) return status;
      parallel_for(count, 8, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) worst[size(first + r)] = write_row(first + r, r);
      });
    }
    d_.h.worst_ratio = *std::max_element(worst.begin(), worst.end());
    return EXN_OK;
  }

 private:
  // What the blocks of a row lost: with each of the states that are looked at, and of its group as
  // far as it was passed over.
  struct Errors {
    double stored = 0, weighted = 0;
    double sums[kMostSeen] = {}, squares[kMostSeen] = {};
  };

  // Some of the states as they meet the blocks, to look at their errors.
  void see_states() {
    const int64_t count = std::min<int64_t>(d_.a.states.rows, kMostSeen), dim = d_.dim;
    seen_.assign(size(count * d_.columns), 0);
    seen_norms_.assign(size(count * d_.h.groups), 0);
    const float* const rotation = d_.floats(d_.at.rotation);
    for (int64_t k = 0; k < count; ++k) {
      const int64_t n = k * d_.a.states.rows / count;
      int32_t g = 0;
      for (int64_t i = 0; i < dim; ++i) {
        while (i / 32 >= d_.h.ends[g]) ++g;
        double y = 0;
        for (int64_t j = 0; j < dim; ++j) {
          y += static_cast<double>(rotation[i * dim + j]) *
               (static_cast<double>(d_.state(n)[j]) -
                static_cast<double>(d_.means[size(d_.level(n) * dim + j)]));
        }
        seen_[size(k * d_.columns + i)] = static_cast<float>(y);
        const double over = y / static_cast<double>(d_.sigma[size(i)]);
        seen_norms_[size(k * d_.h.groups + g)] += over * over;
      }
    }
    for (double& norm : seen_norms_) norm = std::sqrt(norm);
    seen_count_ = count;
  }

  // The products of row v with the means.
  void write_base(int64_t v, const double* w) {
    for (int32_t l = 0; l < d_.h.levels; ++l) {
      double sum = 0;
      for (int64_t i = 0; i < d_.dim; ++i)
        sum += w[i] * static_cast<double>(d_.means[size(l * d_.dim + i)]);
      d_.floats(d_.at.base)[l * d_.vocabulary + v] = static_cast<float>(sum);
    }
  }

  // What block b of the row, of those values, lost by what it stands for.
  void add_errors(int64_t b, const float* values, const double* stands, Errors* e) const {
    float errors[32];
    double weighted = e->weighted, stored = e->stored;
    for (int i = 0; i < 32; ++i) {
      const double lost = static_cast<double>(values[i]) - stands[i];
      const double es = lost * static_cast<double>(d_.sigma[size(b * 32 + i)]);
      weighted += es * es;
      stored += stands[i] * stands[i];
      errors[i] = static_cast<float>(lost);
    }
    e->weighted = weighted;
    e->stored = stored;
    for (int64_t k = 0; k < seen_count_; ++k) {
      const float* const x = seen_.data() + k * d_.columns + b * 32;
      float four[4] = {};
      for (int i = 0; i < 32; i += 4) {
        for (int j = 0; j < 4; ++j) four[j] += errors[i + j] * x[i + j];
      }
      e->sums[k] += static_cast<double>((four[0] + four[1]) + (four[2] + four[3]));
    }
  }

  // The norm of group g of row v, when the last block of the group is there. `moved`: what the
  // rotation may have moved a column by, as a share of its length.
  void end_group(int64_t v, int32_t g, double moved, Errors* e) {
    const double norm = std::sqrt(e->weighted);
    d_.norms[size(v * (d_.h.groups + 1) + g)] =
        float_up((norm + moved * d_.lengths[size(g)]) * kUp);
    const int64_t width = 32 * (d_.h.ends[g] - (g == 0 ? 0 : d_.h.ends[g - 1]));
    for (int64_t k = 0; k < seen_count_; ++k) {
      const double bound = norm * seen_norms_[size(k * d_.h.groups + g)];
      e->squares[k] += bound * bound / static_cast<double>(width);
    }
    e->weighted = 0;
  }

  // The blocks of row v, of values y.
  Errors write_blocks(int64_t v, const float* y, double moved) {
    Errors e;
    int32_t g = 0, segment = 0, in_segment = 0;
    for (int64_t b = 0; b < d_.columns / 32; ++b) {
      while (in_segment == d_.h.segments[segment]) {
        ++segment;
        in_segment = 0;
      }
      float values[32] = {};
      const int64_t some = std::min<int64_t>(d_.dim - b * 32, 32);
      std::copy_n(y + b * 32, some, values);
      const int64_t bytes = shape_of(kScreenFormats[segment]).bytes;
      auto* const to = reinterpret_cast<uint8_t*>(d_.a.image) + d_.at.segments[segment] +
                       (v * d_.h.segments[segment] + in_segment) * bytes;
      double stands[32];
      put_block(kScreenFormats[segment], values, squares_.data() + b * 32, to, stands);
      ++in_segment;
      add_errors(b, values, stands, &e);
      if (b + 1 >= d_.h.ends[g]) end_group(v, g++, moved, &e);
    }
    return e;
  }

  // Writes row v, which is the r-th that were read; returns the worst of its errors.
  float write_row(int64_t v, int64_t r) {
    const double* const w = rows_.wide(r);
    double own = 0, terms = 0;
    for (int64_t i = 0; i < d_.dim; ++i) {
      own += w[i] * w[i];
      terms += w[d_.dim + i] * w[d_.dim + i];
    }
    write_base(v, w);
    own = std::sqrt(own);
    // What the rotation in f32 may have moved, by column P_i gamma |w|.
    const double n = static_cast<double>(d_.dim / 8 + 16);
    const double moved = n * 0x1p-24 / (1 - n * 0x1p-24) * own;
    const Errors e = write_blocks(v, rows_.rotated(r), moved);
    d_.norms[size(v * (d_.h.groups + 1) + d_.h.groups)] =
        float_up(std::fmax(std::fmax(own, std::sqrt(terms)), std::sqrt(e.stored)) * kUp);
    double worst = 0;
    for (int64_t k = 0; k < seen_count_; ++k) {
      if (e.squares[k] > 0)
        worst = std::fmax(worst, std::fabs(e.sums[k]) / std::sqrt(e.squares[k]));
    }
    return static_cast<float>(worst);
  }

  ScreenDraft& d_;
  RotatedRows& rows_;
  std::vector<float> squares_;  // [columns]: of sigma, relative
  int64_t seen_count_ = 0;
  std::vector<float> seen_;         // [seen, columns]
  std::vector<double> seen_norms_;  // [seen, groups]
};

}  // namespace

exn_status write_rows(ScreenDraft* draft, RotatedRows* rows) {
  return RowWriter(draft, rows).run();
}

}  // namespace exn::cpu
