// SPDX-License-Identifier: Apache-2.0
// Makes the image of a screen (exeunt/screen.h): directions of the states, then row by row of the
// head its rotation, its blocks, and the norms of what they lost.
#include "screen.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <new>
#include <vector>

#include "base/status.h"
#include "pool.h"
#include "rotated_rows.h"
#include "screen_draft.h"
#include "screen_rotation.h"
#include "screen_rows.h"
#include "weight_reader.h"

namespace exn::cpu {
namespace {

// The mean of the states of each level.
exn_status take_means(ScreenDraft* draft) {
  ScreenDraft& d = *draft;
  std::vector<double> sums(size(d.h.levels * d.dim));
  std::vector<int64_t> counts(size(d.h.levels));
  for (int64_t n = 0; n < d.a.states.rows; ++n) {
    const int32_t l = d.level(n);
    if (l < 0 || l >= d.h.levels) {
      return fail(EXN_INVALID_ARGUMENT, "exn_screen_build: levels[%lld] is %d, expected 0..%d",
                  static_cast<long long>(n), l, d.h.levels - 1);
    }
    const float* const x = d.state(n);
    for (int64_t i = 0; i < d.dim; ++i) {
      if (!std::isfinite(x[i])) {
        return fail(EXN_INVALID_ARGUMENT,
                    "exn_screen_build: states[%lld,%lld] is %g, expected a finite value",
                    static_cast<long long>(n), static_cast<long long>(i),
                    static_cast<double>(x[i]));
      }
      sums[size(l * d.dim + i)] += static_cast<double>(x[i]);
    }
    ++counts[size(l)];
  }
  d.means.resize(sums.size());
  for (int32_t l = 0; l < d.h.levels; ++l) {
    if (counts[size(l)] == 0) {
      return fail(EXN_INVALID_ARGUMENT,
                  "exn_screen_build: level %d has 0 states, expected at least 1", l);
    }
    for (int64_t i = 0; i < d.dim; ++i) {
      const size_t at = size(l * d.dim + i);
      d.means[at] = static_cast<float>(sums[at] / static_cast<double>(counts[size(l)]));
    }
  }
  return EXN_OK;
}

// Whether all elements of the head are finite.
exn_status look_at_head(const ScreenDraft& d) {
  const WeightReader reader(d.a.weight);
  std::vector<uint8_t> wrong(size(d.vocabulary));
  parallel_for((d.vocabulary + 255) / 256, 1, [&](int64_t begin, int64_t end) {
    std::unique_ptr<double[]> row(new (std::nothrow) double[size(2 * d.dim)]);
    for (int64_t v = begin * 256; v < std::min(end * 256, d.vocabulary); ++v) {
      double sum = row == nullptr ? HUGE_VAL : 0;
      if (row != nullptr) reader.read(v, row.get(), row.get() + d.dim);
      for (int64_t i = 0; i < d.dim && row != nullptr; ++i) sum += std::fabs(row[size(i)]);
      wrong[size(v)] = std::isfinite(sum) ? 0 : row == nullptr ? 2 : 1;
    }
  });
  for (int64_t v = 0; v < d.vocabulary; ++v) {
    if (wrong[size(v)] == 2) throw std::bad_alloc();
    if (wrong[size(v)] == 1) {
      return fail(EXN_INVALID_ARGUMENT,
                  "exn_screen_build: row %lld of weight has an element that is not finite",
                  static_cast<long long>(v));
    }
  }
  return EXN_OK;
}

// Of as many steps, the number of blocks in Q8_0 with the least expected error.
void split(ScreenDraft* draft) {
  ScreenDraft& d = *draft;
  const int64_t blocks = d.columns / 32;
  const int64_t steps = 4 * d.h.segments[0] + d.h.segments[1];
  // Of the values, with the best scales: the share that 8, 5 and 4 bits lose of their deviation.
  constexpr double kLost[kScreenSegments] = {0.005, 0.038, 0.078};
  std::vector<double> sizes(size(blocks));
  for (int64_t b = 0; b < blocks; ++b) {
    for (int i = 0; i < 32; ++i) sizes[size(b)] += d.worth[size(b * 32 + i)];
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
    d.h.segments[0] = static_cast<int32_t>(eight);
    d.h.segments[1] = static_cast<int32_t>(five);
    d.h.segments[2] = static_cast<int32_t>(blocks - eight - five);
  }
  for (int32_t g = 0; g < d.h.groups; ++g)
    d.h.ends[g] = static_cast<int32_t>((g + 1) * blocks / d.h.groups);
}

// Norms as multiples of a 255th of the largest, rounded up.
void write_codes(ScreenDraft* draft) {
  ScreenDraft& d = *draft;
  const int32_t all = d.h.groups + 1;
  for (int32_t g = 0; g < all; ++g) {
    float most = 0;
    for (int64_t v = 0; v < d.vocabulary; ++v) most = std::fmax(most, d.norms[size(v * all + g)]);
    const float unit = float_up(static_cast<double>(most) / 255 * kUp);
    d.h.units[g] = unit;
    auto* const to = reinterpret_cast<uint8_t*>(d.a.image) + d.at.codes + g * d.at.codes_stride;
    for (int64_t v = 0; v < d.vocabulary; ++v) {
      const double norm = static_cast<double>(d.norms[size(v * all + g)]);
      double code = unit > 0 ? std::ceil(norm / static_cast<double>(unit)) : 0;
      if (code * static_cast<double>(unit) < norm) code += 1;
      // As signed bytes, which is how every instruction set widens them.
      to[v] = static_cast<uint8_t>(static_cast<int>(std::fmin(code, 255)) - 128);
    }
  }
}

void finish(ScreenDraft* draft) {
  ScreenDraft& d = *draft;
  d.h.states = d.a.states.rows;
  digest_of(d.a.weight).take(d.h.head);
  Digest body;
  body.bytes(d.a.image + kScreenHeaderBytes, d.h.bytes - kScreenHeaderBytes);
  body.take(d.h.body);
  d.h.own = own_digest(d.h);
  std::memcpy(d.a.image, &d.h, sizeof d.h);
}

exn_status build(const ScreenArgs& args, const Kernels& kernels) {
  ScreenDraft draft(args);
  RotatedRows rows(args.weight, kernels);
  exn_status status = take_means(&draft);
  if (status == EXN_OK) status = look_at_head(draft);
  if (status != EXN_OK) return status;
  std::memset(args.image, 0, static_cast<size_t>(draft.h.bytes));
  find_directions(&draft);
  status = order_columns(&draft, &rows);
  if (status != EXN_OK) return status;
  split(&draft);
  draft.at = layout_of(draft.h);
  write_directions(&draft);
  status = write_rows(&draft, &rows);
  if (status != EXN_OK) return status;
  write_codes(&draft);
  finish(&draft);
  return EXN_OK;
}

}  // namespace

exn_status make_screen(const ScreenArgs& args, const Kernels& kernels) {
  try {
    return build(args, kernels);
  } catch (const std::bad_alloc&) {
    return fail(EXN_OUT_OF_MEMORY,
                "exn_screen_build: memory for %lld states and %lld rows of %lld "
                "columns cannot be had",
                static_cast<long long>(args.states.rows), static_cast<long long>(args.weight.rows),
                static_cast<long long>(args.weight.cols));
  }
}

}  // namespace exn::cpu
