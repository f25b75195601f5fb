// SPDX-License-Identifier: Apache-2.0
// Screens of a real head with a real decoder's states: the answers are the full head's, and nearly
// all of them certified. Needs the demo's model, which EXEUNT_MODEL names or ./exeunt demo fetches,
// and is skipped without it. EXEUNT_LONG=1 times it too, and prints what docs/tuning.md quotes.
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <memory>

#include "golden.h"
#include "harness.h"
#include "safetensors.h"

namespace exn::test {
namespace {

std::string model_path() {
  const char* named = std::getenv("EXEUNT_MODEL");
  if (named != nullptr && *named != '\0') return named;
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const std::string folder = cache != nullptr && *cache != '\0' ? std::string(cache)
                             : home != nullptr                  ? std::string(home) + "/.cache"
                                                                : "";
  return folder + "/exeunt/SmolLM2-135M-Instruct.Q4_1.gguf";
}

// Two tensors of a GGUF file: the head in Q8_0, and the final norm.
class Model {
 public:
  explicit Model(const std::string& path) : in_(path, std::ios::binary) {
    if (!in_) return;
    EXPECT_EQ(take<uint32_t>(), 0x46554747u);
    take<uint32_t>();
    const auto tensors = take<uint64_t>(), keys = take<uint64_t>();
    for (uint64_t i = 0; i < keys; ++i) {
      text();
      skip(take<uint32_t>());
    }
    struct Entry {
      std::string name;
      std::vector<uint64_t> shape;
      uint32_t type;
      uint64_t offset;
    };
    std::vector<Entry> entries(tensors);
    for (Entry& e : entries) {
      e.name = text();
      e.shape.resize(take<uint32_t>());
      for (uint64_t& n : e.shape) n = take<uint64_t>();
      e.type = take<uint32_t>();
      e.offset = take<uint64_t>();
    }
    const uint64_t data = (static_cast<uint64_t>(in_.tellg()) + 31) / 32 * 32;
    for (const Entry& e : entries) {
      const bool is_head = e.name == "token_embd.weight";
      if (!is_head && e.name != "output_norm.weight") continue;
      const auto cols = static_cast<int64_t>(e.shape[0]);
      HostTensor& t = is_head ? head : norm;
      t = is_head ? make_blocks(*block_format(static_cast<int32_t>(e.type)),
                                static_cast<int64_t>(e.shape[1]), cols, 0, 0)
                  : make_tensor(Type::kF32, {cols});
      in_.seekg(static_cast<std::streamoff>(data + e.offset));
      in_.read(reinterpret_cast<char*>(t.bytes.data()),
               static_cast<std::streamsize>(t.bytes.size()));
    }
  }
  HostTensor head, norm;

 private:
  template <class T>
  T take() {
    T value{};
    in_.read(reinterpret_cast<char*>(&value), sizeof value);
    return value;
  }
  std::string text() {
    std::string s(take<uint64_t>(), '\0');
    in_.read(s.data(), static_cast<std::streamsize>(s.size()));
    return s;
  }
  void skip(uint32_t type) {
    constexpr int kSizes[13] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    if (type == 8) {
      text();
    } else if (type == 9) {
      const auto of = take<uint32_t>();
      for (uint64_t n = take<uint64_t>(); n > 0; --n) skip(of);
    } else {
      in_.ignore(kSizes[type < 13 ? type : 0]);
    }
  }
  std::ifstream in_;
};

// As RMSNorm of eps 1e-5 leaves it.
void put_normal(const HostTensor& from, int64_t at, const HostTensor& norm, HostTensor* to,
                int64_t row) {
  double sum = 0;
  for (int64_t i = 0; i < to->cols; ++i) sum += from.at(0, at + i) * from.at(0, at + i);
  const double scale = 1 / std::sqrt(sum / static_cast<double>(to->cols) + 1e-5);
  for (int64_t i = 0; i < to->cols; ++i)
    to->set(row, i, from.at(0, at + i) * scale * norm.at(0, i));
}

struct Result {
  int64_t states = 0, certified = 0, read = 0;
  double width = 0;  // of the interval of p1
  double wrong = 0;  // of its estimate, at most
};

class RealHead : public ::testing::Test {
 protected:
  static constexpr int kDepths = 4;

  void SetUp() override {
    if (std::getenv("EXEUNT_QUICK") != nullptr) GTEST_SKIP() << "takes too long for quick runs";
    stats_ = Safetensors::read(golden_path("model/exit_stats.safetensors"));
    ASSERT_FALSE(stats_.empty());
    model_ = std::make_unique<Model>(model_path());
    if (!model_->head.given()) GTEST_SKIP() << "no model at " << model_path();
    // [depths, tokens, D]: more tokens in bf16, where the recordings have them, than in f32.
    hidden_ = stats_.tensor(stats_.has("states") ? "states" : "hidden");
    ASSERT_EQ(hidden_.shape[0], kDepths);
    tokens_ = hidden_.shape[1];
    dim_ = hidden_.shape[2];
  }

  // Every fourth token is kept back.
  bool tested(int64_t token) const { return token % 4 == 3; }
  int64_t row_of(int64_t depth, int64_t token) const { return (depth * tokens_ + token) * dim_; }

  HostTensor states(int64_t depth, bool test) const {
    std::vector<int64_t> from;
    for (int64_t d = 0; d < kDepths; ++d) {
      for (int64_t t = 0; t < tokens_; ++t) {
        if ((depth < 0 || d == depth) && tested(t) == test) from.push_back(row_of(d, t));
      }
    }
    HostTensor x = make_tensor(Type::kF32, {static_cast<int64_t>(from.size()), dim_});
    for (size_t i = 0; i < from.size(); ++i)
      put_normal(hidden_, from[i], model_->norm, &x, static_cast<int64_t>(i));
    return x;
  }

  HostTensor in_type(Type type) const {
    const HostTensor& head = model_->head;
    if (type == Type::kU8) return head;
    const int64_t rows = head.rows;
    HostTensor wide = make_tensor(type, {rows, dim_});
    for (int64_t v = 0; v < rows; ++v) {
      const std::vector<double> row = unpacked_row(head, v);
      for (int64_t i = 0; i < dim_; ++i) wide.set(v, i, row[static_cast<size_t>(i)]);
    }
    return wide;
  }

  Safetensors stats_;
  std::unique_ptr<Model> model_;
  HostTensor hidden_;
  int64_t tokens_ = 0, dim_ = 0;
};

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

TEST_F(RealHead, IsCertified) {
  const Target cpu = {kDLCPU, exn_cpu_isa(), false};
  const bool timed = std::getenv("EXEUNT_LONG") != nullptr;
  const HostTensor calibration = states(-1, false);
  std::vector<int64_t> levels;
  for (int64_t d = 0; d < kDepths; ++d) {
    for (int64_t t = 0; t < tokens_; ++t) {
      if (!tested(t)) levels.push_back(d);
    }
  }
  for (const Type type : {Type::kBF16, Type::kU8}) {
    SCOPED_TRACE(name_of(type));
    const HostTensor weight = in_type(type);
    Placed head(cpu, weight), calibrated(cpu, calibration), of_level(cpu, make_integers(levels));
    exn_screen_params p = {};
    p.struct_size = sizeof p;
    p.weight = head.dl();
    p.weight_blocks = weight.blocks;
    p.states = calibrated.dl();
    p.levels = of_level.dl();
    p.level_count = kDepths;
    if (const char* bits = std::getenv("EXEUNT_SCREEN_BITS"))
      p.bits_per_weight = static_cast<float>(std::atof(bits));
    size_t bytes = 0;
    ASSERT_EQ(exn_screen_size(&p, &bytes), EXN_OK) << exn_last_error();
    Placed image(cpu, make_tensor(Type::kU8, {static_cast<int64_t>(bytes)}));
    p.image = image.dl();
    const double start = seconds();
    ASSERT_EQ(exn_screen_build(&p), EXN_OK) << exn_last_error();
    exn_screen_params whole = {};
    whole.struct_size = sizeof whole;
    whole.image = image.dl();
    whole.weight = head.dl();
    whole.weight_blocks = weight.blocks;
    exn_screen_info info;
    ASSERT_EQ(exn_screen_check(&whole, &info), EXN_OK) << exn_last_error();
    if (timed) {
      std::printf("%s head: %.1f MB of %.1f MB, %.2f bits, made in %.1f s, worst ratio %.2f\n",
                  name_of(type), static_cast<double>(bytes) / 1e6,
                  static_cast<double>(weight.bytes.size()) / 1e6,
                  static_cast<double>(info.bits_per_weight), seconds() - start,
                  static_cast<double>(info.worst_ratio));
    }
    for (int64_t depth = 0; depth < kDepths; ++depth) {
      const HostTensor x = states(depth, true);
      const int64_t rows = x.rows, vocabulary = weight.rows;
      Placed hidden(cpu, x);
      Placed argmax(cpu, make_tensor(Type::kI32, {rows})),
          top(cpu, make_tensor(Type::kF32, {rows})), p1(cpu, make_tensor(Type::kF32, {rows})),
          low(cpu, make_tensor(Type::kF32, {rows})), high(cpu, make_tensor(Type::kF32, {rows})),
          certified(cpu, make_tensor(Type::kU8, {rows})),
          read(cpu, make_tensor(Type::kI32, {rows}));
      exn_exit_head_params h = {};
      h.struct_size = sizeof h;
      h.hidden = hidden.dl();
      h.weight = head.dl();
      h.weight_blocks = weight.blocks;
      h.norm_eps = 1e-5f;
      h.temperature = 1;
      h.out.argmax = argmax.dl();
      h.out.max_logit = top.dl();
      h.out.p1 = p1.dl();
      const Op<exn_exit_head_params> op = EXN_TEST_OP(exit_head);
      ASSERT_EQ(run_once(cpu, op, h), EXN_OK) << exn_last_error();
      const HostTensor full[3] = {argmax.read(), top.read(), p1.read()};
      h.screen = image.dl();
      h.screen_level = static_cast<int32_t>(depth);
      h.certified = certified.dl();
      h.p1_low = low.dl();
      h.p1_high = high.dl();
      h.rows_read = read.dl();
      for (const int32_t mode : {EXN_SCREEN_PROVEN, EXN_SCREEN_CALIBRATED}) {
        h.screen_mode = mode;
        ASSERT_EQ(run_once(cpu, op, h), EXN_OK) << exn_last_error();
        Result sum;
        const HostTensor flags = certified.read(), counts = read.read(), got = argmax.read(),
                         logit = top.read(), estimate = p1.read(), from = low.read(),
                         to = high.read();
        for (int64_t r = 0; r < rows; ++r) {
          EXPECT_EQ(got.integer_at(r), full[0].integer_at(r)) << "row " << r;
          EXPECT_EQ(logit.at(0, r), full[1].at(0, r)) << "row " << r;
          const double exact = full[2].at(0, r);
          EXPECT_LE(from.at(0, r), exact * (1 + 2e-6)) << "row " << r;
          EXPECT_GE(to.at(0, r), exact * (1 - 2e-6)) << "row " << r;
          ++sum.states;
          sum.certified += flags.integer_at(r) != EXN_CERTIFIED_NOT ? 1 : 0;
          sum.read += counts.integer_at(r) < vocabulary ? counts.integer_at(r) : 0;
          sum.width += to.at(0, r) - from.at(0, r);
          sum.wrong = std::max(sum.wrong, std::fabs(estimate.at(0, r) - exact));
        }
        const double n = static_cast<double>(sum.states);
        EXPECT_GE(static_cast<double>(sum.certified), (depth == kDepths - 1 ? 0.9 : 0.98) * n)
            << "depth " << depth << ", mode " << mode;
        EXPECT_LT(sum.wrong, mode == EXN_SCREEN_PROVEN ? 5e-3 : 0.03);
        if (timed) {
          std::printf(
              "  %s bounds, depth %d: %.1f %% certified, %.1f rows read on average, p1 off by "
              "%.1e at most, interval of %.4f on average\n",
              mode == EXN_SCREEN_PROVEN ? "proven" : "calibrated",
              static_cast<int>(stats_.tensor("hidden_layers").integer_at(depth)),
              100 * static_cast<double>(sum.certified) / n, static_cast<double>(sum.read) / n,
              sum.wrong, sum.width / n);
        }
      }
      if (!timed) continue;
      // One row after another, as a decoder has them: the full head and the screen in turns.
      for (const int32_t threads : {1, 2}) {
        exn_cpu_set_threads(threads);
        double spent[2] = {0, 0};
        std::vector<double> ratios;
        for (int64_t r = 0; r < std::min<int64_t>(rows, 24); ++r) {
          double each[2];
          for (int which : {0, 1}) {
            exn_exit_head_params one = h;
            one.screen_mode = EXN_SCREEN_PROVEN;
            one.p1_low = one.p1_high = nullptr;
            if (which == 0) {
              one.screen = one.certified = one.rows_read = nullptr;
              one.screen_level = 0;
            }
            BlockOfRows block(r, 1);
            for (const DLTensor** field : {&one.hidden, &one.out.argmax, &one.out.max_logit,
                                           &one.out.p1, &one.certified, &one.rows_read}) {
              if (*field != nullptr) block(field);
            }
            one.screen_mode = 0;
            size_t space = 0;
            ASSERT_EQ(exn_exit_head_workspace_size(&one, &space), EXN_OK) << exn_last_error();
            void* workspace = nullptr;
            exn_alloc(kDLCPU, 0, space, &workspace);
            exn_exit_head(&one, workspace, space, nullptr);
            const double begin = seconds();
            ASSERT_EQ(exn_exit_head(&one, workspace, space, nullptr), EXN_OK);
            each[which] = seconds() - begin;
            spent[which] += each[which];
            exn_free(kDLCPU, 0, workspace);
          }
          ratios.push_back(each[1] / each[0]);
        }
        std::sort(ratios.begin(), ratios.end());
        std::printf(
            "  %d threads: %.3f of the full head's time on average, %.3f in the median (%.2f ms)\n",
            threads, spent[1] / spent[0], ratios[ratios.size() / 2], 1e3 * spent[0] / 24);
      }
      exn_cpu_set_threads(0);
    }
  }
}

}  // namespace
}  // namespace exn::test
