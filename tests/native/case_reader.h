// SPDX-License-Identifier: Apache-2.0
// What the readers of the case tables share.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "case_table.h"

namespace exn::test {

inline void read_base(const Row& row, CaseBase* c) {
  c->id = row.text("id");
  c->seed = static_cast<uint64_t>(row.integer("seed"));
  if (row.text("tags") == "-") return;
  const uint32_t tags = row.subset("tags", {"small", "exact", "big", "bench"});
  c->small = tags & 1;
  c->exact = tags & 2;
  c->big = tags & 4;
  c->bench = tags & 8;
}

template <class Case, class Read>
std::vector<Case> read_cases(const std::string& directory, const char* op,
                             const std::vector<const char*>& columns, Read read) {
  Table table;
  read_table(directory, op, columns, &table);
  std::vector<Case> cases;
  for (const Row& row : table.rows) {
    Case c;
    try {
      read_base(row, &c);
      read(row, &c);
    } catch (const std::runtime_error& e) {
      throw std::runtime_error(std::string(op) + " " + row.text("id") + ": " + e.what());
    }
    cases.push_back(std::move(c));
  }
  return cases;
}

// The columns of a matrix called `name`: <name> (the dtype), <name>_pad, <name>_offset,
// <name>_fill, <name>_scale. `special` is the column of its special values, or null.
inline MatrixSpec read_matrix(const Row& row, const std::string& name, const char* rows,
                              const char* cols, const char* special = nullptr) {
  MatrixSpec m;
  m.rows = row.integer(rows);
  m.cols = row.integer(cols);
  m.type = row.type(name.c_str());
  m.pad = row.integer((name + "_pad").c_str());
  m.offset = row.integer((name + "_offset").c_str());
  m.fill = row.text((name + "_fill").c_str());
  m.scale = row.number((name + "_scale").c_str());
  if (special != nullptr) m.special = row.text(special);
  return m;
}

inline HostTensor make_matrix(const MatrixSpec& m, uint64_t seed, uint64_t stream) {
  HostTensor t = make_tensor(m.type, {m.rows, m.cols}, m.pad, m.offset);
  fill(&t, seed, stream, m.fill, m.scale, m.special);
  return t;
}

// [R,H,dh] with compact heads and padding between rows; for the generator one row has H * dh
// columns.
inline HostTensor make_heads(Type type, int64_t rows, int64_t heads, int64_t dim, int64_t pad,
                             int64_t offset) {
  HostTensor t = make_tensor(type, {rows, heads * dim}, pad, offset);
  t.shape = {rows, heads, dim};
  return t;
}

// shift + bell * scale, in f32. The product and the sum are exact for the scales in use.
inline HostTensor make_bell(Type type, std::vector<int64_t> shape, uint64_t seed, uint64_t stream,
                            float scale, float shift = 0) {
  HostTensor t = make_tensor(type, std::move(shape));
  for (int64_t i = 0; i < t.size(); ++i) {
    const float v = bell(word(seed, stream, static_cast<uint64_t>(i))) * scale + shift;
    t.set(i / t.cols, i % t.cols, static_cast<double>(v));
  }
  return t;
}

}  // namespace exn::test
