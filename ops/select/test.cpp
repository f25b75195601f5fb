// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "select/case.h"
#include "selection_fixture.h"

namespace exn::test {
namespace {
const Op<exn_select_params> kOp = {"select", exn_select_supported, exn_select_workspace_size,
                                   exn_select};

// A case's tensors on a device.
struct PlacedSelect {
  PlacedSelect(const Target& target, const SelectionSpec& s, const SelectInputs& in,
               int64_t summed = 0)
      : scores(target, in.scores),
        limit(target, in.limit),
        selection(target, s, in.selection, in.scores.rows / (summed > 1 ? summed : 1)),
        heads(summed) {}

  exn_select_params params() const {
    return {sizeof(exn_select_params), scores.dl(), limit.dl(), selection.dl(), heads};
  }
  std::vector<Placed*> read() {
    std::vector<Placed*> all = selection.read();
    all.push_back(&scores);
    all.push_back(&limit);
    return all;
  }

  Placed scores, limit;
  PlacedSelection selection;
  int64_t heads;
};

// One row of the sums of f32 scores, k of them, on every target.
void expect_kept(const std::vector<std::vector<float>>& heads, int64_t k,
                 const std::vector<int32_t>& kept) {
  SelectInputs in;
  const int64_t count = static_cast<int64_t>(heads.size());
  in.scores = make_tensor(Type::kF32, {count, static_cast<int64_t>(heads[0].size())});
  for (size_t h = 0; h < heads.size(); ++h) {
    for (size_t j = 0; j < heads[h].size(); ++j)
      in.scores.set(static_cast<int64_t>(h), static_cast<int64_t>(j),
                    static_cast<double>(heads[h][j]));
  }
  SelectionSpec s;
  s.k = k;
  s.capacity = static_cast<int64_t>(kept.size());
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    PlacedSelect placed(target, s, in, count);
    exercise(target, kOp, placed.params(), placed.read(), placed.selection.written());
    if (::testing::Test::HasFatalFailure()) return;
    EXPECT_EQ(integers_of(placed.selection.indices.read()), kept);
    EXPECT_EQ(integers_of(placed.selection.count.read()),
              std::vector<int32_t>{static_cast<int32_t>(kept.size())});
  }
}

void expect_kept(const std::vector<float>& scores, int64_t k, const std::vector<int32_t>& kept) {
  expect_kept(std::vector<std::vector<float>>{scores}, k, kept);
}

TEST(Select, ByHand) {
  expect_kept({3, 1, 2}, 2, {0, 2});
  expect_kept({1, 1, 1, 1}, 2, {0, 1});
  expect_kept({-0.0f, 0.0f, -0.0f, 0.0f}, 2, {0, 1});
  expect_kept({-1, 0.0f, -0.0f, 1}, 2, {1, 3});
  expect_kept({-kInf, -kInf, 5, -kInf}, 2, {0, 2});
  expect_kept({kInf, 1, kInf, 2}, 2, {0, 2});
  expect_kept({kInf, 1, 3, 2}, 2, {0, 2});
  expect_kept({-1e-45f, 1e-45f, 0, -1e-45f}, 2, {1, 2});
  expect_kept({-3.4e38f, -kInf, 3.4e38f}, 2, {0, 2});
  expect_kept({1, kNaN, 3}, 1, {0, 1, 2});
  expect_kept({1, -kNaN, 3}, 1, {0, 1, 2});
  // The average-pooling example of PromptDistill: (1,0,0,5,0,0,-2) by 5.
  expect_kept({.2f, 1.2f, 1.2f, 1.0f, .6f, .6f, -.4f}, 4, {1, 2, 3, 4});
}

// Added up in f32, the first head first.
TEST(Select, HeadsByHand) {
  using Heads = std::vector<std::vector<float>>;
  expect_kept(Heads{{3, 1, 2}, {0, 4, 0}}, 2, {0, 1});
  expect_kept(Heads{{1, 2, 3}, {3, 2, 1}, {1, 1, 1}}, 1, {0});
  expect_kept(Heads{{0x1p24f, 1, 0x1p24f}, {1, 1, -1}, {1, 0x1p24f, 2}}, 1, {1});
  expect_kept(Heads{{1, 0x1p24f, 0}, {1, 1, 0}, {0x1p24f, 1, 0}}, 1, {0});
  expect_kept(Heads{{-0.0f, 0, -0.0f}, {-0.0f, -0.0f, 1e-45f}}, 2, {0, 2});
  expect_kept(Heads{{3e38f, 0, kInf}, {3e38f, 1, 0}}, 2, {0, 2});
  expect_kept(Heads{{3e38f, 0}, {3e38f, 1}, {-3e38f, 0}}, 1, {0});
  expect_kept(Heads{{-kInf, 1, 2}, {5, 1, 2}}, 1, {2});
  expect_kept(Heads{{-kInf, 1, 2}, {-kInf, 1, 2}}, 2, {1, 2});
  expect_kept(Heads{{-kInf, 1, 2}, {kInf, 1, 2}}, 1, {0, 1, 2});
  expect_kept(Heads{{0, 1, 2}, {0, 1, 2}, {0, kNaN, 2}}, 1, {0, 1, 2});
}

// More rows than there is time to visit, with nothing to read or to write in any; and so many
// segments that their product with the rows is more than a tensor may have.
TEST(Select, RowsOfNothing) {
  int64_t shape[2] = {int64_t{1} << 48, 0}, one[2] = {1, 0};
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    const DLDevice device = {static_cast<DLDeviceType>(target.device_type), 0};
    const DLTensor scores = {nullptr, device, 2, dl_type(Type::kF32), shape, nullptr, 0};
    const DLTensor indices = {nullptr, device, 2, dl_type(Type::kI32), shape, nullptr, 0};
    Placed segments(target, zeros(Type::kI32, {300}));
    exn_select_params p = {sizeof p, &scores, nullptr, {}, 0};
    p.selection.indices = &indices;
    p.selection.k = 3;
    EXPECT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
    p.selection.segments = segments.dl();
    EXPECT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
    const DLTensor lists = {nullptr, device, 2, dl_type(Type::kI32), one, nullptr, 0};
    p.selection.indices = &lists;
    p.heads = shape[0];
    Placed count(target, poisoned(Type::kI32, {1}));
    p.selection.count = count.dl();
    EXPECT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
    EXPECT_EQ(integers_of(count.read()), std::vector<int32_t>{0});
  }
}

// Any two neighbouring floats are told apart, wherever they lie.
TEST(Select, NeighboursAreTold) {
  for (uint32_t bits : {0u, 1u, 0x007FFFFFu, 0x3F800000u, 0x3F80FFFFu, 0x40FFFFFFu, 0x7F7FFFFFu}) {
    float low, high;
    const uint32_t next = bits + 1;
    std::memcpy(&low, &bits, sizeof low);
    std::memcpy(&high, &next, sizeof high);
    std::vector<float> up(100, low), down(100, -high);
    up[77] = high;
    down[55] = -low;
    expect_kept(up, 2, {0, 77});
    expect_kept(down, 2, {0, 55});
  }
}

class SelectMisuse : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  }

  static SelectInputs inputs() {
    SelectInputs in;
    in.scores = normal(Type::kF32, {2, 8});
    in.limit = make_integers({8, 4});
    in.selection = spoilable_inputs();
    return in;
  }

  PlacedSelect placed_{kCpu, spoilable_spec(), inputs()};
  exn_select_params p_ = placed_.params();
  std::vector<Placed*> written_ = placed_.selection.written();
};

TEST_F(SelectMisuse, IsRefused) {
  using P = exn_select_params;
  ASSERT_EQ(run_once(targets().front(), kOp, p_), EXN_OK) << exn_last_error();
  for (Placed* t : written_) t->reset();
  spoil_selection(kOp, p_, &P::selection, &placed_.selection, written_);
}

}  // namespace
}  // namespace exn::test
