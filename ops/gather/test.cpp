// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <memory>

#include "cache_fixture.h"
#include "gather/case.h"

namespace exn::test {
namespace {
const Op<exn_gather_params> kOp = {"gather", exn_gather_supported, exn_gather_workspace_size,
                                   exn_gather};

// A hostile case is refused, and only a hostile one is.
TEST(GatherTables, HostileOnesAreRefused) {
  int gathers = 0;
  for (const GatherCase& c : gather_cases()) {
    if (c.big) continue;
    const bool unsorted = c.list == "swapped" || c.list == "twice" || c.list == "gap";
    const bool in_place = c.position_in_place || (!c.tensors.empty() && c.tensors[0].in_place);
    const bool bad_list = c.list == "over" || (unsorted && in_place);
    const bool hidden = c.counted && c.count >= 0 && c.count <= c.listed / 2;
    const bool bad_count = c.counted && (c.count < 0 || c.count > c.listed);
    EXPECT_EQ(gather_oracle(c, make_inputs(c)).refused, bad_count || (bad_list && !hidden)) << c.id;
    gathers += bad_count || (bad_list && !hidden) ? 1 : 0;
  }
  EXPECT_GE(gathers, 10);
}

// A vector may have any stride along its only axis.
TEST(Gather, ElementsOfAStridedVector) {
  if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  for (const Target& target : targets()) {
    if (!target.cpu()) continue;
    HostTensor values = make_integers({10, -1, 11, -2, 12, -3, 13});
    Placed input(target, values), list(target, make_integers({1, 3}));
    Placed out(target, filled(Type::kI32, {6}, 0));
    int64_t four = 4, two = 2, three = 3;
    DLTensor from = *input.dl(), to = *out.dl();
    from.shape = &four;
    from.strides = &two;
    to.shape = &two;
    to.strides = &three;
    const exn_gather_tensor tensor = {&from, &to, 0, 0};
    exn_gather_params p = {sizeof p, &tensor, list.dl(), nullptr, nullptr,
                           nullptr,  nullptr, 4,         1,       EXN_POSITIONS_KEEP,
                           0,        0};
    exercise(target, kOp, p, {&input, &list}, {&out});
    EXPECT_EQ(integers_of(out.read()), (std::vector<int32_t>{11, 0, 0, 13, 0, 0}));
  }
}

// ---- misuse -------------------------------------------------------------------------------------

// Rows, K of two heads, and positions: three of five entries.
class GatherMisuse : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  }

  using P = exn_gather_params;

  Placed rows_{kCpu, normal(Type::kF32, {5, 8})};
  Placed keys_{kCpu, normal(Type::kBF16, {2, 5, 4})};
  Placed rows_out_{kCpu, poisoned(Type::kF32, {4, 8})};
  Placed keys_out_{kCpu, poisoned(Type::kBF16, {2, 3, 4})};
  Placed list_{kCpu, make_integers({0, 2, 4})}, count_{kCpu, make_integers({3})};
  Placed position_{kCpu, make_integers({5, 6, 7, 8, 9})};
  Placed position_out_{kCpu, poisoned(Type::kI32, {3})}, moved_{kCpu, poisoned(Type::kI32, {1})};
  exn_gather_tensor tensors_[2] = {{rows_.dl(), rows_out_.dl(), 0, 0},
                                   {keys_.dl(), keys_out_.dl(), 1, 0}};
  P p_ = {sizeof p_,
          tensors_,
          list_.dl(),
          count_.dl(),
          position_.dl(),
          position_out_.dl(),
          moved_.dl(),
          5,
          2,
          EXN_POSITIONS_KEEP,
          0,
          0};
  std::vector<Placed*> written_ = {&rows_out_, &keys_out_, &position_out_, &moved_};

  void refused(const Words& words) {
    expect_refused(kOp, p_, written_, EXN_INVALID_ARGUMENT, words);
  }
};

TEST_F(GatherMisuse, IsRefused) {
  Spoiler<P> spoil(kOp, p_, written_);
  spoil.size(&position_out_, "position_out", 0, 2);
}

TEST_F(GatherMisuse, OfPositions) {
  p_.positions = EXN_POSITIONS_RENUMBER;
  refused({"position", "EXN_POSITIONS_RENUMBER"});
  p_.position = nullptr;
  p_.first_position = 2147483645;
  EXPECT_EQ(run_once(targets().front(), kOp, p_), EXN_OK) << exn_last_error();
  EXPECT_EQ(position_out_.read().integer_at(2), 2147483647);
  for (Placed* t : written_) t->reset();
  p_.first_position = 2147483646;
  refused({"first_position", "2147483646", "3 entries"});
  p_.first_position = 0;
  p_.positions = EXN_POSITIONS_KEEP;
  p_.position = position_.dl();
  p_.position_out = nullptr;
  refused({"position", "position_out is null"});
}

TEST_F(GatherMisuse, OfATensor) {
  for (int k : {0, 1}) {
    const std::string name = "tensors[" + std::to_string(k) + "]";
    exn_gather_tensor& t = tensors_[k];
    t.axis = 1 - k;  // N is elsewhere
    refused({name + ".input", "rows", "5"});
    t.axis = k;
    DLTensor* dl = (k == 0 ? rows_out_ : keys_out_).mutable_dl();
    const DLTensor before = *dl;
    const int64_t entries = dl->shape[k];
    dl->strides = nullptr;
    dl->shape[k] = 2;
    refused({name + ".out", "2 entries", "list has 3"});
    dl->shape[k] = entries;
    *dl = before;
  }
  DLTensor flat = *rows_out_.dl();
  int64_t elements = 32;
  flat.ndim = 1;
  flat.shape = &elements;
  flat.strides = nullptr;
  tensors_[0].out = &flat;
  refused({"tensors[0].out", "1 axes", "tensors[0].input", "2"});
}

// Entries that overlap, and one memory seen as two layouts.
TEST_F(GatherMisuse, OfStrides) {
  DLTensor narrow = *rows_.dl();
  int64_t strides[2] = {7, 1};
  narrow.strides = strides;
  tensors_[0].input = &narrow;
  refused({"tensors[0].input", "stride 7", "8"});
  // Three entries at a distance of 16 fill what five at a distance of 8 do.
  int64_t shape[2] = {3, 8};
  DLTensor wide = *rows_.dl();
  wide.shape = shape;
  strides[0] = 16;
  wide.strides = strides;
  tensors_[0] = {rows_.dl(), &wide, 0, 0};
  written_ = {&rows_, &keys_out_, &position_out_, &moved_};
  refused({"tensors[0].out", "3 entries", "tensors[0].input", "5"});
}

TEST_F(GatherMisuse, WrongListsMoveNothing) {
  for (int32_t bad : {5, 2147483647}) {
    const Poke poke(&list_, 1, bad);
    expect_run_refused(kOp, p_, written_, {"list[1]", std::to_string(bad), "rows is 5"});
  }
  p_.position_out = position_.dl();  // in place: the order counts
  written_ = {&rows_out_, &keys_out_, &position_, &moved_};
  for (int32_t bad : {0, 4, -1}) {
    const Poke poke(&list_, 1, bad);
    const std::string at = bad == 0 ? "list[1]" : "list[2]";
    expect_run_refused(kOp, p_, written_, {at, "ascend"});
  }
  const Poke padding(&list_, 2, -1);
  EXPECT_EQ(run_once(targets().front(), kOp, p_), EXN_OK) << exn_last_error();
  EXPECT_EQ(moved_.read().integer_at(0), 2);
}

}  // namespace
}  // namespace exn::test
