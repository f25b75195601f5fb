// SPDX-License-Identifier: Apache-2.0
#include "judge.h"
#include "maker.h"
#include "reals.h"

namespace exn::test {
inline namespace embedding_op {

namespace {

struct EmbeddingCase : CaseBase {
  MatrixSpec table;
  std::string ids;
  int64_t rows = 0;
  Type out_type = Type::kF32;
  int64_t out_pad = 0;
  int64_t out_offset = 0;
  float scale = 1;
};

void read_case(const Row& row, EmbeddingCase* c) {
  c->table = read_matrix(row, "table", "vocab", "dim", "special");
  c->ids = row.text("ids");
  c->rows = row.integer("rows");
  c->out_type = row.type("out");
  c->out_pad = row.integer("out_pad");
  c->out_offset = row.integer("out_offset");
  c->scale = row.number("scale");
}

HostTensor make_ids(const EmbeddingCase& c) {
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < c.rows; ++i) {
    if (c.ids == "up") {
      ids.push_back(i % c.table.rows);
    } else if (c.ids == "down") {
      ids.push_back(c.table.rows - 1 - i % c.table.rows);
    } else if (c.ids == "edges") {
      ids.push_back(i % 2 == 0 ? 0 : c.table.rows - 1);
    } else if (c.ids == "same") {
      ids.push_back(c.table.rows / 2);
    } else if (c.ids == "random") {
      ids.push_back(pick(c.seed, 2, i, c.table.rows));
    } else {
      fail("ids: unknown word '" + c.ids + "'");
    }
  }
  return make_integers(ids);
}

struct Inputs {
  HostTensor table, ids;
};

bool copies(const EmbeddingCase& c) { return c.table.type == c.out_type && c.scale == 1; }

// Ids outside of the table make rows of NaN. Elements are exact to the bit.
Complaint judge(const EmbeddingCase& c, const Inputs& in, const HostTensor& got) {
  for (int64_t r = 0; r < c.rows; ++r) {
    const int64_t id = in.ids.integer_at(r);
    const bool known = id >= 0 && id < in.table.rows;
    const std::vector<double> row = !known ? std::vector<double>()
                                    : c.table.blocks == EXN_BLOCKS_NONE
                                        ? row_of<double>(in.table, id)
                                        : unpacked_row(in.table, id);
    if (known && copies(c)) {
      const int64_t size = size_of(c.out_type);
      if (std::memcmp(&got.bytes[at(r * got.stride * size)],
                      &in.table.bytes[at(id * in.table.stride * size)], at(c.table.cols * size))) {
        return "out: row " + text(r) + " is no copy of row " + text(id);
      }
      continue;
    }
    for (int64_t i = 0; i < c.table.cols; ++i) {
      const float value = known ? c.scale * static_cast<float>(row[at(i)]) : NAN;
      const Expected expected = {rounded_to(c.out_type, static_cast<double>(value)), 0};
      if (agrees(expected, got.at(r, i))) continue;
      return compare("out", place(r, i), expected, got.at(r, i));
    }
  }
  return "";
}

Case case_of(const EmbeddingCase& c, bool spoiled) {
  Case result;
  const auto inputs = lazily([c, spoiled] {
    Inputs in = {make_matrix(c.table, c.seed, 0), make_ids(c)};
    if (spoiled) {  // the last row is there, but no longer in the table
      if (c.table.rows > 1) in.table.shape[0] = --in.table.rows;
      in.ids = with_strays(in.ids, -1, in.table.rows);
    }
    return in;
  });
  result.instantiate = [c, inputs](int32_t device_type) {
    auto instance = std::make_unique<Instance>(device_type);
    const Inputs& in = inputs();
    exn_embedding_params params = {};
    params.struct_size = sizeof params;
    params.table = instance->input(in.table);
    params.ids = instance->input(in.ids);
    params.out =
        instance->output("out", c.out_type, {c.rows, c.table.cols}, c.out_pad, c.out_offset);
    params.scale = c.scale;
    params.table_blocks = c.table.blocks;
    instance->call(EXN_TEST_OP(embedding), params);
    return instance;
  };
  result.judge = [c, inputs](const Outputs& got) { return judge(c, inputs(), got[0]); };
  MatrixSpec read = c.table;
  read.rows = c.rows;
  result.compulsory_bytes = weight_bytes(read) + bytes_of(c.rows * c.table.cols, c.out_type) +
                            bytes_of(c.rows, Type::kI32);
  result.description = {{"rows", text(c.rows)},
                        {"vocab", text(c.table.rows)},
                        {"cols", text(c.table.cols)},
                        {"table_dtype", quoted(weight_name(c.table))},
                        {"out_dtype", quoted(name_of(c.out_type))},
                        {"scaled", text(c.scale != 1)}};
  return result;
}

void describe(Maker& m, exn_embedding_params& p) {
  const Dim rows = m.dim("rows", 0, 5, 60), vocab = m.dim("vocab", 1, 9, 60);
  const BlockFormat* const blocks = m.blocks(FIELD(table_blocks));
  const Dim columns = m.columns(blocks, "columns", 1, 40, 300);
  m.weights(FIELD(table), blocks, m.type(kFloats), {vocab, columns});
  m.ids(FIELD(ids), {rows}, {0, vocab.size - 1, true});
  m.out(FIELD(out), m.type(kFloats), {rows, columns}, kRows);
  m.real(FIELD(scale), Domain::kFinite);
  if (p.scale == 0) p.scale = 1;  // the only finite one that is refused
}

const Described kDescribed = EXN_DESCRIBED(embedding);

const RegisteredOp kRegistered("embedding", [] {
  const std::vector<EmbeddingCase> cases = read_cases<EmbeddingCase>("embedding", read_case);
  auto all = listed<EmbeddingCase>("embedding", cases, [](auto& c) { return case_of(c, false); });
  append_spoiled<EmbeddingCase>(&all, "embedding", cases, [](auto& c) { return case_of(c, true); });
  return all;
});

}  // namespace

}  // namespace embedding_op
}  // namespace exn::test
