// SPDX-License-Identifier: Apache-2.0
#include "select/case.h"

#include <algorithm>

#include "parts.h"
#include "reals.h"

namespace exn::test {
inline namespace select_op {

namespace {

void read_case(const Row& row, SelectCase* c) {
  c->heads = row.integer("heads");
  c->scores = {row.integer("rows") * c->summed(),
               row.integer("cols"),
               row.type("dtype"),
               row.integer("pad"),
               row.integer("offset"),
               row.text("fill"),
               row.number("scale"),
               row.text("special")};
  c->limit = row.text("limit");
  c->selection = read_selection(row);
}

SelectInputs make_inputs(const SelectCase& c) {
  SelectInputs in;
  in.scores = make_matrix(c.scores, c.seed, 0);
  in.limit = make_limits(c.limit, c.rows(), c.scores.cols, c.seed);
  in.selection = make_selection(c.selection, c.rows(), c.scores.cols, c.seed);
  return in;
}

}  // namespace

SelectExpected select_oracle(const SelectCase& c, const SelectInputs& in) {
  SelectExpected e;
  std::vector<double> scores(at(c.scores.cols));
  for (int64_t r = 0; r < c.rows(); ++r) {
    for (int64_t j = 0; j < c.scores.cols; ++j) {
      scores[at(j)] = in.scores.at(r * c.summed(), j);
      // The sum of two f32 as a double, rounded once more, is what f32 makes of it.
      for (int64_t h = 1; h < c.summed(); ++h)
        scores[at(j)] = static_cast<float>(scores[at(j)] + in.scores.at(r * c.summed() + h, j));
    }
    e.add(choose(scores, id_or(in.limit, r, c.scores.cols), c.selection, in.selection, r),
          c.selection.capacity);
  }
  return e;
}

namespace {

std::unique_ptr<Instance> instantiate(const SelectCase& c, const SelectInputs& in,
                                      int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  exn_select_params params = {};
  params.struct_size = sizeof params;
  params.scores = instance->input(in.scores);
  params.limit = instance->input(in.limit);
  params.selection = add_selection(instance.get(), c.selection, in.selection, c.rows());
  params.heads = c.heads;
  instance->call(EXN_TEST_OP(select), params);
  return instance;
}

Case make_case(const SelectCase& c) {
  Case result;
  const auto in = lazily([c] { return make_inputs(c); });
  result.instantiate = [c, in](int32_t device_type) { return instantiate(c, in(), device_type); };
  const auto oracle = lazily([c, in] { return select_oracle(c, in()); });
  result.judge = [c, oracle](const Outputs& got) {
    return judge_selection(c.selection, oracle(), got, 0);
  };
  result.compulsory_bytes = bytes_of(c.scores.rows * c.scores.cols, c.scores.type) +
                            selection_bytes(c.selection, c.rows());
  result.description = {{"rows", text(c.rows())},
                        {"heads", text(c.heads)},
                        {"cols", text(c.scores.cols)},
                        {"dtype", quoted(name_of(c.scores.type))},
                        {"k", text(kept_by(c.selection))}};
  return result;
}

// Segments that neither fall nor leave the columns: of each boundary, the largest so far.
void clamp_segments(HostTensor* segments, int64_t columns) {
  int64_t largest = 0;
  for (int64_t g = 0; g < segments->size(); ++g) {
    largest = std::max(largest, std::min(segments->integer_at(g), columns));
    segments->set_integer(g, largest);
  }
}

// Of several ranges the last one falls, or is empty where `clamped`.
void let_the_last_fall(HostTensor* ranges, bool clamped) {
  const int64_t end = ranges->size() - 1;
  if (end > 1) ranges->set_integer(end, clamped ? ranges->integer_at(end - 1) : -2);
}

// With limits, budgets, segments and ranges beyond the columns, or within them where `clamped`.
SelectInputs with_strays(const SelectCase& c, SelectInputs in, bool clamped) {
  const int64_t n = c.scores.cols;
  in.selection.segments = with_strays(in.selection.segments, -2, n + 3);
  if (clamped) clamp_segments(&in.selection.segments, n);
  in.limit = with_strays(in.limit, clamped ? 0 : -2, clamped ? n : n + 3);
  in.selection.budget = with_strays(in.selection.budget, clamped ? 0 : -2, n + 3);
  if (in.selection.keep.size() > 0) in.selection.keep.set_integer(1, clamped ? n : n + 3);
  if (in.selection.drop.size() > 0) in.selection.drop.set_integer(0, clamped ? 0 : -2);
  let_the_last_fall(&in.selection.keep, clamped);
  let_the_last_fall(&in.selection.drop, clamped);
  return in;
}

Case spoiled_case(const SelectCase& c) {
  Case result = make_case(c);
  result.instantiate = [c](int32_t device_type) {
    return instantiate(c, with_strays(c, make_inputs(c), false), device_type);
  };
  const auto oracle =
      lazily([c] { return select_oracle(c, with_strays(c, make_inputs(c), true)); });
  result.judge = [c, oracle](const Outputs& got) {
    return judge_selection(c.selection, oracle(), got, 0);
  };
  return result;
}

// The first entry that is spoiled is the second: all that have segments, then.
bool has_segments(const SelectCase& c) { return !c.selection.segments.empty(); }

void describe(Maker& m, exn_select_params& p) {
  const Dim rows = m.dim("rows", 0, 4, 20), columns = m.dim("columns", 0, 40, 600);
  const int64_t heads = m.size("heads", m.random().pick({0, 1, 1, 3}));
  const Dim all = heads > 1 ? m.fixed(times(rows.size, heads)) : rows;
  m.in(FIELD(scores), m.type(kFloats), {all, columns}, kRows);
  m.ids(FIELD(limit), {rows}, {0, columns.size, true}, kOptional);
  m.integer(FIELD(heads), heads, 0, INT64_MAX);
  selection(m, p.selection, {rows, columns.size}, kPlain);
}

const Described kDescribed = EXN_DESCRIBED(select);

const RegisteredOp kRegistered("select", [] {
  const std::vector<SelectCase> cases = read_cases<SelectCase>("select", read_case);
  std::vector<ListedCase> all = listed("select", cases, make_case);
  append_spoiled(&all, "select", cases, spoiled_case, has_segments);
  return all;
});

}  // namespace

}  // namespace select_op
}  // namespace exn::test
