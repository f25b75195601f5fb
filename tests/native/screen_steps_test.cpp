// SPDX-License-Identifier: Apache-2.0
// The bounds of screens (screen.h) as a run makes them, term by term.
#include "screen_image.h"

namespace exn::test {
namespace {

// A screen of a head of zeros, whose numbers a test makes up: all logits are their biases, and
// their bounds are made of the image's numbers alone. All rows are masked but row 0, which lies a
// little above, is read alone and has no bound, and one other: how far its bounds are apart is what
// p1's are made of.
class Bound {
 public:
  explicit Bound(int64_t dim, const char* blocks = nullptr)
      : m_(zeros(dim, blocks), dim, 2, dim > 256 ? 6.3f : 0, 3),
        image_(m_),
        row_(m_.vocabulary - 2) {
    for (int32_t g = 0; g <= image_.groups; ++g) {
      for (int64_t v = 0; v < m_.vocabulary; ++v) image_.set_code(g, v, v == row_ ? 0 : 255);
      image_.set_code(g, 0, 0);
    }
    x_.assign(static_cast<size_t>(dim), 0);
    for (size_t i = 0; i < x_.size(); ++i)
      x_[i] = static_cast<double>(bell(word(17, 3, static_cast<uint64_t>(i))));
    set({}, 0, 0, 0);
  }
  // The image's units of groups and of K, R and |P|_F.
  void set(const std::vector<double>& units, double of_norms, double residual, double frobenius) {
    for (int32_t g = 0; g < image_.groups; ++g) {
      const auto at = static_cast<size_t>(g);
      image_.set(88, g, at < units.size() ? units[at] : 0);
    }
    image_.set(88, image_.groups, of_norms);
    image_.set(124, 0, residual);
    image_.set(128, 0, frobenius);
    sign(m_);
    image_.read_numbers();
  }
  const Image& image() const { return image_; }
  void code(int32_t group, int code) { image_.set_code(group, row_, code); }
  void means(double factor) { scale(image_.means, m_.levels * m_.dim, factor); }
  void directions(double factor) { scale(image_.rotation, m_.dim * m_.dim, factor); }
  std::vector<double>& x() { return x_; }
  std::vector<double> mean() const {
    std::vector<double> m;
    for (int64_t i = 0; i < m_.dim; ++i) m.push_back(image_.number(image_.means, m_.dim + i));
    return m;
  }
  void factor(float f) { factor_ = f; }
  void bias(double b) { bias_ = b; }

  struct Parts {
    std::vector<double> by_group;   // |(y~ / s)_g|
    double x, d, m, y, lost, of_x;  // lengths; |y~ - y|, |x~ - x|
  };
  Parts parts() const {
    Parts parts = {};
    const std::vector<double> m = mean();
    std::vector<double> d, x;
    for (size_t i = 0; i < x_.size(); ++i) {
      x.push_back(static_cast<double>(static_cast<float>(x_[i])));
      d.push_back(static_cast<double>(static_cast<float>(x[i] - m[i])));
    }
    const std::vector<double> y = rotated(image_, image_.directions(), d);
    const std::vector<double> met = rounded(y);
    parts.by_group = by_groups(image_, met, true);
    parts.x = length_of(x);
    parts.d = length_of(d);
    parts.m = length_of(m);
    parts.y = length_of(met);
    parts.lost = distance(met, y);
    if (m_.head.blocks != EXN_BLOCKS_NONE) parts.of_x = distance(rounded(x), x);
    return parts;
  }
  // What the header says comes to K.
  double of_norms(const Parts& p) const {
    const double u = 0x1p-24, residual = static_cast<double>(image_.residual);
    const double gamma = n() * u / (1 - n() * u);
    const double off = p.lost + gamma * static_cast<double>(image_.frobenius) * p.d;
    return residual * p.d + (1 + residual) * off + gamma * (p.y + p.x) +
           16 * u * (p.m + p.x + p.y) + p.of_x;
  }
  double unit(int32_t g) const { return static_cast<double>(image_.units[g]); }

  // That the full head is read, since some number is beyond all measure.
  void expect_none() const {
    Question q;
    q.hidden = hidden();
    q.level = 1;
    q.budget = static_cast<int32_t>(m_.vocabulary);
    EXPECT_EQ(ask(m_, q, true).certified[0], EXN_CERTIFIED_NOT);
  }

  // That a run's bound is `expected`, times its slack, within a share.
  void expect(double expected, double within = 0) const {
    Question q;
    q.hidden = hidden();
    q.bias.assign(static_cast<size_t>(m_.vocabulary), -HUGE_VALF);
    q.bias[0] = static_cast<float>((bias_ != 0 ? 3 : 2) * expected + bias_);
    q.bias[static_cast<size_t>(row_)] = static_cast<float>(bias_);
    q.temperature = static_cast<float>(expected);
    q.level = 1;
    q.budget = 1;
    q.mode = factor_ != 0 ? EXN_SCREEN_CALIBRATED : EXN_SCREEN_PROVEN;
    q.factor = factor_;
    const Answers a = ask(m_, q, true);
    ASSERT_NE(a.certified[0], EXN_CERTIFIED_NOT);
    ASSERT_EQ(a.read[0], 1);
    ASSERT_EQ(a.argmax[0], 0);
    // p1 is 1 / (1 + e^(z - top)), and 1e-5 of that wider.
    const auto logit = [](double p) { return std::log(1 / p - 1); };
    const double high = logit(static_cast<double>(a.low[0]) / (1 - 1e-5)),
                 low = logit(static_cast<double>(a.high[0]) / (1 + 1e-5));
    const double got = (high - low) / 2 * static_cast<double>(q.temperature);
    const double slack = bias_ != 0 ? 0 : 0x1p-16;
    EXPECT_GE(got, expected * (1 + slack) * (1 - within - 4e-6));
    EXPECT_LE(got, expected * (1 + slack) * (1 + within + 4e-6));
  }

 private:
  static HostTensor zeros(int64_t dim, const char* blocks) {
    // The one that is looked at is in the last tile.
    const int64_t rows = device().cpu() ? 530 : 70;
    return emptied(blocks != nullptr ? make_blocks(*block_format(blocks), rows, dim, 0, 0)
                                     : make_tensor(Type::kF32, {rows, dim}));
  }
  HostTensor hidden() const {
    HostTensor x = make_tensor(Type::kF32, {1, m_.dim});
    for (int64_t i = 0; i < m_.dim; ++i) x.set(0, i, x_[static_cast<size_t>(i)]);
    return x;
  }
  double n() const {
    return device().cpu() ? std::floor(static_cast<double>(m_.dim) / 8) + 16
                          : std::floor(static_cast<double>(m_.dim) / 4) + 80;
  }
  void scale(int64_t at, int64_t count, double factor) {
    for (int64_t i = 0; i < count; ++i) image_.set(at, i, image_.number(at, i) * factor);
  }
  static double distance(const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return std::sqrt(sum);
  }
  // As blocks meet an input: multiples of a power of two for each 32 values, that keep 15 bits.
  static std::vector<double> rounded(std::vector<double> x) {
    for (size_t b = 0; b < x.size(); b += 32) {
      const size_t end = std::min(b + 32, x.size());
      float top = 0;
      for (size_t i = b; i < end; ++i) top = std::max(top, static_cast<float>(std::fabs(x[i])));
      uint32_t bits;
      std::memcpy(&bits, &top, 4);
      bits = std::max((bits + (257u << 8)) & (255u << 23), (127u - 88) << 23) - (14u << 23);
      float step;
      std::memcpy(&step, &bits, 4);
      for (size_t i = b; i < end; ++i) {
        const auto s = static_cast<double>(step);
        x[i] = std::nearbyint(static_cast<double>(static_cast<float>(x[i])) / s) * s;
      }
    }
    return x;
  }

  Model m_;
  Image image_;
  int64_t row_;
  std::vector<double> x_;
  float factor_ = 0;
  double bias_ = 0;
};

TEST(ScreenSteps, OfGroupsAreTheHeaders) {
  for (const int64_t dim : {int64_t{70}, int64_t{300}}) {
    SCOPED_TRACE(dim);
    Bound b(dim);
    const Bound::Parts parts = b.parts();
    const int32_t groups = b.image().groups;
    std::vector<double> units(static_cast<size_t>(groups));
    double all = 0;
    for (int32_t g = 0; g < groups; ++g) {
      const auto at = static_cast<size_t>(g);
      const int code = 255 - 23 * g;
      b.code(g, code);
      units.assign(units.size(), 0);
      units[at] = 0.37 + g;
      b.set(units, 0, 0, 0);
      if (dim < 256 || g == 0 || g == groups - 1) b.expect(code * b.unit(g) * parts.by_group[at]);
    }
    for (int32_t g = 0; g < groups; ++g) {
      const auto at = static_cast<size_t>(g);
      units[at] = 0.01 * (3 + g % 4);
    }
    b.set(units, 0, 0, 0);
    double squares = 0;
    for (int32_t g = 0; g < groups; ++g) {
      const double term = (255 - 23 * g) * b.unit(g) * parts.by_group[static_cast<size_t>(g)];
      const int32_t blocks = b.image().ends[g] - (g == 0 ? 0 : b.image().ends[g - 1]);
      all += term;
      squares += term * term / (32 * blocks);
    }
    b.expect(all);
    b.factor(3);
    b.expect(3 * std::sqrt(squares));
  }
}

// Each term is most of the bound in one of these, and none is left out in any.
TEST(ScreenSteps, OfNormsAreTheHeaders) {
  struct Numbers {
    double residual, frobenius;
  };
  Bound b(70);
  b.code(b.image().groups, 200);
  const auto expect_now = [&](double within) {
    b.expect(200 * b.unit(b.image().groups) * b.of_norms(b.parts()), within);
  };
  for (const Numbers& n : {Numbers{1000, 0}, {0, 1e6}, {1000, 1e9}, {1e-3, 300}}) {
    SCOPED_TRACE(std::to_string(n.residual) + ", " + std::to_string(n.frobenius));
    b.set({}, 0.5, n.residual, n.frobenius);
    expect_now(1e-4);
  }
  b.set({}, 0.5, 0, 0);
  expect_now(1e-3);  // mostly |y~ - y|
  b.directions(1e6);
  b.set({}, 0.5, 1, 0);
  expect_now(1e-3);  // and so is (1 + R) of it
  b.set({}, 0.5, 0, 1e13);
  expect_now(1e-3);  // |P|_F is of d, not of y
  b.directions(1e-6);
  // y = 0: |x| and |m|, which are the same.
  b.set({}, 0.5, 0, 0);
  const std::vector<double> x = b.x();
  b.x() = b.mean();
  expect_now(1e-5);
  // x = 0: y and m. Along a direction nothing of y is rounded away.
  b.x() = std::vector<double>(x.size(), 0);
  expect_now(1e-3);
  // m = 0: y and x.
  b.means(0);
  for (size_t i = 0; i < x.size(); ++i)
    b.x()[i] = b.image().number(b.image().rotation, static_cast<int64_t>(i));
  expect_now(3e-2);
}

TEST(ScreenSteps, OfHeadsInBlocksKnowThatInputsAreRounded) {
  Bound b(96, "q8_0");
  b.code(b.image().groups, 200);
  b.set({}, 0.5, 0, 0);
  b.directions(0);  // so that x alone is rounded
  b.expect(200 * b.unit(b.image().groups) * b.of_norms(b.parts()), 1e-4);
}

TEST(ScreenSteps, KnowTheBias) {
  Bound b(40);
  for (const double bias : {0x1p18, -0x1p18}) {
    b.bias(bias);
    b.expect(0x1p-20 * std::fabs(bias));
  }
}

TEST(ScreenSteps, BeyondAllMeasureAreTheHeads) {
  for (const double unit : {1e30, HUGE_VAL, std::nan("")}) {
    SCOPED_TRACE(unit);
    Bound b(40);
    b.set({unit}, 0, 0, 0);
    b.expect_none();
    b.set({}, unit, 0, 0);
    b.expect_none();
  }
}

// What is subnormal has a bound where nothing else has one.
TEST(ScreenSteps, AreNeverNothing) {
  Bound b(40);
  b.expect(0x1p-80, 2e-5);
}

// Of rows that were read there is no bound, but neighbours may be in the wrong order after tanh.
TEST(ScreenProbabilities, KnowThatTanhIsRounded) {
  HostTensor head = emptied(make_tensor(Type::kF32, {90, 40}));
  for (int64_t i = 0; i < 40; ++i) head.set(3, i, 0.25);
  const Model m(head, 40, 1, 0, 3);
  Question q;
  q.hidden = emptied(make_tensor(Type::kF32, {1, 40}));
  q.hidden.set(0, 0, 4);  // the logit of row 3 is 1, the others' are 0
  q.budget = 90;
  q.bias.assign(90, -HUGE_VALF);
  q.bias[3] = 0;
  q.bias[70] = 1;
  q.softcap = 30;
  q.temperature = 1e-4f;
  const Answers a = ask(m, q, true);
  ASSERT_EQ(a.certified[0], EXN_CERTIFIED_PROVEN);
  ASSERT_EQ(a.argmax[0], 3);
  EXPECT_EQ(a.p1[0], 0.5f);
  // No logit is above the largest; both may be below it.
  const double wrong = 30 / static_cast<double>(q.temperature) * 0x1p-20;
  EXPECT_NEAR(static_cast<double>(a.high[0]), 1 / (2 * std::exp(-wrong)), 1e-4);
  EXPECT_NEAR(static_cast<double>(a.low[0]), 0.5, 2e-5);
  // And one that is below by less than that may be as large.
  q.bias[70] = 1 - 0x1p-16;
  EXPECT_NEAR(static_cast<double>(ask(m, q, true).low[0]), 0.5, 2e-5);
}

}  // namespace
}  // namespace exn::test
