// SPDX-License-Identifier: Apache-2.0
#include <set>

#include "judge.h"
#include "maker.h"
#include "reals.h"

namespace exn::test {
inline namespace row_compaction_op {

namespace {

struct RowCompactionCase : CaseBase {
  int64_t rows = 0;
  int64_t cols = 0;
  Type type = Type::kF32;
  int64_t pad = 0;
  int64_t offset = 0;
  int64_t out_pad = 0;
  int64_t out_offset = 0;
  bool gather = true;
  int64_t listed = 0;
  int64_t spare = 0;
  std::string list;

  int64_t input_rows() const { return gather ? rows : listed + spare; }
  int64_t out_rows() const { return gather ? listed + spare : rows; }
};

void read_case(const Row& row, RowCompactionCase* c) {
  c->rows = row.integer("rows");
  c->cols = row.integer("cols");
  c->type = row.text("dtype") == "u8" ? Type::kU8 : row.type("dtype");
  c->pad = row.integer("pad");
  c->offset = row.integer("offset");
  c->out_pad = row.integer("out_pad");
  c->out_offset = row.integer("out_offset");
  c->gather = row.choice("direction", {"gather", "scatter"}) == EXN_ROWS_GATHER;
  c->listed = row.integer("listed");
  c->spare = row.integer("spare");
  c->list = row.text("list");
}

// ---- inputs -------------------------------------------------------------------------------------

int64_t list_entry(const RowCompactionCase& c, int64_t i, const std::vector<int64_t>& order) {
  if (c.list == "identity") return i;
  if (c.list == "none") return -1;
  if (c.list == "random") return pick(c.seed, 2, i, c.rows);
  const int64_t entry = order.at(at(i));
  if (c.list == "shuffled") return entry;
  if (c.list == "holes") return pick(c.seed, 3, i, 3) == 0 ? -1 - pick(c.seed, 4, i, 100) : entry;
  fail("list: unknown word '" + c.list + "'");
}

HostTensor make_list(const RowCompactionCase& c) {
  HostTensor t = make_tensor(Type::kI32, {c.listed});
  if (c.list == "active") {
    int64_t count = 0;
    for (int64_t r = 0; r < c.rows && count < c.listed; ++r) {
      if (pick(c.seed, 5, r, 2) == 0) t.set_integer(count++, r);
    }
    for (; count < c.listed; ++count) t.set_integer(count, -1);
    return t;
  }
  const std::vector<int64_t> order = shuffled(c.rows, c.seed, 1);
  for (int64_t i = 0; i < c.listed; ++i) t.set_integer(i, list_entry(c, i, order));
  return t;
}

HostTensor make_input(const RowCompactionCase& c) {
  HostTensor t = make_tensor(c.type, {c.input_rows(), c.cols}, c.pad, c.offset);
  for (int64_t row = 0; row < t.rows; ++row)
    put_words(&t, at(row * t.stride * size_of(c.type)), t.cols, c.seed, 0, row * t.cols);
  return t;
}

// ---- oracle -------------------------------------------------------------------------------------

HostTensor oracle(const RowCompactionCase& c) {
  const HostTensor input = make_input(c), list = make_list(c);
  HostTensor out = poisoned(c.type, {c.out_rows(), c.cols}, c.out_pad, c.out_offset);
  for (int64_t i = 0; i < c.listed; ++i) {
    const int64_t row = list.integer_at(i);
    if (row >= 0) copy_row(input, c.gather ? row : i, &out, c.gather ? i : row);
  }
  return out;
}

// ---- case ---------------------------------------------------------------------------------------

std::unique_ptr<Instance> instantiate(const RowCompactionCase& c, int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  exn_row_compaction_params params = {};
  params.struct_size = sizeof params;
  params.input = instance->input(make_input(c));
  params.list = instance->input(make_list(c));
  params.out = instance->output("out", c.type, {c.out_rows(), c.cols}, c.out_pad, c.out_offset);
  params.direction = c.gather ? EXN_ROWS_GATHER : EXN_ROWS_SCATTER;
  instance->call(EXN_TEST_OP(row_compaction), params);
  return instance;
}

// Rows of the output that are not left as they were.
int64_t moved_rows(const RowCompactionCase& c) {
  const HostTensor list = make_list(c);
  std::set<int64_t> named;
  for (int64_t i = 0; i < c.listed; ++i) {
    if (list.integer_at(i) >= 0) named.insert(c.gather ? i : list.integer_at(i));
  }
  return static_cast<int64_t>(named.size());
}

Case make_case(const RowCompactionCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) { return instantiate(c, device_type); };
  result.judge = [c](const Outputs& got) { return compare_bytes("out", oracle(c), got[0]); };
  const int64_t moved = moved_rows(c);
  result.compulsory_bytes = 2 * bytes_of(moved * c.cols, c.type);
  result.description = {
      {"rows", text(c.rows)},     {"cols", text(c.cols)}, {"dtype", quoted(name_of(c.type))},
      {"listed", text(c.listed)}, {"moved", text(moved)}, {"scatter", text(!c.gather)}};
  return result;
}

void describe(Maker& m, exn_row_compaction_params& p) {
  const Dim rows = m.dim("rows", 0, 9, 70), columns = m.dim("columns", 0, 30, 300),
            listed = m.dim("listed", 0, 5, 40);
  const TypeOf type = m.type(kAnything);
  const int32_t direction = m.choice(FIELD(direction), EXN_ROWS_GATHER, EXN_ROWS_SCATTER);
  m.zero(FIELD(reserved));
  const bool gathers = direction == EXN_ROWS_GATHER;
  const Dim long_enough = m.derived(m.size("room", plus(listed.size, m.random().below(3))));
  m.in(FIELD(input), type, {gathers ? rows : long_enough, columns}, kRows);
  m.out(FIELD(out), type, {gathers ? long_enough : rows, columns}, kRows);
  int32_t* list = m.ids(FIELD(list), {listed}, {-1, rows.size - 1, false});
  // A row that two entries scatter to is the last one's on the CPU, and anyone's on CUDA.
  for (int64_t i = 0; i < listed.size && !gathers && m.complete(); ++i)
    list[i] = i < rows.size ? static_cast<int32_t>(rows.size - 1 - i) : -1;
}

const Described kDescribed = EXN_DESCRIBED(row_compaction);

const RegisteredOp kRegistered("row_compaction", [] {
  return listed("row_compaction", read_cases<RowCompactionCase>("row_compaction", read_case),
                make_case);
});

}  // namespace

}  // namespace row_compaction_op
}  // namespace exn::test
