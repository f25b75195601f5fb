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

HostTensor emptied(HostTensor t) {
  std::fill(t.bytes.begin(), t.bytes.end(), static_cast<unsigned char>(0));
  return t;
}

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
    // Around the estimate there is slack for what f32 loses, but no more than that of rows read.
    EXPECT_LE(got.low[r], got.p1[r] * (1 - 0.9e-5f));
    EXPECT_GE(got.high[r], std::min(1.0f, got.p1[r] * (1 + 0.9e-5f)));
    EXPECT_LE(got.high[r], 1);
    EXPECT_NEAR(got.lse[r], got.top[r] - std::log(got.p1[r]),
                1e-5f + 1e-6f * (std::fabs(got.top[r]) + std::fabs(got.lse[r])));
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

// Bytes of a header that its checksum is of, which comes after them, in version 1.
constexpr size_t kSigned = 184;

// Makes the header's checksum what it should be.
void sign(const Model& m) {
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

double length_of(const std::vector<double>& x) {
  double sum = 0;
  for (const double v : x) sum += v * v;
  return std::sqrt(sum);
}

// What is exact of P x, padded with zeros.
std::vector<double> rotated(const Image& image, const std::vector<double>& p,
                            const std::vector<double>& x) {
  std::vector<double> y(static_cast<size_t>(image.blocks * 32));
  const size_t dim = x.size();
  for (size_t i = 0; i < dim; ++i) {
    for (size_t k = 0; k < dim; ++k) y[i] += p[i * dim + k] * x[k];
  }
  return y;
}

// |(f x)_g|, where f is s or 1 / s.
std::vector<double> by_groups(const Image& image, const std::vector<double>& x, bool over) {
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

// ---- the bounds as a run makes them -------------------------------------------------------------

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
    const std::vector<double> met = device().cpu() ? rounded(y) : y;
    parts.by_group = by_groups(image_, met, true);
    parts.x = length_of(x);
    parts.d = length_of(d);
    parts.m = length_of(m);
    parts.y = length_of(met);
    if (!device().cpu()) return parts;
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
  expect_now(1e-3);  // on the CPU that is mostly |y~ - y|
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

// As many rows that a screen cannot tell apart as a list of the first has, one more, one less: the
// last of all is the largest, by less than the bounds' own rounding.
TEST(ScreenAnswers, TheLastCandidateMayBeTheOne) {
  for (const int64_t alike : {2, 32, 33, 64, 65, 66, 67, 96, 97, 128, 129, 130, 257}) {
    if (quick() && alike != 33 && alike != 66 && alike != 67 && alike != 128 && alike != 129 &&
        alike != 130)
      continue;
    SCOPED_TRACE(alike);
    constexpr int64_t kDim = 32, kFirst = 10;
    HostTensor head = make_bell(Type::kF32, {alike + 40, kDim}, 4, 1, 0.25f);
    for (int64_t v = kFirst + 1; v < kFirst + alike; ++v) copy_row(head, kFirst, &head, v);
    Model m(head, kDim, 1, 0, 4);
    Question q;
    q.hidden = make_tensor(Type::kF32, {1, kDim});
    for (int64_t i = 0; i < kDim; ++i) {
      q.hidden.set(0, i, 10 * head.at(kFirst, i));
      const double w = m.head.at(kFirst, i);
      m.head.set(kFirst + alike - 1, i, w * (1 + 1e-6));
    }
    q.budget = static_cast<int32_t>(m.vocabulary);
    EXPECT_EQ(expect_same(m, q), 1);
    const Answers a = ask(m, q, true);
    EXPECT_EQ(a.argmax[0], kFirst + alike - 1);
    EXPECT_EQ(a.read[0], alike);
    // Of this head at most V / 50 + 64 rows are read unless somebody asks for more.
    q.budget = 0;
    EXPECT_EQ(expect_same(m, q), alike <= m.vocabulary / 50 + 64 ? 1 : 0);
    // One less than there are does not do, exactly as many do.
    q.budget = static_cast<int32_t>(alike) - 1;
    EXPECT_EQ(expect_same(m, q), 0);
    q.budget = static_cast<int32_t>(alike);
    EXPECT_EQ(expect_same(m, q), 1);
  }
}

// An image of which nothing is left but w m, which a test says, and the code of each row's bound.
// Rows of the head are multiples of one, so their logits are a number each.
class Plain {
 public:
  explicit Plain(const std::vector<double>& logits)
      : m_(head_of(logits), kDim, 1, 0, 11), image_(m_) {
    const auto clear = [&](int64_t at, int64_t count) {
      for (int64_t i = 0; i < count; ++i) image_.set(at, i, 0);
    };
    clear(image_.means, kDim);
    clear(image_.rotation, kDim * kDim);
    for (int32_t g = 0; g <= image_.groups; ++g) image_.set(88, g, 0);
    for (int64_t v = 0; v < m_.vocabulary; ++v) set(v, logits[static_cast<size_t>(v)], 0);
    x_ = emptied(make_tensor(Type::kF32, {1, kDim}));
    x_.set(0, 0, 1);
  }
  // What the screen takes a row's logit for, and how many units it may be off.
  void set(int64_t v, double logit, int code) {
    image_.set(image_.base, v, logit);
    image_.set_code(image_.groups, v, code);
  }
  // Makes a unit of the norms come to this.
  Answers ask_with(double unit, int32_t budget, float temperature = 1) {
    // Of y = 0 and |d| = |x| = 1 there remains R.
    image_.set(124, 0, 1);
    image_.set(128, 0, 0);
    image_.set(88, image_.groups, unit);
    sign(m_);
    Question q;
    q.hidden = x_;
    q.budget = budget;
    q.temperature = temperature;
    const Answers a = ask(m_, q, true), full = ask(m_, q, false);
    EXPECT_EQ(a.argmax[0], full.argmax[0]);
    EXPECT_EQ(a.top[0], full.top[0]);
    return a;
  }

 private:
  static constexpr int64_t kDim = 32;
  static HostTensor head_of(const std::vector<double>& logits) {
    HostTensor head = emptied(make_tensor(Type::kF32, {static_cast<int64_t>(logits.size()), kDim}));
    for (int64_t v = 0; v < head.rows; ++v) head.set(v, 0, logits[static_cast<size_t>(v)]);
    return head;
  }
  Model m_;
  Image image_;
  HostTensor x_;
};

// Where bounds are nothing, what reaches them counts: the lowest of all that may be the largest.
TEST(ScreenAnswers, BoundsThatAreReachedCount) {
  std::vector<double> logits(600, -5);
  for (const size_t v : {7u, 77u, 590u}) logits[v] = 1;
  Plain plain(logits);
  Answers a = plain.ask_with(0, 3);
  EXPECT_EQ(a.certified[0], EXN_CERTIFIED_PROVEN);
  EXPECT_EQ(a.argmax[0], 7);
  EXPECT_EQ(a.read[0], 3);
  // More that may be larger by far, and are not: they are read first.
  for (size_t v = 100; v < 100 + 140; ++v) logits[v] = 1;
  Plain many(logits);
  for (int64_t v = 100; v < 100 + 140; ++v) many.set(v, 1, 100);
  a = many.ask_with(0.01, 600);
  EXPECT_EQ(a.certified[0], EXN_CERTIFIED_PROVEN);
  EXPECT_EQ(a.argmax[0], 7);
  EXPECT_EQ(a.read[0], 143);
}

// The rows with the largest bounds are read first, and where p1 is wide also last.
TEST(ScreenAnswers, TheWidestAreReadFirst) {
  // 256 rows whose bounds are 128 to 255 units, two of each, in no order; one is as large as it
  // may.
  constexpr int64_t kRows = 600, kWide = 256;
  const std::vector<int64_t> order = shuffled(kWide, 5, 1);
  std::vector<double> logits(kRows, 0);
  for (int64_t i = 0; i < kWide; ++i) {
    if (order[static_cast<size_t>(i)] / 2 == 127) logits[static_cast<size_t>(2 * i)] = 1.9;
  }
  Plain plain(logits);
  for (int64_t v = 0; v < kRows; ++v) plain.set(v, -30, 0);
  for (int64_t i = 0; i < kWide; ++i)
    plain.set(2 * i, 0, 128 + static_cast<int>(order[static_cast<size_t>(i)] / 2));
  // CPUs read 32 at first, devices 128, and all others are ruled out by what they find.
  const int32_t first = device().cpu() ? 32 : 128;
  Answers a = plain.ask_with(1.0 / 128, first);
  EXPECT_EQ(a.certified[0], EXN_CERTIFIED_PROVEN);
  EXPECT_EQ(a.read[0], first);
  if (!device().cpu()) return;  // which reads no more
  for (const int32_t budget : {33, 100, 255}) {
    SCOPED_TRACE(budget);
    a = plain.ask_with(1.0 / 128, budget);
    EXPECT_EQ(a.read[0], budget);
    // Two rows are 1.9; the others that were read are 0, those that were not are up to 2 off.
    double low = 2, high = 2;
    for (int64_t i = 0; i < kWide; ++i) {
      const auto rank = static_cast<double>(i);
      if (i < 2) continue;
      const double wide = (255 - std::floor(rank / 2)) / 128;
      low += std::exp((i < budget ? 0 : -wide) - 1.9);
      high += std::exp((i < budget ? 0 : wide) - 1.9);
    }
    EXPECT_NEAR(static_cast<double>(a.high[0]), 1 / low, 0.003 / low);
    EXPECT_NEAR(static_cast<double>(a.low[0]), 1 / high, 0.003 / high);
  }
  // Of what is 16 temperatures lower no difference would show.
  a = plain.ask_with(1.0 / 128, 255, 0.02f);
  EXPECT_EQ(a.read[0], 32 + 2 * (239 - 202));  // from 1.9 - 0.32 = 202.2 units on
  // Enough of them for all: nothing else is read.
  a = plain.ask_with(1.0 / 128, kRows);
  EXPECT_EQ(a.read[0], kWide);
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
  q.hidden.set(10, 0, 1e30);  // of the second eight, of which the first has no such row here
  expect_same(m, q);
  const Answers answers = ask(m, q, true);
  for (const size_t r : {1, 4, 7, 10}) EXPECT_EQ(answers.certified[r], EXN_CERTIFIED_NOT) << r;
  for (const double odd : {std::nan(""), HUGE_VAL, -HUGE_VAL, 1e38, -1e38}) {
    SCOPED_TRACE(odd);
    q.bias.assign(300, 0.5f);
    q.bias[17] = static_cast<float>(odd);
    const int64_t certified = expect_same(m, q);
    if (odd != -HUGE_VAL) {
      EXPECT_EQ(certified, 0);
    }
  }
  q.bias.assign(300, -HUGE_VALF);
  expect_same(m, q);
  q.bias[299] = 1;
  expect_same(m, q);
}

// A head that has changed since is not told, but what is read of it is looked at.
TEST(ScreenAnswers, RowsThatAreReadMustBeFinite) {
  for (const double odd : {std::nan(""), HUGE_VAL}) {
    Model m(make_head(Type::kF32, nullptr, 300, 40, 8), 40, 1, 0, 8);
    Question q;
    q.hidden = hidden_of(m, Type::kF32, 3, 8);
    const int32_t best = ask(m, q, true).argmax[2];
    q.hidden = part_of(q.hidden, 2, 1);
    m.head.set(best, 3, odd);
    EXPECT_EQ(expect_same(m, q), 0);
    EXPECT_EQ(ask(m, q, true).valid[0], 0);
  }
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
  void sign() { test::sign(m_); }
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
      // Unused ends of groups are not read.
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

// What belongs to a screen, and what cannot be beside one.
TEST_F(Hostile, ArgumentsAreNamed) {
  using P = exn_exit_head_params;
  std::vector<float> number(1), numbers(200);
  std::vector<int32_t> integer(1);
  std::vector<uint8_t> byte(1);
  HostTensor x = make_tensor(Type::kF32, {1, 48}), other = make_tensor(Type::kF32, {199, 48}),
             narrow = make_tensor(Type::kF32, {1, 47}), less = make_tensor(Type::kF32, {200, 47});
  View hidden = view_of(x), weight = view_of(m_.head), argmax = view_of(integer),
       real = view_of(number, {1}), whole = view_of(integer), flag = view_of(byte),
       image = m_.image->view(), rows = view_of(other), columns = view_of(narrow),
       short_rows = view_of(less);
  P p = {};
  p.struct_size = sizeof p;
  p.hidden = hidden.dl();
  p.weight = weight.dl();
  p.temperature = 1;
  p.out.argmax = argmax.dl();
  const auto refused = [&](const std::string& part, const std::function<void(P*)>& spoil) {
    P q = p;
    spoil(&q);
    const std::string why = said(exn_exit_head_supported(&q));
    EXPECT_EQ(why.rfind("1 exn_exit_head: ", 0), 0u) << part << ": " << why;
    EXPECT_NE(why.find(part), std::string::npos) << part << ": " << why;
  };
  ASSERT_EQ(exn_exit_head_supported(&p), EXN_OK) << exn_last_error();
  refused("certified is given", [&](P* q) { q->certified = flag.dl(); });
  refused("p1_low is given", [&](P* q) { q->p1_low = real.dl(); });
  refused("p1_high is given", [&](P* q) { q->p1_high = real.dl(); });
  refused("rows_read is given", [&](P* q) { q->rows_read = whole.dl(); });
  refused("screen_level is 1", [](P* q) { q->screen_level = 1; });
  refused("screen_mode is 1", [](P* q) { q->screen_mode = EXN_SCREEN_CALIBRATED; });
  refused("screen_budget is 1", [](P* q) { q->screen_budget = 1; });
  refused("screen_factor is 1", [](P* q) { q->screen_factor = 1; });
  p.screen = image.dl();
  ASSERT_EQ(exn_exit_head_supported(&p), EXN_OK) << exn_last_error();
  refused("shortlist is given", [&](P* q) { q->shortlist = whole.dl(); });
  refused("normalizer is EXN_STABLEMAX", [](P* q) { q->normalizer = EXN_STABLEMAX; });
  refused("out.p2 is given", [&](P* q) { q->out.p2 = real.dl(); });
  refused("out.margin is given", [&](P* q) { q->out.margin = real.dl(); });
  refused("out.entropy is given", [&](P* q) { q->out.entropy = real.dl(); });
  refused("out.pow2_entropy is given", [&](P* q) { q->out.pow2_entropy = real.dl(); });
  refused("out.mean_log_p is given", [&](P* q) { q->out.mean_log_p = real.dl(); });
  refused("p1_high is null", [&](P* q) { q->p1_low = real.dl(); });
  refused("p1_low is null", [&](P* q) { q->p1_high = real.dl(); });
  for (const int32_t bad : {-1, 2})
    refused("screen_mode is " + std::to_string(bad), [&](P* q) { q->screen_mode = bad; });
  for (const int32_t bad : {-1, 201})
    refused("screen_budget is " + std::to_string(bad), [&](P* q) { q->screen_budget = bad; });
  for (const float bad : {-1.0f, std::nanf("")}) {
    refused("screen_factor is", [&](P* q) {
      q->screen_mode = EXN_SCREEN_CALIBRATED;
      q->screen_factor = bad;
    });
  }
  refused("screen_factor is 8", [](P* q) { q->screen_factor = 8; });
  refused("screen", [&](P* q) { q->weight = rows.dl(); });
  refused("screen", [&](P* q) {
    q->hidden = columns.dl();
    q->weight = short_rows.dl();
  });
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
    static Aligned aligned(1 << 16);
    size_t size = 0;
    ASSERT_EQ(exn_screen_size(q, &size), EXN_OK);
    static View out(aligned.at.get(), kDLUInt, 8, {static_cast<int64_t>(size)});
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

// Wherever it lies of many rows that a thread looks through.
TEST(ScreenArguments, EveryRowIsLookedAt) {
  const std::vector<float> states(22 * 20, 1);
  ASSERT_EQ(exn_cpu_set_threads(1), EXN_OK);
  for (const int64_t v : {255, 256, 700, 1099}) {
    HostTensor head = make_head(Type::kF32, nullptr, 1100, 20, 1);
    head.set(v, 19, v % 2 == 0 ? -HUGE_VAL : std::nan(""));
    View weight = view_of(head), x = view_of(states, {22, 20});
    exn_screen_params p = {};
    p.struct_size = sizeof p;
    p.weight = weight.dl();
    p.states = x.dl();
    p.level_count = 1;
    size_t bytes = 0;
    ASSERT_EQ(exn_screen_size(&p, &bytes), EXN_OK) << exn_last_error();
    const Aligned image(bytes);
    View to = image.view();
    p.image = to.dl();
    const std::string why = said(exn_screen_build(&p));
    EXPECT_NE(why.find("row " + std::to_string(v) + " of weight"), std::string::npos) << why;
  }
  ASSERT_EQ(exn_cpu_set_threads(0), EXN_OK);
}

}  // namespace
}  // namespace exn::test
