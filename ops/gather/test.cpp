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
  expect_sound_struct_sizes(kOp, p_, written_);
  Spoiler<P> spoil(kOp, p_, written_);
  spoil.required(&P::list, "list");
  spoil.tensor(&list_, "list", "i32");
  spoil.tensor(&count_, "count", "i32");
  spoil.tensor(&position_, "position", "i32");
  spoil.tensor(&position_out_, "position_out", "i32");
  spoil.tensor(&moved_, "moved", "i32");
  for (auto [t, name] : {std::pair<Placed*, const char*>{&count_, "count"},
                         {&position_, "position"},
                         {&position_out_, "position_out"},
                         {&moved_, "moved"},
                         {&rows_, "tensors[0].input"},
                         {&keys_out_, "tensors[1].out"}}) {
    spoil.on_another_device(t, name);
  }
  spoil.size(&count_, "count", 0, 0);
  spoil.size(&moved_, "moved", 0, 0);
  spoil.size(&position_, "position", 0, 4);
  spoil.size(&position_out_, "position_out", 0, 2);
  spoil.overlap(&moved_, "moved", list_, "list");
  spoil.overlap(&moved_, "moved", position_out_, "position_out");
  spoil.overlap(&position_out_, "position_out", position_, "position", 4);
  spoil.overlap(&position_out_, "position_out", list_, "list");
  spoil.overlap(&rows_out_, "tensors[0].out", rows_, "tensors[0].input", 4);
  spoil.overlap(&rows_out_, "tensors[0].out", keys_, "tensors[1].input");
  spoil.overlap(&keys_out_, "tensors[1].out", rows_out_, "tensors[0].out");
  spoil.value(&P::reserved, 1, {"reserved", "1"});
  for (int32_t bad : {-1, 2}) spoil.value(&P::positions, bad, {"positions", std::to_string(bad)});
  for (int32_t bad : {-1, 9})
    spoil.value(&P::tensor_count, bad, {"tensor_count", std::to_string(bad)});
  spoil.value(&P::rows, int64_t{-1}, {"rows", "-1"});
  spoil.value(&P::rows, int64_t{1} << 31, {"rows", "2147483648"});
  spoil.value(&P::rows, int64_t{6}, {"tensors[0].input", "5", "rows", "6"});
  spoil.value(&P::first_position, 3, {"first_position", "3", "EXN_POSITIONS_KEEP"});
  p_.tensors = nullptr;
  refused({"tensors", "null", "2"});
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
    const exn_gather_tensor good = t;
    t.input = nullptr;
    refused({name + ".input", "null"});
    t = good;
    t.out = nullptr;
    refused({name + ".out", "null"});
    t = good;
    t.reserved = 7;
    refused({"reserved", "7"});
    t = good;
    for (int32_t axis : {-1, 3}) {
      t.axis = axis;
      refused({name + ".input", "rank", "no axis " + std::to_string(axis)});
    }
    t = good;
    t.axis = 1 - k;  // N is elsewhere
    refused({name + ".input", "rows", "5"});
    t = good;
    Placed* out = k == 0 ? &rows_out_ : &keys_out_;
    for (Placed* side : {k == 0 ? &rows_ : &keys_, out}) {
      const std::string of = name + (side == out ? ".out" : ".input");
      DLTensor* dl = side->mutable_dl();
      const DLTensor before = *dl;
      dl->dtype = {kDLInt, 16, 1};
      refused({of, "16", "f32"});
      *dl = before;
      dl->device.device_type = static_cast<DLDeviceType>(77);
      refused({of, "77"});
      *dl = before;
      dl->data = nullptr;
      dl->byte_offset = 0;
      refused({of, "null"});
      *dl = before;
      dl->byte_offset += 1;
      refused({of, "aligned"});
      *dl = before;
      std::vector<int64_t> strides(before.strides, before.strides + before.ndim);
      strides.back() = 2;
      dl->strides = strides.data();
      refused({of, "stride 2"});
      *dl = before;
    }
    DLTensor* dl = out->mutable_dl();
    const DLTensor before = *dl;
    dl->dtype = dl_type(k == 0 ? Type::kI32 : Type::kF16);
    refused({name + ".out", k == 0 ? "i32" : "f16", name + ".input"});
    *dl = before;
    dl->strides = nullptr;
    dl->shape[k] = 2;
    refused({name + ".out", "2 entries", "list has 3"});
    dl->shape[k] = k == 0 ? 4 : 3;
    const int32_t last = dl->ndim - 1;
    const int64_t inner = dl->shape[last];
    dl->shape[last] = inner - 1;
    refused({name + ".out", std::to_string(inner - 1), name + ".input", std::to_string(inner)});
    dl->shape[last] = inner;
    for (int32_t axis = 0; axis < k; ++axis) {  // before the one that is gathered along
      const int64_t size = dl->shape[axis];
      dl->shape[axis] = size + 1;
      refused({name + ".out", std::to_string(size + 1), "axis " + std::to_string(axis),
               name + ".input"});
      dl->shape[axis] = size;
    }
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
  for (int32_t bad : {-1, 4}) {
    const Poke poke(&count_, 0, bad);
    expect_run_refused(kOp, p_, written_, {"count[0]", std::to_string(bad), "0..3"});
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
