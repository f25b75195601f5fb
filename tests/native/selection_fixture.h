// SPDX-License-Identifier: Apache-2.0
// A selection on a device, and what the suites of the ops that make one share.
#pragma once

#include "cache_fixture.h"
#include "selection.h"

namespace exn::test {

struct PlacedSelection {
  PlacedSelection(const Target& target, const SelectionSpec& s, const SelectionInputs& in,
                  int64_t rows)
      : budget(target, in.budget),
        segments(target, in.segments),
        keep(target, in.keep),
        drop(target, in.drop),
        indices(target, poisoned(Type::kI32, {rows, s.capacity})),
        count(target, asked(s, kSelectCount) ? poisoned(Type::kI32, {rows}) : HostTensor{}),
        valid(target, asked(s, kSelectValid) ? poisoned(Type::kU8, {rows}) : HostTensor{}),
        k(s.k) {}

  static bool asked(const SelectionSpec& s, SelectOutput output) {
    return (s.outputs >> output & 1) != 0;
  }

  exn_selection dl() const {
    return {budget.dl(),  segments.dl(), keep.dl(),  drop.dl(),
            indices.dl(), count.dl(),    valid.dl(), k};
  }
  std::vector<Placed*> read() { return {&budget, &segments, &keep, &drop}; }
  std::vector<Placed*> written() { return {&indices, &count, &valid}; }

  void expect(const SelectExpected& e) const {
    EXPECT_EQ(integers_of(indices.read()), e.indices);
    if (count.dl() != nullptr) {
      EXPECT_EQ(integers_of(count.read()), e.count);
    }
    const std::vector<int32_t> flags(e.valid.begin(), e.valid.end());
    if (valid.dl() != nullptr) {
      EXPECT_EQ(integers_of(valid.read()), flags);
    }
  }

  // What the list of row `row` says, as far as it goes.
  Choice choice(int64_t row) const {
    Choice c;
    const HostTensor list = indices.read();
    for (int64_t i = 0; i < list.cols; ++i) {
      const int64_t column = list.integer_at(row * list.cols + i);
      if (column >= 0) c.kept.push_back(column);
    }
    c.valid = valid.dl() == nullptr || valid.read().integer_at(row) != 0;
    return c;
  }

  Placed budget, segments, keep, drop, indices, count, valid;
  int64_t k;
};

// How a selection of two rows of eight columns can be wrong. `params` holds `good`, which `placed`
// describes with two segments, budgets, keep [1,2] and drop [2,1,2]; `at` finds it.
template <class Params>
void spoil_selection(const Op<Params>& op, const Params& params, exn_selection Params::* field,
                     PlacedSelection* placed, const std::vector<Placed*>& written) {
  const auto spoilt = [&](auto change, const Words& words) {
    Params p = params;
    change(&(p.*field));
    expect_refused(op, p, written, EXN_INVALID_ARGUMENT, words);
  };
  placed->segments.mutable_dl()->shape[0] = 1;
  expect_refused(op, params, written, EXN_INVALID_ARGUMENT,
                 {"elements of selection.segments", "1", "2"});
  placed->segments.mutable_dl()->shape[0] = 3;
  spoilt([&](exn_selection* s) { s->budget = nullptr, s->k = -1; }, {"selection.k", "-1", "0"});
  spoilt([&](exn_selection* s) { s->budget = s->segments = nullptr, s->k = 100; },
         {"K (columns of selection.indices)", "4", "8"});
  // However many segments there are.
  spoilt([&](exn_selection* s) { s->budget = nullptr, s->k = 5; },
         {"K (columns of selection.indices)", "4", "5"});
  Params enough = params;
  (enough.*field).budget = nullptr;
  (enough.*field).k = 4;
  EXPECT_EQ(op.supported(&enough), EXN_OK) << exn_last_error();
  spoilt([&](exn_selection* s) { s->segments = nullptr; }, {"selection.budget"});

  // What only the contents can tell.
  const auto poked = [&](Placed* t, int64_t at, int32_t value, const Words& words) {
    const Poke poke(t, at, value);
    expect_run_refused(op, params, written, words);
  };
  poked(&placed->budget, 2, -1, {"selection.budget[2]", "-1"});
  poked(&placed->segments, 2, 9, {"selection.segments[2]", "9", "8"});
  poked(&placed->segments, 0, -1, {"selection.segments[0]", "-1"});
  poked(&placed->segments, 1, 1, {"selection.segments[1]", "1", "2"});
  poked(&placed->keep, 0, 7, {"selection.keep[0]", "7..5"});
  poked(&placed->keep, 1, 9, {"selection.keep[0]", "3..9", "8"});
  poked(&placed->keep, 0, -1, {"selection.keep[0]", "-1..5"});
  poked(&placed->drop, 3, 9, {"selection.drop[1]", "9", "8"});
  poked(&placed->drop, 2, 2147483647, {"selection.drop[1]", "2147483647"});
  // Of each row's own.
  HostTensor of_rows = make_tensor(Type::kI32, {2, 1, 2});
  for (int64_t i = 0; i < 4; ++i) of_rows.set_integer(i, i == 3 ? 9 : 3);
  Placed each(kCpu, of_rows);
  Params by_row = params;
  (by_row.*field).keep = each.dl();
  expect_run_refused(op, by_row, written, {"selection.keep[1]", "3..9", "8"});
}

// The selection that spoil_selection() expects.
inline SelectionSpec spoilable_spec() {
  SelectionSpec s;
  s.capacity = 4;
  s.segments = {2, 5, 8};
  return s;
}

inline SelectionInputs spoilable_inputs() {
  SelectionInputs in;
  in.budget = make_tensor(Type::kI32, {2, 2});
  for (int64_t i = 0; i < 4; ++i) in.budget.set_integer(i, i);
  in.segments = make_integers({2, 5, 8});
  in.keep = make_tensor(Type::kI32, {1, 2});
  in.keep.set_integer(0, 3);
  in.keep.set_integer(1, 5);
  in.drop = make_tensor(Type::kI32, {2, 1, 2});
  for (int64_t i = 0; i < 4; ++i) in.drop.set_integer(i, i);
  return in;
}

}  // namespace exn::test
