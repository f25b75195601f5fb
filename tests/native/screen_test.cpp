// SPDX-License-Identifier: Apache-2.0
// Screens of LM heads (screen.h): exit_head answers with one as it does without, whatever head and
// states there are; the bounds hold; images that are damaged, or of another head, are refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "blocks.h"
#include "harness.h"
#include "tensor.h"

namespace exn::test {
namespace {

// A DLTensor and its shape, over memory that somebody else has.
class View {
 public:
  View(const void* data, uint8_t code, uint8_t bits, std::vector<int64_t> shape)
      : shape_(std::move(shape)) {
    dl_ = {const_cast<void*>(data),
           {kDLCPU, 0},
           static_cast<int32_t>(shape_.size()),
           {code, bits, 1},
           shape_.data(),
           nullptr,
           0};
  }
  View(View&& other) noexcept : shape_(std::move(other.shape_)), dl_(other.dl_) {
    dl_.shape = shape_.data();
  }
  DLTensor* dl() { return &dl_; }

 private:
  std::vector<int64_t> shape_;
  DLTensor dl_;
};

View view_of(const HostTensor& t) {
  const DLDataType type = dl_type(t.type);
  return {t.bytes.data(), type.code, type.bits, t.shape};
}
View view_of(const std::vector<float>& v, std::vector<int64_t> shape) {
  return {v.data(), kDLFloat, 32, std::move(shape)};
}
View view_of(const std::vector<int32_t>& v) {
  return {v.data(), kDLInt, 32, {static_cast<int64_t>(v.size())}};
}
View view_of(const std::vector<uint8_t>& v) {
  return {v.data(), kDLUInt, 8, {static_cast<int64_t>(v.size())}};
}

// Bytes at a multiple of 64.
struct Aligned {
  explicit Aligned(size_t size)
      : bytes(size),
        at(static_cast<char*>(std::aligned_alloc(64, (size + 63) / 64 * 64)), std::free) {}
  // Of all bytes, or of the first ones.
  View view(size_t some = 0) const {
    return {at.get(), kDLUInt, 8, {static_cast<int64_t>(some != 0 ? some : bytes)}};
  }
  size_t bytes;
  std::unique_ptr<char, void (*)(void*)> at;
};

// The device that answers; images are made on the CPU.
const Target& device() { return targets().front(); }

// What a view shows, where the device has it. What a run wrote comes back by fetch().
class There {
 public:
  explicit There(View view) : view_(std::move(view)), dl_(*view_.dl()) {
    bytes_ = dl_.dtype.bits / 8;
    for (int32_t i = 0; i < dl_.ndim; ++i) bytes_ *= static_cast<size_t>(dl_.shape[i]);
    if (device().cpu() || bytes_ == 0) return;
    const auto* const from = static_cast<const unsigned char*>(dl_.data);
    memory_ = std::make_unique<DeviceMemory>(device(), bytes_);
    memory_->write({from, from + bytes_});
    dl_.data = memory_->data();
    dl_.device = {kDLCUDA, 0};
  }
  const DLTensor* dl() const { return &dl_; }
  void fetch() {
    if (memory_ == nullptr) return;
    const std::vector<unsigned char> now = memory_->read();
    std::copy(now.begin(), now.end(), static_cast<unsigned char*>(view_.dl()->data));
  }

 private:
  View view_;
  DLTensor dl_;
  size_t bytes_;
  std::unique_ptr<DeviceMemory> memory_;
};

HostTensor make_head(Type type, const BlockFormat* format, int64_t rows, int64_t cols,
                     uint64_t seed) {
  if (format != nullptr) {
    HostTensor t = make_blocks(*format, rows, cols, 0, 0);
    fill_blocks(&t, seed, 1, "normal", 0.25f, "-");
    return t;
  }
  return make_bell(type, {rows, cols}, seed, 1, 0.25f);
}

std::vector<double> head_row(const HostTensor& head, int64_t row) {
  if (head.blocks != EXN_BLOCKS_NONE) return unpacked_row(head, row);
  std::vector<double> w;
  for (int64_t i = 0; i < head.cols; ++i) w.push_back(head.at(row, i));
  return w;
}

// A head, its screen, and rows of hidden to ask both.
struct Model {
  HostTensor head;
  int64_t vocabulary, dim;
  int32_t levels;
  std::vector<float> states;  // of calibration
  std::unique_ptr<Aligned> image;

  Model(HostTensor h, int64_t d, int32_t level_count, float bits, uint64_t seed,
        float deviation = 1)
      : head(std::move(h)), vocabulary(head.rows), dim(d), levels(level_count) {
    const int64_t n = dim + levels + 3;
    std::vector<int32_t> of(static_cast<size_t>(n));
    for (int64_t r = 0; r < n; ++r) {
      of[static_cast<size_t>(r)] = static_cast<int32_t>(r % levels);
      for (int64_t i = 0; i < dim; ++i) {
        const float b = bell(word(seed, 20, static_cast<uint64_t>(r * dim + i)));
        // A few directions with most of it, and a mean of its own for each level.
        states.push_back(deviation * b * (i % 7 == 0 ? 4.0f : 0.5f) +
                         (i % 5 == r % levels ? 2.0f : 0.0f));
      }
    }
    View weight = view_of(head), x = view_of(states, {n, dim}), level = view_of(of);
    exn_screen_params p = params();
    p.weight = weight.dl();
    p.states = x.dl();
    p.levels = level.dl();
    p.level_count = levels;
    p.bits_per_weight = bits;
    size_t bytes = 0;
    EXPECT_EQ(exn_screen_size(&p, &bytes), EXN_OK) << exn_last_error();
    image = std::make_unique<Aligned>(bytes);
    View to = image->view();
    p.image = to.dl();
    EXPECT_EQ(exn_screen_build(&p), EXN_OK) << exn_last_error();
    EXPECT_EQ(check(), EXN_OK) << exn_last_error();
  }

  exn_screen_params params() const {
    exn_screen_params p = {};
    p.struct_size = sizeof p;
    p.weight_blocks = head.blocks;
    return p;
  }
  exn_status check(int32_t header_only = 0) const {
    View weight = view_of(head), bytes = image->view();
    exn_screen_params p = params();
    p.weight = weight.dl();
    p.image = bytes.dl();
    p.header_only = header_only;
    return exn_screen_check(&p, nullptr);
  }
};

struct Answers {
  std::vector<int32_t> argmax, read;
  std::vector<float> top, lse, p1, low, high;
  std::vector<uint8_t> valid, certified;
};

struct Question {
  HostTensor hidden;
  std::vector<float> bias;
  float temperature = 1, softcap = 0, factor = 0;
  int32_t level = 0, mode = EXN_SCREEN_PROVEN, budget = 0;
  size_t image_bytes = 0;  // 0: all of them
};

Answers ask(const Model& m, const Question& q, bool screened) {
  const auto rows = static_cast<size_t>(q.hidden.rows);
  Answers a;
  a.argmax.assign(rows, -7);
  a.read.assign(rows, -7);
  a.valid.assign(rows, 77);
  a.certified.assign(rows, 77);
  for (std::vector<float>* v : {&a.top, &a.lse, &a.p1, &a.low, &a.high}) v->assign(rows, -7);
  const std::vector<int64_t> shape = {q.hidden.rows};
  const int64_t biases = static_cast<int64_t>(q.bias.size());
  There hidden(view_of(q.hidden)), weight(view_of(m.head)), image(m.image->view(q.image_bytes)),
      bias(view_of(q.bias, {biases})), argmax(view_of(a.argmax)), read(view_of(a.read)),
      valid(view_of(a.valid)), certified(view_of(a.certified)), top(view_of(a.top, shape)),
      lse(view_of(a.lse, shape)), p1(view_of(a.p1, shape)), low(view_of(a.low, shape)),
      high(view_of(a.high, shape));
  exn_exit_head_params p = {};
  p.struct_size = sizeof p;
  p.hidden = hidden.dl();
  p.weight = weight.dl();
  p.weight_blocks = m.head.blocks;
  if (!q.bias.empty()) p.bias = bias.dl();
  p.temperature = q.temperature;
  p.softcap = q.softcap;
  p.out.argmax = argmax.dl();
  p.out.max_logit = top.dl();
  p.out.lse = lse.dl();
  p.out.p1 = p1.dl();
  p.out.valid = valid.dl();
  if (screened) {
    p.screen = image.dl();
    p.screen_level = q.level;
    p.screen_mode = q.mode;
    p.screen_budget = q.budget;
    p.screen_factor = q.factor;
    p.certified = certified.dl();
    p.rows_read = read.dl();
    p.p1_low = low.dl();
    p.p1_high = high.dl();
  }
  size_t bytes = 0;
  EXPECT_EQ(exn_exit_head_workspace_size(&p, &bytes), EXN_OK) << exn_last_error();
  GuardedMemory workspace(device(), bytes, 0xff);
  EXPECT_EQ(exn_exit_head(&p, workspace.data(), bytes, nullptr), EXN_OK) << exn_last_error();
  EXPECT_EQ(exn_stream_synchronize(device(), 0, nullptr), EXN_OK) << exn_last_error();
  EXPECT_TRUE(workspace.guards_intact());
  EXPECT_EQ(std::string(exn_last_path()).rfind(device().cpu() ? "cpu/" : "cuda/", 0), 0u);
  for (There* out : {&argmax, &read, &valid, &certified, &top, &lse, &p1, &low, &high})
    out->fetch();
  return a;
}

bool same_bits(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0; }

// The answers with a screen, which must be those without. Returns how many rows were certified.
int64_t expect_same(const Model& m, const Question& q) {
  const Answers full = ask(m, q, false), got = ask(m, q, true);
  int64_t certified = 0;
  for (size_t r = 0; r < full.argmax.size(); ++r) {
    SCOPED_TRACE("row " + std::to_string(r));
    EXPECT_EQ(got.argmax[r], full.argmax[r]);
    EXPECT_TRUE(same_bits(got.top[r], full.top[r])) << got.top[r] << ", " << full.top[r];
    EXPECT_EQ(got.valid[r], full.valid[r]);
    if (got.certified[r] == EXN_CERTIFIED_NOT) {
      EXPECT_EQ(got.read[r], m.vocabulary);
      EXPECT_TRUE(same_bits(got.p1[r], full.p1[r]));
      EXPECT_TRUE(same_bits(got.lse[r], full.lse[r]));
      EXPECT_TRUE(same_bits(got.low[r], full.p1[r]));
      EXPECT_TRUE(same_bits(got.high[r], full.p1[r]));
      continue;
    }
    ++certified;
    EXPECT_EQ(got.certified[r],
              q.mode == EXN_SCREEN_PROVEN ? EXN_CERTIFIED_PROVEN : EXN_CERTIFIED_CALIBRATED);
    EXPECT_GE(got.read[r], 1);
    EXPECT_LE(got.read[r], q.budget != 0 ? q.budget : m.vocabulary);
    EXPECT_LE(got.low[r], got.p1[r] * 1.0001f);
    EXPECT_GE(got.high[r], got.p1[r] * 0.9999f);
    EXPECT_LE(got.low[r], full.p1[r] * 1.00001f);
    EXPECT_GE(got.high[r], full.p1[r] * 0.99999f);
    // With budget enough, the CPU reads all rows that weigh anything.
    if (device().cpu() && q.budget == m.vocabulary && q.mode == EXN_SCREEN_PROVEN) {
      EXPECT_LT(got.high[r] - got.low[r], 1.0f / 64 + 1e-3f);
    }
  }
  return certified;
}

// Rows of hidden like those of calibration, and, from the third on, of every odd kind.
HostTensor hidden_of(const Model& m, Type type, int64_t rows, uint64_t seed) {
  HostTensor x = make_tensor(type, {rows, m.dim});
  const int64_t n = static_cast<int64_t>(m.states.size()) / m.dim;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t kind = r % 8, from = pick(seed, 30, r, n);
    const int64_t v = pick(seed, 31, r, m.vocabulary), u = pick(seed, 32, r, m.vocabulary);
    const std::vector<double> w = head_row(m.head, v), other = head_row(m.head, u);
    for (int64_t i = 0; i < m.dim; ++i) {
      const auto at = static_cast<size_t>(i);
      double value = static_cast<double>(m.states[static_cast<size_t>(from * m.dim + i)]);
      if (kind == 2) value = 8 * w[at];                // one logit far above the others
      if (kind == 3) value = 8 * (w[at] + other[at]);  // two of about a size
      if (kind == 4) value *= 1000;                    // far from all calibration
      if (kind == 5) value = 0;
      if (kind == 6) value = i == v % m.dim ? 50 : 0;  // along an axis
      if (kind == 7) value = value * 1e-3 - 4 * w[at];
      x.set(r, i, value);
    }
  }
  return x;
}

struct HeadType {
  const char* name;
  Type type;
  const char* blocks;
};
constexpr HeadType kHeads[] = {
    {"f32", Type::kF32, nullptr}, {"bf16", Type::kBF16, nullptr}, {"f16", Type::kF16, nullptr},
    {"q8_0", Type::kU8, "q8_0"},  {"q4_0", Type::kU8, "q4_0"},    {"q4_1", Type::kU8, "q4_1"},
    {"q5_0", Type::kU8, "q5_0"},  {"q5_1", Type::kU8, "q5_1"},    {"q4_k", Type::kU8, "q4_k"},
    {"q5_k", Type::kU8, "q5_k"},  {"q6_k", Type::kU8, "q6_k"}};

class Screen : public ::testing::TestWithParam<HeadType> {
 protected:
  static HostTensor head(int64_t rows, int64_t cols, uint64_t seed) {
    const HeadType& h = GetParam();
    return make_head(h.type, h.blocks == nullptr ? nullptr : block_format(h.blocks), rows, cols,
                     seed);
  }
  // Columns that the head's blocks take, near those that are wanted.
  static int64_t columns(int64_t wanted) {
    if (GetParam().blocks == nullptr) return wanted;
    const int64_t of = block_format(GetParam().blocks)->elements;
    return (wanted + of - 1) / of * of;
  }
};

bool in_full() { return std::getenv("EXEUNT_LONG") != nullptr; }

// An emulated device is as slow as what sanitizers watch.
bool quick() {
  if (in_full()) return false;
  const auto emulated = [](const Target& target) { return target.emulated; };
  return std::getenv("EXEUNT_QUICK") != nullptr ||
         std::any_of(targets().begin(), targets().end(), emulated);
}

TEST_P(Screen, AnswersAsTheHeadDoes) {
  uint64_t seed = 1;
  int64_t certified = 0, asked = 0, before = 0;
  for (const int64_t wanted : {1, 31, 33, 64, 100}) {
    if (columns(wanted) == before) continue;  // blocks are long
    before = columns(wanted);
    for (const int64_t vocabulary : {1, 7, 513, 1500}) {
      ++seed;
      if (quick() && vocabulary > 513) continue;
      const int64_t dim = columns(wanted);
      const Model m(head(vocabulary, dim, seed), dim, seed % 2 == 0 ? 1 : 3,
                    seed % 3 == 0 ? 5.5f : 0, seed);
      for (const int64_t rows : {1, 3, 8, 11}) {
        for (const Type type : {Type::kF32, Type::kBF16}) {
          if (quick() && (type == Type::kF32) == (seed / 4 % 2 == 0)) continue;
          SCOPED_TRACE(std::to_string(vocabulary) + " x " + std::to_string(dim) + ", " +
                       std::to_string(rows) + " rows of " + name_of(type));
          Question q;
          q.hidden = hidden_of(m, type, rows, seed);
          q.level = static_cast<int32_t>(rows) % m.levels;
          q.budget = rows == 3 ? 1 : rows == 8 ? static_cast<int32_t>(vocabulary) : 0;
          if (rows == 8) q.temperature = 0.7f;
          if (rows == 11) q.softcap = 30;
          if (rows == 3) {
            for (int64_t v = 0; v < vocabulary; ++v) {
              q.bias.push_back(v % 5 == 2 ? -HUGE_VALF
                                          : bell(word(seed, 40, static_cast<uint64_t>(v))));
            }
          }
          certified += expect_same(m, q);
          asked += rows;
          q.mode = EXN_SCREEN_CALIBRATED;
          if (wanted == 64 && rows == 8) q.factor = 12;
          if (type == Type::kF32 && rows == 1) expect_same(m, q);
          if (HasFailure()) return;
        }
      }
    }
  }
  EXPECT_GT(certified, asked / 3) << "of " << asked;
}

std::vector<HeadType> heads_of_this_run() {
  std::vector<HeadType> heads;
  for (size_t i = 0; i < std::size(kHeads); ++i) {
    if (in_share(i)) heads.push_back(kHeads[i]);
  }
  return heads;
}

INSTANTIATE_TEST_SUITE_P(Heads, Screen, ::testing::ValuesIn(heads_of_this_run()),
                         [](const auto& head) { return std::string(head.param.name); });

// ---- the bounds, from the image alone -----------------------------------------------------------

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
    std::memcpy(units, p + 88, sizeof units);
    std::memcpy(&residual, p + 124, 4);
    std::memcpy(&frobenius, p + 128, 4);
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
  double norm(int32_t group, int64_t v) const {
    const auto code = static_cast<signed char>(bytes()[codes + group * stride + v]);
    return (code + 128) * static_cast<double>(units[group]);
  }

 private:
  static constexpr int64_t kBytes[3] = {34, 22, 18};
};

// Of exact arithmetic on both sides: |w_v (x - m) - Q_v y| <= the sums over groups, + K_v |r|, for y
// = P (x - m); and the norms are those of the errors, rounded up by less than a unit and 1 %.
void expect_bounds(const Model& m, const HostTensor& hidden, int32_t level, int64_t* pairs) {
  const Image image(m);
  const int64_t columns = image.blocks * 32;
  std::vector<std::vector<double>> rows, errors;
  for (int64_t v = 0; v < m.vocabulary; ++v) {
    const std::vector<double> w = head_row(m.head, v);
    const std::vector<double> q = image.row(v);
    std::vector<double> e(static_cast<size_t>(columns));
    double own = 0, stored = 0, base = 0;
    for (int64_t i = 0; i < m.dim; ++i) {
      const auto at = static_cast<size_t>(i);
      own += w[at] * w[at];
      base += w[at] * image.number(image.means, level * m.dim + i);
      for (int64_t k = 0; k < m.dim; ++k)
        e[at] += image.number(image.rotation, i * m.dim + k) * w[static_cast<size_t>(k)];
    }
    for (size_t i = 0; i < e.size(); ++i) {
      stored += q[i] * q[i];
      e[i] -= q[i];
    }
    EXPECT_NEAR(image.number(image.base, level * m.vocabulary + v), base,
                1e-7 * (std::fabs(base) + std::sqrt(own)));
    const double k = image.norm(image.groups, v);
    EXPECT_GE(k, std::sqrt(own));
    EXPECT_GE(k, std::sqrt(stored));
    int32_t block = 0;
    for (int32_t g = 0; g < image.groups; ++g) {
      double sum = 0;
      for (; block < image.ends[g]; ++block) {
        for (int i = block * 32; i < block * 32 + 32; ++i) {
          const double es = e[static_cast<size_t>(i)] * image.number(image.sigma, i);
          sum += es * es;
        }
      }
      const double norm = image.norm(g, v), unit = static_cast<double>(image.units[g]);
      EXPECT_GE(norm, std::sqrt(sum) * (1 - 1e-12)) << "row " << v << ", group " << g;
      EXPECT_LE(norm, std::sqrt(sum) * 1.01 + unit * 1.01 + 1e-3 * k) << "row " << v;
    }
    rows.push_back(w);
    errors.push_back(e);
  }
  for (int64_t r = 0; r < hidden.rows; ++r) {
    std::vector<double> d(static_cast<size_t>(m.dim)), y(static_cast<size_t>(columns)),
        rest(static_cast<size_t>(m.dim));
    double off = 0;
    for (int64_t i = 0; i < m.dim; ++i)
      d[static_cast<size_t>(i)] = hidden.at(r, i) - image.number(image.means, level * m.dim + i);
    rest = d;
    for (int64_t i = 0; i < m.dim; ++i) {
      double sum = 0;
      for (int64_t k = 0; k < m.dim; ++k)
        sum += image.number(image.rotation, i * m.dim + k) * d[static_cast<size_t>(k)];
      y[static_cast<size_t>(i)] = sum;
      for (int64_t k = 0; k < m.dim; ++k)
        rest[static_cast<size_t>(k)] -= image.number(image.rotation, i * m.dim + k) * sum;
    }
    double length = 0;
    for (int64_t i = 0; i < m.dim; ++i) {
      off += rest[static_cast<size_t>(i)] * rest[static_cast<size_t>(i)];
      length += d[static_cast<size_t>(i)] * d[static_cast<size_t>(i)];
    }
    EXPECT_LE(std::sqrt(off), static_cast<double>(image.residual) * std::sqrt(length) + 1e-30);
    std::vector<double> by(static_cast<size_t>(image.groups));
    int32_t block = 0;
    for (int32_t g = 0; g < image.groups; ++g) {
      double sum = 0;
      for (; block < image.ends[g]; ++block) {
        for (int i = block * 32; i < block * 32 + 32; ++i) {
          const double over = y[static_cast<size_t>(i)] / image.number(image.sigma, i);
          sum += over * over;
        }
      }
      by[static_cast<size_t>(g)] = std::sqrt(sum);
    }
    for (int64_t v = 0; v < m.vocabulary; ++v) {
      double error = 0, bound = image.norm(image.groups, v) * std::sqrt(off) * (1 + 1e-9) + 1e-300;
      for (size_t i = 0; i < y.size(); ++i) error += errors[static_cast<size_t>(v)][i] * y[i];
      for (int64_t i = 0; i < m.dim; ++i)
        error +=
            rows[static_cast<size_t>(v)][static_cast<size_t>(i)] * rest[static_cast<size_t>(i)];
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
  HostTensor x = make_tensor(Type::kF32, {rows, m.dim});
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t v = pick(seed, 50, r, m.vocabulary);
    const std::vector<double> w = head_row(m.head, v), q = image.row(v);
    std::vector<double> to(static_cast<size_t>(m.dim));
    double length = 0;
    for (int64_t i = 0; i < m.dim; ++i) {
      double e = -q[static_cast<size_t>(i)];
      for (int64_t k = 0; k < m.dim; ++k)
        e += image.number(image.rotation, i * m.dim + k) * w[static_cast<size_t>(k)];
      const double s = image.number(image.sigma, i), y = e * s * s;
      length += y * y;
      for (int64_t k = 0; k < m.dim; ++k)
        to[static_cast<size_t>(k)] += image.number(image.rotation, i * m.dim + k) * y;
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

// ---- answers where they are hard ----------------------------------------------------------------

TEST(ScreenAnswers, TiesGoToTheSmallestRow) {
  HostTensor head = make_bell(Type::kF32, {700, 64}, 3, 1, 0.25f);
  // Rows 5, 300 and 699 are one and the same, and so are all from 400 to 500.
  for (const int64_t v : {300, 699}) copy_row(head, 5, &head, v);
  for (int64_t v = 401; v <= 500; ++v) copy_row(head, 400, &head, v);
  const Model m(head, 64, 1, 0, 3);
  HostTensor x = make_tensor(Type::kF32, {3, 64});
  for (int64_t i = 0; i < 64; ++i) {
    x.set(0, i, 8 * head.at(300, i));
    x.set(1, i, 8 * head.at(450, i));
    x.set(2, i, 0);
  }
  Question q;
  q.hidden = x;
  for (const int32_t budget : {0, 3, 110, 700}) {
    q.budget = budget;
    expect_same(m, q);
    const Answers a = ask(m, q, true);
    EXPECT_EQ(a.argmax[0], 5);
    EXPECT_EQ(a.argmax[1], 400);
    EXPECT_EQ(a.argmax[2], 0);
  }
}

// Rows that differ in their last bits, with the state along their difference.
TEST(ScreenAnswers, NearTiesAreTheHeads) {
  for (uint64_t seed = 0; seed < (quick() ? 2 : 20); ++seed) {
    HostTensor head = make_bell(Type::kF32, {600, 64}, seed, 1, 0.25f);
    for (int64_t v = 100; v < 140; ++v) {
      for (int64_t i = 0; i < 64; ++i) {
        const auto at = static_cast<uint64_t>(v * 64 + i);
        head.set(v, i, head.at(99, i) * (1 + 1e-7 * static_cast<double>(bell(word(seed, 2, at)))));
      }
    }
    const Model m(head, 64, 1, 0, seed);
    Question q;
    q.hidden = make_tensor(Type::kF32, {1, 64});
    for (int64_t i = 0; i < 64; ++i) q.hidden.set(0, i, 10 * head.at(120, i));
    EXPECT_EQ(expect_same(m, q), 1);
  }
}

// More candidates than are read at first, alike or not quite, in two stages and parts of columns.
TEST(ScreenAnswers, LongListsAreRead) {
  size_t index = 0;
  for (const double spread : {0.0, 1e-6, 0.5}) {
    if (!in_full() && !in_share(index++)) continue;
    SCOPED_TRACE(spread);
    constexpr int64_t kRows = 900, kDim = 300, kFirst = 100, kAlike = 500;
    HostTensor head = make_bell(Type::kF32, {kRows, kDim}, 6, 1, 0.25f);
    for (int64_t v = kFirst + 1; v < kFirst + kAlike; ++v) {
      for (int64_t i = 0; i < kDim; ++i) {
        const auto at = static_cast<uint64_t>(v * kDim + i);
        const double factor = 1 + spread * static_cast<double>(bell(word(6, 2, at)));
        head.set(v, i, head.at(kFirst, i) * factor);
      }
    }
    const Model m(head, kDim, 1, 0, 6);
    Question q;
    q.hidden = make_tensor(Type::kF32, {2, kDim});
    for (int64_t i = 0; i < kDim; ++i) {
      q.hidden.set(0, i, 10 * head.at(kFirst, i));
      q.hidden.set(1, i, 10 * head.at(7, i));
    }
    q.budget = kAlike + 20;
    EXPECT_EQ(expect_same(m, q), 2);
    const Answers a = ask(m, q, true);
    EXPECT_GE(a.read[0], spread < 1e-3 ? kAlike : 1);
    EXPECT_LT(a.read[1], kAlike);
    q.budget = 150;
    EXPECT_EQ(expect_same(m, q), spread < 1e-3 ? 1 : 2);
    q.budget = 40;
    expect_same(m, q);
  }
}

// Parts of 4 and of 8 blocks, of which several rows may meet an input together, and longer ones.
TEST(ScreenAnswers, ManyColumnsAreReadInParts) {
  // Most of the time goes into screens of many columns: quick runs make two.
  const std::pair<int64_t, float> kinds[] = {{257, 5.0f}, {512, 6.3f}, {256, 5.0f}, {600, 6.3f},
                                             {257, 6.3f}, {600, 5.0f}, {256, 6.3f}, {512, 5.0f}};
  for (size_t i = 0; i < (quick() ? 2 : std::size(kinds)); ++i) {
    if (!in_full() && !in_share(i)) continue;
    const auto [dim, bits] = kinds[i];
    SCOPED_TRACE(std::to_string(dim) + ", " + std::to_string(bits) + " bits");
    const Model m(make_head(Type::kF16, nullptr, 43, dim, 5), dim, 2, bits, 5);
    Question q;
    q.hidden = hidden_of(m, Type::kF32, 3, 5);
    q.level = 1;
    q.budget = 43;
    EXPECT_EQ(expect_same(m, q), 3);
  }
}

TEST(ScreenAnswers, WhatIsNotFiniteIsTheHeads) {
  const Model m(make_head(Type::kF32, nullptr, 300, 40, 8), 40, 1, 0, 8);
  Question q;
  q.hidden = hidden_of(m, Type::kF32, 12, 8);
  q.hidden.set(1, 3, std::nan(""));
  q.hidden.set(4, 39, HUGE_VAL);
  q.hidden.set(7, 0, 3e38);
  q.hidden.set(9, 0, 1e30);
  expect_same(m, q);
  const Answers answers = ask(m, q, true);
  for (const size_t r : {1, 4, 7, 9}) EXPECT_EQ(answers.certified[r], EXN_CERTIFIED_NOT) << r;
  for (const double odd : {std::nan(""), HUGE_VAL, -HUGE_VAL, 1e38, -1e38}) {
    SCOPED_TRACE(odd);
    q.bias.assign(300, 0.5f);
    q.bias[17] = static_cast<float>(odd);
    expect_same(m, q);
  }
  q.bias.assign(300, -HUGE_VALF);
  expect_same(m, q);
  q.bias[299] = 1;
  expect_same(m, q);
}

// A bias of -inf takes a row out of the choice, not its screen.
TEST(ScreenAnswers, MaskedRowsAreNotTheHeads) {
  const Model m(make_head(Type::kF32, nullptr, 300, 40, 8), 40, 1, 0, 8);
  Question q;
  q.hidden = hidden_of(m, Type::kF32, 12, 8);
  q.budget = 300;
  const int64_t without = expect_same(m, q);
  EXPECT_GT(without, 8);
  for (int v = 0; v < 300; ++v) q.bias.push_back(v % 3 == 1 ? -HUGE_VALF : 0.25f);
  EXPECT_EQ(expect_same(m, q), without);
}

TEST(ScreenAnswers, DoNotDependOnThreadsOrBatch) {
  const Model m(make_head(Type::kBF16, nullptr, 2000, 96, 4), 96, 2, 0, 4);
  Question q;
  q.hidden = hidden_of(m, Type::kF32, 19, 4);
  q.level = 1;
  const Answers all = ask(m, q, true);
  for (const int32_t threads : {1, 2, 3}) {
    ASSERT_EQ(exn_cpu_set_threads(threads), EXN_OK);
    for (int64_t r = 0; r < 19; ++r) {
      Question one = q;
      one.hidden = part_of(q.hidden, r, 1);
      const Answers a = ask(m, one, true);
      const auto at = static_cast<size_t>(r);
      EXPECT_EQ(a.argmax[0], all.argmax[at]);
      EXPECT_EQ(a.read[0], all.read[at]);
      EXPECT_TRUE(same_bits(a.p1[0], all.p1[at]) && same_bits(a.low[0], all.low[at]) &&
                  same_bits(a.high[0], all.high[at]) && same_bits(a.lse[0], all.lse[at]));
    }
  }
  ASSERT_EQ(exn_cpu_set_threads(0), EXN_OK);
}

// ---- what is refused ----------------------------------------------------------------------------

std::string said(exn_status status) {
  return status == EXN_OK ? "" : std::to_string(status) + " " + exn_last_error();
}

class Hostile : public ::testing::Test {
 protected:
  Model m_{make_head(Type::kF32, nullptr, 200, 48, 6), 48, 2, 0, 6};

  // What a run says to the image.
  std::string run(int64_t bytes, int32_t level = 0) {
    std::vector<int32_t> argmax(1);
    HostTensor x = make_tensor(Type::kF32, {1, 48});
    View hidden = view_of(x), weight = view_of(m_.head), out = view_of(argmax),
         image(m_.image->at.get(), kDLUInt, 8, {bytes});
    exn_exit_head_params p = {};
    p.struct_size = sizeof p;
    p.hidden = hidden.dl();
    p.weight = weight.dl();
    p.temperature = 1;
    p.out.argmax = out.dl();
    p.screen = image.dl();
    p.screen_level = level;
    return said(exn_exit_head_supported(&p));
  }
  // Makes the header's checksum what it should be; it is behind 200 bytes in version 1.
  void sign() {
    uint64_t a[2] = {0x9e3779b97f4a7c15u, 0xc2b2ae3d27d4eb4fu};
    const auto turned = [](uint64_t x, int by) { return x << by | x >> (64 - by); };
    const auto take = [&](uint64_t w) {
      a[0] = turned(a[0] ^ w, 29) * 0x9fb21c651e98df25u;
      a[1] = turned(a[1] + w, 23) * 0xd6e8feb86659fd93u;
    };
    for (size_t i = 0; i < kSigned; i += 8) {
      uint64_t w;
      std::memcpy(&w, m_.image->at.get() + i, 8);
      take(w);
    }
    take(kSigned);
    const uint64_t all = a[0] ^ a[1];
    std::memcpy(m_.image->at.get() + kSigned, &all, 8);
  }
  static constexpr size_t kSigned = 184;
};

TEST_F(Hostile, AreRefusedInASentence) {
  const auto whole = static_cast<int64_t>(m_.image->bytes);
  ASSERT_EQ(run(whole), "");
  for (const int64_t bytes : {int64_t{0}, int64_t{1}, int64_t{4095}, int64_t{4096}, whole - 1}) {
    EXPECT_NE(run(bytes).find("1 exn_exit_head: screen "), std::string::npos) << run(bytes);
  }
  EXPECT_NE(run(whole, 2).find("screen_level is 2"), std::string::npos) << run(whole, 2);
  EXPECT_NE(run(whole, -1).find("screen_level is -1"), std::string::npos);
  char* const p = m_.image->at.get();
  const std::string before(p, 4096);
  sign();
  ASSERT_EQ(std::string(p, 4096), before) << "the test does not know the checksum";
  for (size_t i = 0; i < kSigned + 8; ++i) {
    for (const int bit : {1, 64, 128}) {
      p[i] = static_cast<char>(p[i] ^ bit);
      const std::string why = run(whole);
      EXPECT_NE(why.find("1 exn_exit_head: screen "), std::string::npos) << i << ": " << why;
      EXPECT_NE(m_.check(), EXN_OK) << i;
      EXPECT_NE(m_.check(1), EXN_OK) << i;
      std::memcpy(p, before.data(), 4096);
    }
  }
  // With a checksum that fits, whatever would lead out of bounds is refused all the same.
  for (size_t i = 0; i < 88; i += 4) {
    for (const uint32_t value : {0u, 1u, 0x7fffffffu, 0x80000000u, 0xffffffffu}) {
      uint32_t now;
      std::memcpy(&now, p + i, 4);
      // Unused ends of groups are nobody's concern.
      const bool unused = i >= 56 + 4 * static_cast<size_t>(Image(m_).groups);
      std::memcpy(p + i, &value, 4);
      sign();
      const std::string why = run(whole);
      if (now != value && !unused) {
        EXPECT_NE(why.find("1 exn_exit_head: screen "), std::string::npos) << i << ": " << why;
      }
      std::memcpy(p, before.data(), 4096);
    }
  }
  EXPECT_EQ(run(whole), "");
}

// A device has no way to say so. What it reads, the emulator looks at.
TEST_F(Hostile, DevicesReadTheHead) {
  if (device().cpu()) GTEST_SKIP() << "the CPU refuses such images";
  char* const p = m_.image->at.get();
  const std::string before(p, 4096);
  Question q;
  q.hidden = hidden_of(m_, Type::kF32, 2, 3);
  const Answers full = ask(m_, q, false);
  ASSERT_NE(ask(m_, q, true).certified[0], EXN_CERTIFIED_NOT);
  const auto expect_head = [&](size_t what) {
    const Answers got = ask(m_, q, true);
    for (size_t r = 0; r < 2; ++r) {
      EXPECT_EQ(got.certified[r], EXN_CERTIFIED_NOT) << what;
      EXPECT_EQ(got.argmax[r], full.argmax[r]) << what;
      EXPECT_TRUE(same_bits(got.p1[r], full.p1[r])) << what;
    }
    std::memcpy(p, before.data(), 4096);
  };
  for (size_t i = 0; i < kSigned + 8; i += 3) {
    p[i] = static_cast<char>(p[i] ^ 1 << i % 8);
    expect_head(i);
  }
  for (size_t i = 0; i < 88; i += 4) {
    for (const uint32_t value : {0u, 1u, 0x7fffffffu, 0x80000000u, 0xffffffffu}) {
      uint32_t now;
      std::memcpy(&now, p + i, 4);
      if (now == value || i >= 56 + 4 * static_cast<size_t>(Image(m_).groups)) continue;
      std::memcpy(p + i, &value, 4);
      sign();
      expect_head(i);
    }
  }
  q.level = 2;
  expect_head(1);
  q.level = 0;
  for (const size_t less : {m_.image->bytes - 64, m_.image->bytes / 2, size_t{4096}}) {
    q.image_bytes = less;
    expect_head(less);
    const auto bytes = static_cast<int64_t>(less);
    std::memcpy(p + 16, &bytes, 8);  // it says so itself
    sign();
    expect_head(less);
  }
}

TEST_F(Hostile, BodiesAndHeadsAreTold) {
  ASSERT_EQ(m_.check(), EXN_OK);
  char* const p = m_.image->at.get();
  for (const size_t at :
       {size_t{250}, size_t{4095}, size_t{4096}, m_.image->bytes / 2, m_.image->bytes - 1}) {
    p[at] = static_cast<char>(p[at] ^ 4);
    EXPECT_EQ(m_.check(), EXN_INVALID_ARGUMENT) << at;
    EXPECT_EQ(m_.check(1), at < 4096 ? EXN_INVALID_ARGUMENT : EXN_OK) << at;
    p[at] = static_cast<char>(p[at] ^ 4);
  }
  const double kept = m_.head.at(77, 7);
  m_.head.set(77, 7, kept * 1.0001);
  EXPECT_EQ(m_.check(), EXN_INVALID_ARGUMENT);
  EXPECT_NE(std::string(exn_last_error()).find("another head"), std::string::npos);
  EXPECT_EQ(m_.check(1), EXN_OK);
  EXPECT_EQ(m_.check(2), EXN_INVALID_ARGUMENT);
  m_.head.set(77, 7, kept);
  EXPECT_EQ(m_.check(), EXN_OK);
}

TEST_F(Hostile, NumbersThatAreMadeUpReadNothingElse) {
  char* const p = m_.image->at.get();
  for (uint64_t seed = 0; seed < 6; ++seed) {
    for (size_t i = 4096; i < m_.image->bytes; ++i) {
      const uint64_t w = word(seed, 70, i);
      p[i] = static_cast<char>(seed == 0 ? 0xff : seed == 1 ? 0x7f : w);
    }
    Question q;
    q.hidden = hidden_of(m_, Type::kF32, 9, seed);
    const Answers a = ask(m_, q, true);
    for (size_t r = 0; r < 9; ++r) {
      EXPECT_GE(a.argmax[r], -1);
      EXPECT_LT(a.argmax[r], 200);
    }
  }
}

TEST(ScreenArguments, AreNamed) {
  const HostTensor head = make_head(Type::kF32, nullptr, 50, 20, 1);
  std::vector<float> states(22 * 20, 1);
  std::vector<int32_t> levels(22, 0);
  levels[3] = 1;
  Aligned image(1 << 16);
  View weight = view_of(head), x = view_of(states, {22, 20}), level = view_of(levels);
  exn_screen_params p = {};
  p.struct_size = sizeof p;
  p.weight = weight.dl();
  p.states = x.dl();
  p.levels = level.dl();
  p.level_count = 2;
  size_t bytes = 0;
  ASSERT_EQ(exn_screen_size(&p, &bytes), EXN_OK) << exn_last_error();
  ASSERT_LE(bytes, image.bytes);
  View to(image.at.get(), kDLUInt, 8, {static_cast<int64_t>(bytes)});
  p.image = to.dl();
  ASSERT_EQ(exn_screen_build(&p), EXN_OK) << exn_last_error();
  const auto refused = [&](const char* part, const std::function<void(exn_screen_params*)>& spoil) {
    exn_screen_params q = p;
    spoil(&q);
    const std::string why = said(exn_screen_build(&q));
    EXPECT_NE(why.find("1 exn_screen_build: "), std::string::npos) << part << ": " << why;
    EXPECT_NE(why.find(part), std::string::npos) << why;
  };
  refused("weight", [](exn_screen_params* q) { q->weight = nullptr; });
  refused("states", [](exn_screen_params* q) { q->states = nullptr; });
  refused("image", [](exn_screen_params* q) { q->image = nullptr; });
  refused("weight_blocks is 4", [](exn_screen_params* q) { q->weight_blocks = 4; });
  refused("level_count is 0", [](exn_screen_params* q) { q->level_count = 0; });
  refused("level 2 has 0 states", [&](exn_screen_params* q) {
    q->level_count = 3;
    states.resize(23 * 20, 1);  // one state more for one level more
    static std::vector<int32_t> more(23, 0);
    more[3] = 1;
    static View wide = view_of(states, {23, 20}), of = view_of(more);
    static Aligned room(1 << 16);
    size_t size = 0;
    ASSERT_EQ(exn_screen_size(q, &size), EXN_OK);
    static View out(room.at.get(), kDLUInt, 8, {static_cast<int64_t>(size)});
    q->states = wide.dl();
    q->levels = of.dl();
    q->image = out.dl();
  });
  View again = view_of(states, {22, 20}), few = view_of(states, {21, 20});
  const std::vector<int32_t> zeros(21, 0);
  View some = view_of(zeros);
  p.states = again.dl();
  refused("D + level_count", [&](exn_screen_params* q) {
    q->states = few.dl();
    q->levels = some.dl();
  });
  refused("bits_per_weight is 4", [](exn_screen_params* q) { q->bits_per_weight = 4; });
  refused("bits_per_weight is nan", [](exn_screen_params* q) { q->bits_per_weight = NAN; });
  refused("header_only is 1", [](exn_screen_params* q) { q->header_only = 1; });
  View shorter(image.at.get(), kDLUInt, 8, {static_cast<int64_t>(bytes) - 1});
  refused("exn_screen_size", [&](exn_screen_params* q) { q->image = shorter.dl(); });
  View crooked(image.at.get() + 8, kDLUInt, 8, {static_cast<int64_t>(bytes)});
  refused("not aligned to 64", [&](exn_screen_params* q) { q->image = crooked.dl(); });
  levels[5] = 2;
  refused("levels[5] is 2", [](exn_screen_params*) {});
  levels[5] = 0;
  states[41] = NAN;
  refused("states[2,1] is nan", [](exn_screen_params*) {});
  states[41] = 1;
  HostTensor odd = head;
  odd.set(9, 3, HUGE_VAL);
  View infinite = view_of(odd);
  refused("row 9 of weight", [&](exn_screen_params* q) { q->weight = infinite.dl(); });
  EXPECT_EQ(exn_screen_build(&p), EXN_OK) << exn_last_error();
}

}  // namespace
}  // namespace exn::test
