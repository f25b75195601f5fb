// SPDX-License-Identifier: Apache-2.0
#include "rope/case.h"

#include "dense.h"
#include "judge.h"
#include "maker.h"

namespace exn::test {
inline namespace rope_op {

namespace {

void read_case(const Row& row, RopeCase* c) {
  c->input = read_matrix(row, "input", "rows", "dim", "special");
  c->heads = row.integer("heads");
  c->dim = row.integer("dim");
  c->input.cols = c->heads * c->dim;
  c->out_pad = row.integer("out_pad");
  c->out_offset = row.integer("out_offset");
  c->in_place = row.flag("in_place");
  c->positions = row.integer("positions");
  c->pairs = row.integer("pairs");
  c->table = row.text("table");
  c->position = row.text("position");
  c->style = row.choice("style", kRopeStyles);
}

int64_t position_of(const RopeCase& c, int64_t row) {
  if (c.position == "random") return pick(c.seed, 1, row, c.positions);
  if (c.position == "ascending") return row % c.positions;
  if (c.position == "last") return c.positions - 1;
  fail("position: unknown word '" + c.position + "'");
}

}  // namespace

RopeInputs make_inputs(const RopeCase& c) {
  const int64_t rows = c.input.rows;
  RopeInputs in;
  in.input = make_heads(c.input.type, rows, c.heads, c.dim, c.input.pad, c.input.offset);
  fill(&in.input, c.seed, 0, c.input.fill, c.input.scale, c.input.special);
  in.position = make_tensor(Type::kI32, {rows});
  for (int64_t r = 0; r < rows; ++r) in.position.set_integer(r, position_of(c, r));
  in.table = make_rope_table(c.positions, c.pairs, c.table, c.seed);
  if (!c.in_place) {
    in.out = poisoned(make_heads(c.input.type, rows, c.heads, c.dim, c.out_pad, c.out_offset));
  }
  return in;
}

std::vector<Expected> rope_oracle(const RopeCase& c, const RopeInputs& in) {
  std::vector<Expected> out;
  for (int64_t r = 0; r < in.input.rows; ++r) {
    Values row = exact_values(in.input, r);
    for (int64_t h = 0; h < c.heads; ++h) {
      rotate(&row[at(h * c.dim)], in.table, c.pairs, in.position.integer_at(r), c.style);
    }
    for (int64_t i = 0; i < c.heads * c.dim; ++i) {
      const bool copied = i % c.dim >= 2 * c.pairs;
      out.push_back(stored(c.input.type, row[at(i)], c.exact || copied));
    }
  }
  return out;
}

std::unique_ptr<Instance> instantiate(const RopeCase& c, const RopeInputs& in,
                                      int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  exn_rope_params params = {};
  params.struct_size = sizeof params;
  params.input = c.in_place ? instance->in_out("out", in.input) : instance->input(in.input);
  params.position = instance->input(in.position);
  params.table = instance->input(in.table);
  params.out = c.in_place ? params.input : instance->in_out("out", in.out);
  params.style = c.style;
  instance->call(EXN_TEST_OP(rope), params);
  return instance;
}

namespace {

Case make_case(const RopeCase& c) {
  Case result;
  const auto in = lazily([c] { return make_inputs(c); });
  result.instantiate = [c, in](int32_t device_type) { return instantiate(c, in(), device_type); };
  const auto oracle = lazily([c, in] { return rope_oracle(c, in()); });
  result.judge = [oracle](const Outputs& got) { return compare("out", oracle(), got[0]); };
  const int64_t rows = c.input.rows;
  result.compulsory_bytes =
      2 * bytes_of(rows * c.input.cols, c.input.type) + bytes_of(2 * rows * c.pairs, Type::kF32);
  result.description = {{"rows", text(rows)},
                        {"heads", text(c.heads)},
                        {"head_dim", text(c.dim)},
                        {"cols", text(c.input.cols)},
                        {"dtype", quoted(name_of(c.input.type))},
                        {"pairs", text(c.pairs)},
                        {"positions", text(c.positions)},
                        {"style", text(c.style)}};
  return result;
}

void describe(Maker& m, exn_rope_params& p) {
  const Dim rows = m.dim("rows", 0, 4, 70), heads = m.dim("heads", 0, 3, 5),
            dim = m.dim("head_dim", 2, 20, 130);
  const Dim positions = m.dim("positions", 1, 9, 60);
  const Dim pairs = m.derived(m.within("pairs", 1, dim.size / 2));
  const TypeOf type = m.type(kFloats);
  const Tensor* input = m.in(FIELD(input), type, {rows, heads, dim}, kRows);
  m.ids(FIELD(position), {rows}, {-1, positions.size - 1, true});
  m.in(FIELD(table), kF32, {positions, pairs, m.fixed(2)});
  m.out_over(FIELD(out), input, type, {rows, heads, dim}, kRows);
  m.choice(FIELD(style), EXN_ROPE_INTERLEAVED, EXN_ROPE_HALF);
  m.zero(FIELD(reserved));
}

const Described kDescribed = EXN_DESCRIBED(rope);

const RegisteredOp kRegistered("rope", [] {
  return listed("rope", read_cases<RopeCase>("rope", read_case), make_case);
});

}  // namespace

}  // namespace rope_op
}  // namespace exn::test
