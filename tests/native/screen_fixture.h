// SPDX-License-Identifier: Apache-2.0
// What the suites of screens share: heads of every type, their screens, and what exit_head answers
// with a screen and without.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "blocks.h"
#include "harness.h"
#include "tensor.h"

namespace exn::test {

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

inline View view_of(const HostTensor& t) {
  const DLDataType type = dl_type(t.type);
  return {t.bytes.data(), type.code, type.bits, t.shape};
}
inline View view_of(const std::vector<float>& v, std::vector<int64_t> shape) {
  return {v.data(), kDLFloat, 32, std::move(shape)};
}
inline View view_of(const std::vector<int32_t>& v) {
  return {v.data(), kDLInt, 32, {static_cast<int64_t>(v.size())}};
}
inline View view_of(const std::vector<uint8_t>& v) {
  return {v.data(), kDLUInt, 8, {static_cast<int64_t>(v.size())}};
}

// Bytes at a multiple of 64.
struct Aligned {
  explicit Aligned(size_t size)
      : bytes(size),
        at(static_cast<char*>(::operator new(size, std::align_val_t{64})),
           [](void* p) { ::operator delete(p, std::align_val_t{64}); }) {}
  // Of all bytes, or of the first ones.
  View view(size_t some = 0) const {
    return {at.get(), kDLUInt, 8, {static_cast<int64_t>(some != 0 ? some : bytes)}};
  }
  size_t bytes;
  std::unique_ptr<char, void (*)(void*)> at;
};

// The device that answers; images are made on the CPU.
inline const Target& device() { return targets().front(); }

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

inline HostTensor emptied(HostTensor t) {
  std::fill(t.bytes.begin(), t.bytes.end(), static_cast<unsigned char>(0));
  return t;
}

inline HostTensor make_head(Type type, const BlockFormat* format, int64_t rows, int64_t cols,
                            uint64_t seed) {
  if (format != nullptr) {
    HostTensor t = make_blocks(*format, rows, cols, 0, 0);
    fill_blocks(&t, seed, 1, "normal", 0.25f, "-");
    return t;
  }
  return make_bell(type, {rows, cols}, seed, 1, 0.25f);
}

inline std::vector<double> head_row(const HostTensor& head, int64_t row) {
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

inline Answers ask(const Model& m, const Question& q, bool screened) {
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

inline bool same_bits(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0; }

// The answers with a screen, which must be those without. Returns how many rows were certified.
inline int64_t expect_same(const Model& m, const Question& q) {
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
inline HostTensor hidden_of(const Model& m, Type type, int64_t rows, uint64_t seed) {
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

inline bool in_full() { return std::getenv("EXEUNT_LONG") != nullptr; }

// An emulated device is as slow as what sanitizers watch.
inline bool quick() {
  if (in_full()) return false;
  const auto emulated = [](const Target& target) { return target.emulated; };
  return std::getenv("EXEUNT_QUICK") != nullptr ||
         std::any_of(targets().begin(), targets().end(), emulated);
}

}  // namespace exn::test
