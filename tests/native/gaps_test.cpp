// SPDX-License-Identifier: Apache-2.0
// What holds of the gaps between the rows of every argument of every op: rows with gaps between them
// are taken for what they are or refused, and tensors may lie in the gaps of each other, but not on
// each other.
#include <algorithm>
#include <bitset>
#include <random>

#include "samples.h"

namespace exn::test {
namespace {

class AnyOp : public ::testing::TestWithParam<Sample> {};

INSTANTIATE_TEST_SUITE_P(Ops, AnyOp, ::testing::ValuesIn(samples_of_this_run()),
                         [](const auto& one) { return one.param.name; });

// ---- rows with gaps between them ----------------------------------------------------------------

// What a tensor of a call comes to hold when it has memory of its own.
const std::vector<unsigned char>& alone(PlacedCall& placed, const Outcome& outcome,
                                        const Argument* a) {
  size_t i = 0;
  for (const auto& other : placed.arguments()) {
    if (other.get() == a) break;
    if (other->written) ++i;
  }
  return a->written ? outcome.written[i] : a->initial.bytes;
}

// A tensor of a call in memory of its own, its rows `gap` elements apart, with NaN between them.
class Spread {
 public:
  Spread(const Target& target, Argument* a, int64_t gap)
      : argument_(a),
        width_(a->row_elements() * size_of(a->type)),
        pitch_(width_ + gap * size_of(a->type)),
        memory_(target, static_cast<size_t>(a->shape[0] * pitch_)),
        good_(a->dl),
        strides_(a->shape.size(), 1) {
    for (size_t k = strides_.size(); k-- > 1;) strides_[k - 1] = strides_[k] * a->shape[k];
    strides_[0] = pitch_ / size_of(a->type);
    memory_.write(with(a->initial.bytes));
    a->dl.data = memory_.data();
    a->dl.byte_offset = 0;
    a->dl.strides = strides_.data();
  }
  ~Spread() { argument_->dl = good_; }

  // Whether its rows are these, and what lies between them is as it was.
  bool holds(const std::vector<unsigned char>& rows) const { return memory_.holds(with(rows)); }

 private:
  std::vector<unsigned char> with(const std::vector<unsigned char>& rows) const {
    std::vector<unsigned char> image(memory_.size(), 0xFF);
    for (int64_t r = 0; r < argument_->shape[0]; ++r)
      std::copy_n(rows.begin() + r * width_, width_, image.begin() + r * pitch_);
    return image;
  }

  Argument* argument_;
  int64_t width_, pitch_;
  DeviceMemory memory_;
  DLTensor good_;
  std::vector<int64_t> strides_;
};

// Each tensor in turn: what may have gaps gives what it gives without, to the bit, and what a
// header calls compact is refused. A check that is the other one, or a kernel that takes rows for
// the neighbours that they are not, is seen here.
TEST_P(AnyOp, RowsWithGapsAreTakenOrRefused) {
  for (const Target& target : targets()) {
    if (!takes(GetParam(), target)) continue;
    SCOPED_TRACE(target.name());
    PlacedCall placed(target, GetParam().make());
    const Outcome expected = placed.run();
    ASSERT_EQ(expected.status, EXN_OK) << expected.error;
    for (auto& a : placed.arguments()) {
      if (a->shape.empty() || a->shape[0] < 2 || a->empty()) continue;
      SCOPED_TRACE(a->name);
      const Spread spread(target, a.get(), 3);
      const Outcome outcome = placed.run({a.get()});
      if (!a->strided) {
        EXPECT_EQ(outcome.status, EXN_INVALID_ARGUMENT);
        EXPECT_NE(outcome.error.find(a->name + " has "), std::string::npos) << outcome.error;
        EXPECT_TRUE(spread.holds(a->initial.bytes)) << "a refused call wrote it";
        continue;
      }
      EXPECT_EQ(outcome.status, EXN_OK) << outcome.error;
      EXPECT_TRUE(spread.holds(alone(placed, expected, a.get())));
      size_t i = 0;
      for (auto& other : placed.arguments()) {
        if (!other->written) continue;
        EXPECT_TRUE(other == a || outcome.written[i] == expected.written[i]) << other->name;
        ++i;
      }
    }
  }
}

// ---- tensors in the gaps of others --------------------------------------------------------------

constexpr int64_t kGaps[] = {0, 4, 20};

// Memory that two tensors share, and what is in it before a call and should be then. Made once for
// all pairs of a call: sanitizers take their time to give so much and to take it back.
struct SharedMemory {
  SharedMemory(const Target& target, const PlacedCall& placed)
      : memory(target, bytes_for(placed)), image(memory.size()), expected(memory.size()) {}

  static size_t bytes_for(const PlacedCall& placed) {
    int64_t rows = 0, width = 0;
    for (const auto& a : placed.arguments()) {
      if (!a->strided) continue;
      rows = std::max(rows, a->shape[0]);
      width = std::max(width, a->row_elements() * size_of(a->type));
    }
    return static_cast<size_t>(rows * (2 * width + 3 * kGaps[2]));
  }

  DeviceMemory memory;
  std::vector<unsigned char> image, expected;
};

// A call whose strided tensors `a` and `b` share one buffer, row beside row.
class Interleaved {
 public:
  // `expected`: of the call when every tensor has memory of its own.
  Interleaved(SharedMemory* shared, PlacedCall* placed, const Outcome& expected, Argument* a,
              Argument* b, int64_t gap)
      : shared_(shared), placed_(placed), arguments_{a, b} {
    int64_t at = gap;
    for (int i = 0; i < 2; ++i) {
      first_[i] = at;
      width_[i] = arguments_[i]->row_elements() * size_of(arguments_[i]->type);
      at += width_[i] + gap;
    }
    pitch_ = at;
    std::fill(shared->image.begin(), shared->image.end(), 0xA7);
    for (int i = 0; i < 2; ++i) put(i, arguments_[i]->initial.bytes, &shared->image);
    shared->expected = shared->image;
    for (int i = 0; i < 2; ++i) {
      put(i, alone(*placed, expected, arguments_[i]), &shared->expected);
      const std::vector<int64_t>& shape = arguments_[i]->shape;
      good_[i] = arguments_[i]->dl;
      strides_[i].assign(shape.size(), 1);
      for (size_t k = shape.size(); k-- > 1;) strides_[i][k - 1] = strides_[i][k] * shape[k];
      strides_[i][0] = pitch_ / size_of(arguments_[i]->type);
      DLTensor* dl = &arguments_[i]->dl;
      dl->data = shared->memory.data() + first_[i];
      dl->byte_offset = 0;
      dl->strides = strides_[i].data();
    }
  }
  ~Interleaved() {
    for (int i = 0; i < 2; ++i) arguments_[i]->dl = good_[i];
  }

  // The two tensors must hold then what they do alone, and nothing else in the buffer may change.
  Outcome run() {
    shared_->memory.write(shared_->image);
    const Outcome outcome = placed_->run({arguments_[0], arguments_[1]});
    if (shared_->memory.holds(shared_->expected)) return outcome;
    const std::vector<unsigned char> now = shared_->memory.read();
    const int64_t at =
        std::mismatch(now.begin(), now.end(), shared_->expected.begin()).first - now.begin();
    const char* where = "a gap";
    for (int i = 0; i < 2; ++i) {
      const int64_t within = at % pitch_ - first_[i];
      const bool hit = within >= 0 && within < width_[i] && at / pitch_ < arguments_[i]->shape[0];
      if (hit) where = arguments_[i]->name.c_str();
    }
    ADD_FAILURE() << "byte " << at << " is wrong, which is of " << where;
    return outcome;
  }

 private:
  void put(int i, const std::vector<unsigned char>& bytes, std::vector<unsigned char>* image) {
    for (int64_t r = 0; r < arguments_[i]->shape[0]; ++r) {
      std::copy_n(bytes.begin() + r * width_[i], width_[i],
                  image->begin() + r * pitch_ + first_[i]);
    }
  }

  SharedMemory* shared_;
  PlacedCall* placed_;
  Argument* arguments_[2];
  DLTensor good_[2];
  std::vector<int64_t> strides_[2];
  int64_t first_[2], width_[2], pitch_;
};

void expect_interleaved(const Sample& op, const Named& extents, bool few) {
  for (const Target& target : targets()) {
    if (!takes(op, target)) continue;
    if (few && target.emulated) continue;
    SCOPED_TRACE(target.name());
    PlacedCall placed(target, op.make(extents));
    const Outcome expected = placed.run();
    ASSERT_EQ(expected.status, EXN_OK) << expected.error;
    SharedMemory shared(target, placed);
    for (auto& a : placed.arguments()) {
      for (auto& b : placed.arguments()) {
        if (a == b || !a->strided || !b->strided || !(a->written || b->written)) continue;
        SCOPED_TRACE(a->name + " beside " + b->name);
        for (int64_t gap : kGaps) {
          SCOPED_TRACE("gap " + std::to_string(gap));
          Interleaved both(&shared, &placed, expected, a.get(), b.get(), gap);
          const Outcome outcome = both.run();
          ASSERT_EQ(outcome.status, EXN_OK) << outcome.error;
          size_t i = 0;
          for (auto& other : placed.arguments()) {
            if (!other->written) continue;
            const bool shares = other == a || other == b;
            EXPECT_TRUE(shares || outcome.written[i] == expected.written[i]) << other->name;
            ++i;
          }
          // One element further on they meet.
          const auto bytes = static_cast<uint64_t>(gap + 4);
          a->dl.byte_offset += bytes;
          EXPECT_EQ(placed.call().supported(), EXN_INVALID_ARGUMENT);
          expect_words({"overlaps", a->name, b->name});
          a->dl.byte_offset -= bytes;
        }
      }
    }
  }
}

TEST_P(AnyOp, TensorsMayLieInTheGapsOfOthers) { expect_interleaved(GetParam(), {}, false); }

// So large that every thread has some, and that stores of those that ever do so (gather, from 4 MiB
// on) go past the caches.
TEST(Gaps, OfLargeTensors) {
  const std::pair<const char*, Named> calls[] = {
      {"stablemax", {{"rows", 60}, {"columns", 4003}}},
      {"cross_entropy", {{"rows", 60}, {"columns", 4003}}},
      {"norm", {{"rows", 140}, {"columns", 1501}}},
      {"row_compaction_gather", {{"rows", 60}, {"listed", 60}, {"columns", 4003}}},
      {"row_compaction_scatter", {{"rows", 60}, {"listed", 60}, {"columns", 4003}}},
      {"hidden_stack_push", {{"capacity", 60}, {"rows", 60}, {"columns", 4003}}},
      {"gather",
       {{"rows", 800}, {"entries", 800}, {"listed", 800}, {"columns", 531}, {"outer", 1}}},
      {"gather",
       {{"rows", 3200}, {"entries", 3200}, {"listed", 3200}, {"columns", 128}, {"outer", 1}}},
      {"rope", {{"rows", 300}, {"heads", 8}, {"head_dim", 64}, {"pairs", 32}}},
      {"linear", {{"rows", 70}, {"columns", 96}, {"outputs", 700}}},
      {"ffn", {{"rows", 70}, {"columns", 96}, {"width", 200}}},
      {"attention", {{"rows", 40}, {"cache.slots", 70}, {"head_dim", 64}}},
  };
  for (const auto& [name, extents] : calls) {
    SCOPED_TRACE(name + std::string(" ") + list_of(extents));
    expect_interleaved(sample(name, extents), extents, true);
    if (HasFailure()) return;
  }
}

// The check against a set of bytes: norm's input, output and weight at random in a small buffer.
// `same`: rows equally far apart, of which every overlap and no other is refused; else a few that
// do not overlap may be.
TEST(Gaps, AnOverlapIsAByteThatIsShared) {
  const Op<exn_norm_params> kNorm = {"norm", exn_norm_supported, exn_norm_workspace_size, exn_norm};
  std::mt19937 random(1);
  const auto below = [&](int64_t n) {
    return static_cast<int64_t>(random() % static_cast<uint64_t>(n));
  };
  int64_t accepted = 0, refused = 0, over_careful = 0, apart = 0;
  for (int round = 0; round < 50000; ++round) {
    const int64_t rows = 1 + below(5), columns = 1 + below(5);
    const bool same = below(2) == 0;
    struct Place {
      int64_t first, rows, columns, stride;
      std::bitset<256> bytes;
    } places[3];
    const int64_t stride = columns + below(9);
    for (int i = 0; i < 3; ++i) {
      Place& p = places[i];
      p = {below(48), i == 2 ? 1 : rows, columns, same ? stride : columns + below(9), {}};
      for (int64_t r = 0; r < p.rows; ++r) {
        for (int64_t c = 0; c < columns; ++c)
          p.bytes.set(static_cast<size_t>(p.first + r * p.stride + c));
      }
    }
    int64_t shape[2] = {rows, columns}, strides[3][2];
    DLTensor t[3];
    for (int i = 0; i < 3; ++i) {
      strides[i][0] = places[i].stride;
      strides[i][1] = 1;
      t[i] = {reinterpret_cast<void*>(uintptr_t{1} << 20),
              {kDLCPU, 0},
              2,
              dl_type(Type::kF32),
              shape,
              strides[i],
              static_cast<uint64_t>(4 * places[i].first)};
    }
    t[2].ndim = 1;
    t[2].shape = shape + 1;
    t[2].strides = nullptr;
    exn_norm_params p = {sizeof p, &t[0], &t[2], nullptr, &t[1], EXN_NORM_RMS, 0};
    const auto meet = [&](int a, int b) { return (places[a].bytes & places[b].bytes).any(); };
    const bool in_place = places[0].bytes == places[1].bytes;  // rows and columns are the same
    const bool overlap = (meet(0, 1) && !in_place) || meet(1, 2);
    const bool ok = kNorm.supported(&p) == EXN_OK;
    EXPECT_FALSE(ok && overlap) << "round " << round;
    EXPECT_TRUE(!same || ok != overlap) << "round " << round << ": " << exn_last_error();
    ++(ok ? accepted : refused);
    if (!same && !overlap) {
      ++apart;
      over_careful += ok ? 0 : 1;
    }
    if (HasFailure()) return;
  }
  EXPECT_GT(accepted, 5000);
  EXPECT_GT(refused, 5000);
  EXPECT_LT(over_careful, apart / 4) << "of " << apart << " that share no byte";
}

// Every second row of one buffer beside all rows of its other columns.
TEST(Gaps, OfRowsTwiceAsFarApart) {
  Placed buffer(kCpu, zeros(Type::kF32, {16, 8})), weight(kCpu, normal(Type::kF32, {4}));
  int64_t shape[2] = {8, 4}, near[2] = {8, 1}, far[2] = {16, 1};
  DLTensor in = *buffer.dl(), out = *buffer.dl();
  in.shape = out.shape = shape;
  in.strides = near;
  out.strides = far;
  const exn_norm_params p = {sizeof p, &in, weight.dl(), nullptr, &out, EXN_NORM_RMS, 0};
  out.byte_offset += 16;
  EXPECT_EQ(exn_norm_supported(&p), EXN_OK) << exn_last_error();
  out.byte_offset += 4;
  EXPECT_EQ(exn_norm_supported(&p), EXN_INVALID_ARGUMENT);
  expect_words({"out", "overlaps", "input"});
}

}  // namespace
}  // namespace exn::test
