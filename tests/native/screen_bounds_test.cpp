// SPDX-License-Identifier: Apache-2.0
// The bounds of screens (screen.h), from the image alone: they hold for every row and state; and what
// the builder says of what it saw.
#include "screen_image.h"

namespace exn::test {
namespace {

// An element of a head in blocks as a product and what is added to it, |d q| + |m|, and the step
// |d|. Without a look at the format: of blocks whose quants are all 0, and whose low ones are all
// 1.
std::vector<double> head_parts(const HostTensor& head, int64_t row) {
  const std::vector<double> w = head_row(head, row);
  std::vector<double> parts;
  if (head.blocks == EXN_BLOCKS_NONE) {
    for (const double x : w) parts.push_back(std::fabs(x));
    return parts;
  }
  struct Quants {
    const char* name;
    int64_t begin, low, end;  // of all, and of the low bits
    bool second;
  };
  static constexpr Quants kQuants[] = {{"q8_0", 2, 2, 34, false},   {"q4_0", 2, 2, 18, false},
                                       {"q4_1", 4, 4, 20, true},    {"q5_0", 2, 6, 22, false},
                                       {"q5_1", 4, 8, 24, true},    {"q4_k", 16, 16, 144, true},
                                       {"q5_k", 16, 48, 176, true}, {"q6_k", 0, 0, 128, false}};
  const BlockFormat& format = *block_format(head.blocks);
  const Quants& q = *std::find_if(std::begin(kQuants), std::end(kQuants), [&](const Quants& k) {
    return format.name == std::string(k.name);
  });
  HostTensor none = part_of(head, row, 1);
  none.blocks = head.blocks;
  HostTensor ones = none;
  for (int64_t b = 0; b < none.cols; b += format.bytes) {
    const int64_t all = format.tag == EXN_BLOCKS_Q6_K ? 192 : q.end;
    for (int64_t i = q.begin; i < all; ++i) none.bytes[static_cast<size_t>(b + i)] = 0;
    for (int64_t i = q.begin; i < all; ++i)
      ones.bytes[static_cast<size_t>(b + i)] = i < q.low || i >= q.end         ? 0
                                               : format.tag == EXN_BLOCKS_Q8_0 ? 1
                                                                               : 0x11;
  }
  const std::vector<double> zero = unpacked_row(none, 0), one = unpacked_row(ones, 0);
  for (size_t i = 0; i < w.size(); ++i) {
    const double shift = q.second ? zero[i] : 0;
    parts.push_back(std::fabs(w[i] - shift) + std::fabs(shift) + std::fabs(one[i] - zero[i]));
  }
  return parts;
}

// Of exact arithmetic on both sides: |w_v (x - m) - Q_v y| <= the sums over groups, + K_v |r|, for
// y = P (x - m); and the norms are those of the errors, rounded up by less than a unit and 1 %. The
// largest of them is no multiple that is rounded: it is the error's, and what the rotation may have
// moved, to the last bits.
void expect_bounds(const Model& m, const HostTensor& hidden, int32_t level, int64_t* pairs) {
  const Image image(m);
  const auto groups = static_cast<size_t>(image.groups);
  const std::vector<double> p = image.directions();
  const auto dim = static_cast<size_t>(m.dim);
  std::vector<std::vector<double>> rows, errors;
  // |(s |P_i|)_g|
  std::vector<double> lengths(static_cast<size_t>(image.blocks * 32));
  double frobenius = 0;
  for (size_t i = 0; i < dim; ++i) {
    for (size_t k = 0; k < dim; ++k) lengths[i] += p[i * dim + k] * p[i * dim + k];
    frobenius += lengths[i];
    lengths[i] = std::sqrt(lengths[i]);
  }
  EXPECT_GE(static_cast<double>(image.frobenius), std::sqrt(frobenius));
  EXPECT_LE(static_cast<double>(image.frobenius), std::sqrt(frobenius) * (1 + 1e-6));
  lengths = by_groups(image, lengths, false);
  std::vector<double> largest(groups), moved_most(groups);
  double largest_norm = 0;
  for (int64_t v = 0; v < m.vocabulary; ++v) {
    const std::vector<double> w = head_row(m.head, v);
    const std::vector<double> q = image.row(v);
    std::vector<double> e = rotated(image, p, w);
    double base = 0;
    for (size_t i = 0; i < dim; ++i)
      base += w[i] * image.number(image.means, level * m.dim + static_cast<int64_t>(i));
    for (size_t i = 0; i < e.size(); ++i) e[i] -= q[i];
    const double own = length_of(w), parts = length_of(head_parts(m.head, v)),
                 norm_of_row = std::max({own, parts, length_of(q)});
    EXPECT_NEAR(image.number(image.base, level * m.vocabulary + v), base,
                1e-7 * (std::fabs(base) + own));
    const double k = image.norm(image.groups, v);
    EXPECT_GE(k, norm_of_row);
    EXPECT_LE(k, norm_of_row * 1.00001 + static_cast<double>(image.units[image.groups]) * 1.00001);
    largest_norm = std::max(largest_norm, norm_of_row);
    const std::vector<double> by = by_groups(image, e, false);
    const double n = std::floor(static_cast<double>(m.dim) / 8) + 16,
                 moved = n * 0x1p-24 / (1 - n * 0x1p-24) * own;
    for (size_t g = 0; g < groups; ++g) {
      const double norm = image.norm(static_cast<int32_t>(g), v),
                   unit = static_cast<double>(image.units[g]);
      EXPECT_GE(norm, by[g] * (1 - 1e-12)) << "row " << v << ", group " << g;
      EXPECT_LE(norm, by[g] * 1.01 + unit * 1.01 + 1e-3 * k) << "row " << v;
      if (by[g] + moved * lengths[g] <= largest[g]) continue;
      largest[g] = by[g] + moved * lengths[g];
      moved_most[g] = moved * lengths[g];
    }
    rows.push_back(w);
    errors.push_back(e);
  }
  const double norms = 255 * static_cast<double>(image.units[image.groups]);
  EXPECT_GE(norms, largest_norm);
  EXPECT_LE(norms, largest_norm * (1 + 1e-6));
  for (size_t g = 0; g < groups; ++g) {
    const double most = 255 * static_cast<double>(image.units[g]);
    // The computed rotation moves them itself, by much less than it may.
    EXPECT_GE(most, largest[g] - 0.4 * moved_most[g]) << "group " << g;
    EXPECT_LE(most, (largest[g] + 0.4 * moved_most[g]) * (1 + 1e-6)) << "group " << g;
  }
  for (int64_t r = 0; r < hidden.rows; ++r) {
    std::vector<double> d(dim);
    for (size_t i = 0; i < dim; ++i) {
      const auto at = static_cast<int64_t>(i);
      d[i] = hidden.at(r, at) - image.number(image.means, level * m.dim + at);
    }
    const std::vector<double> y = rotated(image, p, d);
    std::vector<double> rest = d;
    for (size_t i = 0; i < dim; ++i) {
      for (size_t k = 0; k < dim; ++k) rest[k] -= p[i * dim + k] * y[i];
    }
    const double off = length_of(rest);
    EXPECT_LE(off, static_cast<double>(image.residual) * length_of(d) + 1e-30);
    const std::vector<double> by = by_groups(image, y, true);
    for (int64_t v = 0; v < m.vocabulary; ++v) {
      const auto at = static_cast<size_t>(v);
      double error = 0, bound = image.norm(image.groups, v) * off * (1 + 1e-9) + 1e-300;
      for (size_t i = 0; i < y.size(); ++i) error += errors[at][i] * y[i];
      for (size_t i = 0; i < dim; ++i) error += rows[at][i] * rest[i];
      for (int32_t g = 0; g < image.groups; ++g)
        bound += image.norm(g, v) * by[static_cast<size_t>(g)] * (1 + 1e-9);
      if (!(std::fabs(error) <= bound)) {
        ADD_FAILURE() << "row " << r << ", " << v << ": " << error << ", bound " << bound;
        return;
      }
      ++*pairs;
    }
  }
}

// States along (s^2 e_v), which make Cauchy-Schwarz an equality, for some v.
HostTensor along_errors(const Model& m, int64_t rows, uint64_t seed) {
  const Image image(m);
  const std::vector<double> p = image.directions();
  const auto dim = static_cast<size_t>(m.dim);
  HostTensor x = make_tensor(Type::kF32, {rows, m.dim});
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t v = pick(seed, 50, r, m.vocabulary);
    const std::vector<double> q = image.row(v);
    std::vector<double> e = rotated(image, p, head_row(m.head, v)), to(dim);
    double length = 0;
    for (size_t i = 0; i < dim; ++i) {
      const double s = image.number(image.sigma, static_cast<int64_t>(i)),
                   y = (e[i] - q[i]) * s * s;
      length += y * y;
      for (size_t k = 0; k < dim; ++k) to[k] += p[i * dim + k] * y;
    }
    const double sign = (r % 2 == 0 ? 20 : -20) / std::sqrt(length + 1e-60);
    for (int64_t i = 0; i < m.dim; ++i)
      x.set(r, i, image.number(image.means, i) + sign * to[static_cast<size_t>(i)]);
  }
  return x;
}

TEST(ScreenBounds, HoldForRandomHeadsAndStates) {
  const int64_t models = in_full() ? 400 : quick() ? 4 : 40;
  int64_t pairs = 0;
  for (int64_t n = 0; n < models; ++n) {
    SCOPED_TRACE("model " + std::to_string(n));
    const auto seed = static_cast<uint64_t>(1000 + n);
    const HeadType& type = kHeads[n % 4];  // those of any multiple of 32
    const int64_t dim = type.blocks != nullptr ? 32 * (1 + n % 3) : 1 + pick(seed, 60, 0, 90);
    const int64_t vocabulary = 40 + pick(seed, 60, 1, 200);
    const Model m(make_head(type.type, type.blocks == nullptr ? nullptr : block_format(type.blocks),
                            vocabulary, dim, seed),
                  dim, 1,
                  n % 3 == 0   ? 8.5f
                  : n % 3 == 1 ? 4.5f
                               : 5.3f,
                  seed);
    Question q;
    for (const HostTensor& x : {hidden_of(m, Type::kF32, 16, seed), along_errors(m, 8, seed)}) {
      expect_bounds(m, x, 0, &pairs);
      q.hidden = x;
      q.budget = static_cast<int32_t>(vocabulary);
      expect_same(m, q);
    }
    if (HasFailure()) return;
  }
  EXPECT_GT(pairs, models * 2500);
}

// Blocks of 256, and groups of several blocks, of all three formats; levels that are not the first.
TEST(ScreenBounds, HoldForLongRows) {
  struct Kind {
    const char* blocks;
    int64_t dim;
    float bits;
  };
  const Kind kinds[] = {{"q4_k", 256, 0}, {"q5_k", 256, 0},     {"q6_k", 256, 5.5f},
                        {"q4_1", 64, 0},  {"q5_1", 64, 4.5f},   {"q5_0", 96, 8.5f},
                        {"q4_0", 64, 0},  {nullptr, 290, 6.3f}, {nullptr, 5, 0}};
  for (size_t i = 0; i < std::size(kinds); ++i) {
    if (!in_full() && !in_share(i)) continue;
    if (quick() && i == 2) continue;
    const Kind& kind = kinds[i];
    SCOPED_TRACE(std::to_string(kind.dim) + " " + (kind.blocks == nullptr ? "f32" : kind.blocks));
    const int64_t vocabulary = kind.dim == 5 ? 1030 : 12;  // which the builder takes in two goes
    const Model m(make_head(kind.blocks == nullptr ? Type::kF32 : Type::kU8,
                            kind.blocks == nullptr ? nullptr : block_format(kind.blocks),
                            vocabulary, kind.dim, 70 + i),
                  kind.dim, 2, kind.bits, 70 + i);
    int64_t pairs = 0;
    expect_bounds(m, hidden_of(m, Type::kF32, 3, i), 1, &pairs);
    EXPECT_EQ(pairs, 3 * vocabulary);
  }
}

TEST(ScreenBounds, HoldWhereNothingVaries) {
  for (const float deviation : {0.0f, 1e-20f, 1e18f}) {
    SCOPED_TRACE(deviation);
    const Model m(make_head(Type::kF32, nullptr, 300, 48, 5), 48, 1, 0, 5, deviation);
    Question q;
    q.hidden = hidden_of(m, Type::kF32, 16, 9);
    expect_same(m, q);
    int64_t pairs = 0;
    expect_bounds(m, q.hidden, 0, &pairs);
    EXPECT_EQ(pairs, 300 * 16);
  }
}

// With a level for each column, whose states are all along it, w_v m is an element of the head: the
// builder reads what embedding does.
TEST(ScreenBuilder, ReadsTheElementsOfHeads) {
  constexpr int64_t kRows = 7;
  size_t index = 0;
  for (const HeadType& type : kHeads) {
    if (!in_full() && !in_share(index++)) continue;
    SCOPED_TRACE(type.name);
    const BlockFormat* const format = type.blocks == nullptr ? nullptr : block_format(type.blocks);
    const int64_t dim = format == nullptr ? 45 : format->elements;
    HostTensor head = make_head(type.type, format, kRows, dim, 90 + index);
    if (format != nullptr) {
      // From the last row on every d is its own, and so are scales within blocks.
      HostTensor extreme = make_blocks(*format, kRows, dim, 0, 0);
      fill_blocks(&extreme, index, 2, "extreme", 0.25f, "-");
      copy_row(extreme, 0, &head, 2);
      copy_row(extreme, 1, &head, 4);
    } else {
      for (int64_t i = 0; i < dim; ++i) {  // down to what is subnormal, up to the largest
        head.set(2, i, std::ldexp(i % 2 == 0 ? 1.75 : -1.5, static_cast<int>(-25 + i)));
        head.set(4, i, i % 3 == 0 ? 0.0 : i % 3 == 1 ? -65504 : 0x1p-24 * static_cast<double>(i));
      }
      for (int64_t i = 39; i < dim; ++i) head.set(2, i, 0);
    }
    std::vector<float> states(static_cast<size_t>(2 * dim * dim));
    std::vector<int32_t> levels;
    for (int64_t n = 0; n < 2 * dim; ++n) {
      levels.push_back(static_cast<int32_t>(n % dim));
      states[static_cast<size_t>(n * dim + n % dim)] = 1;
    }
    View weight = view_of(head), x = view_of(states, {2 * dim, dim}), level = view_of(levels);
    exn_screen_params p = {};
    p.struct_size = sizeof p;
    p.weight_blocks = head.blocks;
    p.weight = weight.dl();
    p.states = x.dl();
    p.levels = level.dl();
    p.level_count = static_cast<int32_t>(dim);
    size_t bytes = 0;
    ASSERT_EQ(exn_screen_size(&p, &bytes), EXN_OK) << exn_last_error();
    const Aligned image(bytes);
    View to = image.view();
    p.image = to.dl();
    ASSERT_EQ(exn_screen_build(&p), EXN_OK) << exn_last_error();
    const int64_t base = 4096 + 4 * dim * dim + (64 - 4 * dim * dim % 64) % 64;
    for (int64_t v = 0; v < kRows; ++v) {
      const std::vector<double> w = head_row(head, v);
      for (int64_t i = 0; i < dim; ++i) {
        float f;
        std::memcpy(&f, image.at.get() + base + 4 * (i * kRows + v), 4);
        EXPECT_EQ(f, static_cast<float>(w[static_cast<size_t>(i)])) << "row " << v << ", " << i;
      }
    }
  }
}

// What an image says about itself, of the states that it was made of.
TEST(ScreenBuilder, TellsWhatItSaw) {
  struct Kind {
    int64_t dim, vocabulary;
    int32_t levels;
    float bits;
    int32_t parts[3];
  };
  for (const Kind& kind : {Kind{40, 90, 1, 0, {0, 1, 1}}, Kind{128, 40, 2, 6.3f, {1, 2, 1}},
                           Kind{260, 20, 3, 6.3f, {2, 7, 0}}}) {
    SCOPED_TRACE(kind.dim);
    if (quick() && kind.dim > 256) continue;
    const Model m(make_head(Type::kF32, nullptr, kind.vocabulary, kind.dim, 15), kind.dim,
                  kind.levels, kind.bits, 15);
    const Image image(m);
    const auto dim = static_cast<size_t>(m.dim);
    const int64_t count = static_cast<int64_t>(m.states.size()) / m.dim;
    View weight = view_of(m.head), bytes = m.image->view();
    exn_screen_params p = m.params();
    p.weight = weight.dl();
    p.image = bytes.dl();
    exn_screen_info info = {};
    ASSERT_EQ(exn_screen_check(&p, &info), EXN_OK) << exn_last_error();
    EXPECT_EQ(info.vocabulary, m.vocabulary);
    EXPECT_EQ(info.dim, m.dim);
    EXPECT_EQ(info.bytes, static_cast<int64_t>(m.image->bytes));
    EXPECT_EQ(info.states, count);
    EXPECT_EQ(info.level_count, m.levels);
    EXPECT_EQ(info.groups, std::min<int64_t>(image.blocks, 8));
    for (int32_t g = 0; g < image.groups; ++g)
      EXPECT_EQ(image.ends[g], (g + 1) * image.blocks / image.groups);
    double bits = 0;
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(image.count[i], kind.parts[i]) << "part " << i;
      bits += image.count[i] * (i == 0 ? 8.5 : i == 1 ? 5.5 : 4.5);
    }
    EXPECT_FLOAT_EQ(info.bits_per_weight,
                    static_cast<float>(bits / static_cast<double>(image.blocks)));

    // Means, and deviations along the directions.
    const std::vector<double> directions = image.directions();
    std::vector<std::vector<double>> means(static_cast<size_t>(m.levels), std::vector<double>(dim)),
        seen;
    const auto state = [&](int64_t n, size_t i) {
      return static_cast<double>(m.states[static_cast<size_t>(n) * dim + i]);
    };
    for (int64_t n = 0; n < count; ++n) {
      const int64_t own = (count - n % m.levels + m.levels - 1) / m.levels;  // states of its level
      for (size_t i = 0; i < dim; ++i)
        means[static_cast<size_t>(n % m.levels)][i] += state(n, i) / static_cast<double>(own);
    }
    std::vector<double> squares(dim), worth(dim);
    double trace = 0;
    for (int64_t n = 0; n < count; ++n) {
      std::vector<double> d(dim);
      for (size_t i = 0; i < dim; ++i)
        d[i] = state(n, i) - means[static_cast<size_t>(n % m.levels)][i];
      seen.push_back(rotated(image, directions, d));
      for (size_t i = 0; i < dim; ++i) {
        squares[i] += seen.back()[i] * seen.back()[i] / static_cast<double>(count);
        trace += d[i] * d[i] / static_cast<double>(count);
      }
    }
    for (int32_t l = 0; l < m.levels; ++l) {
      for (int64_t i = 0; i < m.dim; ++i)
        EXPECT_NEAR(image.number(image.means, l * m.dim + i),
                    means[static_cast<size_t>(l)][static_cast<size_t>(i)], 1e-5);
    }
    std::vector<std::vector<double>> errors;
    for (int64_t v = 0; v < m.vocabulary; ++v) {
      const std::vector<double> w = rotated(image, directions, head_row(m.head, v));
      std::vector<double> e = w;
      const std::vector<double> q = image.row(v);
      for (size_t i = 0; i < e.size(); ++i) e[i] -= q[i];
      errors.push_back(e);
      for (size_t i = 0; i < dim; ++i) worth[i] += w[i] * w[i];
    }
    for (size_t i = 0; i < dim; ++i) {
      const double s = image.number(image.sigma, static_cast<int64_t>(i));
      EXPECT_NEAR(s * s, squares[i] + trace / static_cast<double>(dim) / 100, 1e-4 * s * s) << i;
      worth[i] *= s * s;
      if (i > 0) {
        EXPECT_LE(worth[i], worth[i - 1] * (1 + 1e-4)) << i;
      }
    }
    for (int64_t i = m.dim; i < 32 * image.blocks; ++i)
      EXPECT_EQ(image.number(image.sigma, i), image.number(image.sigma, m.dim - 1));

    // The worst error of up to 16 states, as a multiple of what a calibrated bound counts in.
    double worst = 0;
    for (int64_t k = 0; k < std::min<int64_t>(count, 16); ++k) {
      const std::vector<double>& y = seen[static_cast<size_t>(k * count / 16)];
      const std::vector<double> over = by_groups(image, y, true);
      for (const std::vector<double>& e : errors) {
        const std::vector<double> by = by_groups(image, e, false);
        double error = 0, square = 0;
        for (size_t i = 0; i < y.size(); ++i) error += e[i] * y[i];
        for (int32_t g = 0; g < image.groups; ++g) {
          const double term = by[static_cast<size_t>(g)] * over[static_cast<size_t>(g)];
          square += term * term / (32 * (image.ends[g] - (g == 0 ? 0 : image.ends[g - 1])));
        }
        worst = std::max(worst, std::fabs(error) / std::sqrt(square));
      }
    }
    EXPECT_NEAR(static_cast<double>(info.worst_ratio), worst, 1e-3 * worst);

    // What a format loses of values that are nearly normal.
    size_t at = 0;
    for (int i = 0; i < 3; ++i) {
      double lost = 0, whole = 0;
      const size_t end = at + 32 * static_cast<size_t>(image.count[i]);
      for (; at < std::min(end, dim); ++at) {
        for (const std::vector<double>& e : errors) lost += e[at] * e[at];
        const double s = image.number(image.sigma, static_cast<int64_t>(at));
        whole += worth[at] / (s * s);
      }
      if (image.count[i] == 0) continue;
      EXPECT_LE(std::sqrt(lost / whole), i == 0 ? 0.006 : i == 1 ? 0.048 : 0.09) << "part " << i;
    }
  }
}

}  // namespace
}  // namespace exn::test
