// SPDX-License-Identifier: Apache-2.0
// Reads the case table of an op, ops/<op>/cases.tsv.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "blocks.h"

namespace exn::test {

struct Table {
  struct Column {
    std::string name;
    bool was_read = false;
  };
  std::vector<Column> columns;
  std::vector<std::vector<std::string>> lines;
};

// One line of a table. Accessors throw std::runtime_error on a missing column or a word that does
// not parse.
class Row {
 public:
  Row(Table* table, size_t line) : table_(table), line_(line) {}
  const std::string& text(const char* column) const;
  int64_t integer(const char* column) const;
  float number(const char* column) const;
  bool flag(const char* column) const;
  Type type(const char* column) const;
  // Position of the field in `words`.
  int32_t choice(const char* column, const std::vector<const char*>& words) const;
  // Bit i is set if the field is "all" or lists words[i].
  uint32_t subset(const char* column, const std::vector<const char*>& words) const;

 private:
  Table* table_;
  size_t line_;
};

[[noreturn]] inline void fail(const std::string& what) { throw std::runtime_error(what); }

// The dtype that a word of a column is.
Type type_in(const std::string& column, const std::string& word);

// The integer that a word of a column is.
inline int64_t number_in(const std::string& column, const std::string& text) {
  char* end = nullptr;
  const int64_t value = std::strtoll(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0') fail(column + ": unknown word '" + text + "'");
  return value;
}

// <ops>/<op>/cases.tsv, where <ops> is the folder that EXEUNT_OPS names, or the tree's own. Throws
// std::runtime_error if the file is missing or malformed.
Table read_table(const std::string& op);

// The words of a list, with a separator between them.
std::vector<std::string> read_words(const std::string& text, char separator);
// The same of integers.
std::vector<int64_t> read_list(const std::string& text, char separator);

struct CaseBase {
  std::string id;
  uint64_t seed = 0;
  bool small = false;
  bool exact = false;
  bool big = false;
  bool bench = false;
  bool timed = false;
  bool sampled = false;
};

struct MatrixSpec {
  int64_t rows = 0;
  int64_t cols = 0;
  Type type = Type::kF32;
  int64_t pad = 0;
  int64_t offset = 0;
  std::string fill = "normal";
  float scale = 1;
  std::string special = "-";
  int32_t blocks = EXN_BLOCKS_NONE;  // else type is u8
};

inline void read_base(const Row& row, CaseBase* c) {
  c->id = row.text("id");
  c->seed = static_cast<uint64_t>(row.integer("seed"));
  if (row.text("tags") == "-") return;
  const uint32_t tags = row.subset("tags", {"small", "exact", "big", "bench", "timed", "sampled"});
  c->small = tags & 1;
  c->exact = tags & 2;
  c->timed = tags & 16;
  c->big = c->timed || (tags & 4);
  c->bench = c->timed || (tags & 8);
  c->sampled = tags & 32;
}

// The cases of an op; `read(row, &case)` takes what CaseBase does not. Throws too where a column
// was not looked at: that would be a parameter that is not tested.
template <class Case, class Read>
std::vector<Case> read_cases(const char* op, Read read) {
  Table table = read_table(op);
  std::vector<Case> cases(table.lines.size());
  for (size_t i = 0; i < cases.size(); ++i) {
    const Row row(&table, i);
    try {
      read_base(row, &cases[i]);
      read(row, &cases[i]);
    } catch (const std::runtime_error& e) {
      throw std::runtime_error(std::string(op) + " " + row.text("id") + ": " + e.what());
    }
  }
  for (const Table::Column& column : table.columns) {
    if (!column.was_read && !cases.empty())
      throw std::runtime_error(std::string(op) + ": no case reads column '" + column.name + "'");
  }
  return cases;
}

// The columns of an op's only matrix: rows, <cols>, dtype, pad, offset, fill, scale, special.
inline MatrixSpec read_matrix(const Row& row, const char* cols = "cols") {
  MatrixSpec m;
  m.rows = row.integer("rows");
  m.cols = row.integer(cols);
  m.type = row.type("dtype");
  m.pad = row.integer("pad");
  m.offset = row.integer("offset");
  m.fill = row.text("fill");
  m.scale = row.number("scale");
  m.special = row.text("special");
  return m;
}

// The dtype of a matrix, or the blocks that it is of: a word of `column`.
inline void read_storage(const char* column, const std::string& word, MatrixSpec* m) {
  if (const BlockFormat* const format = block_format(word)) {
    m->type = Type::kU8;
    m->blocks = format->tag;
  } else {
    m->type = type_in(column, word);
  }
}

// The columns of a matrix called `name`: <name> (the dtype, or what blocks it is of), <name>_pad,
// <name>_offset, <name>_fill, <name>_scale. `special` is the column of its special values, or null.
inline MatrixSpec read_matrix(const Row& row, const std::string& name, const char* rows,
                              const char* cols, const char* special = nullptr) {
  MatrixSpec m;
  m.rows = row.integer(rows);
  m.cols = row.integer(cols);
  read_storage(name.c_str(), row.text(name.c_str()), &m);
  m.pad = row.integer((name + "_pad").c_str());
  m.offset = row.integer((name + "_offset").c_str());
  m.fill = row.text((name + "_fill").c_str());
  m.scale = row.number((name + "_scale").c_str());
  if (special != nullptr) m.special = row.text(special);
  return m;
}

// The same columns of several matrices, without their sizes; compact ones have no <name>_pad.
// <name> and <name>_fill may list words, with commas between them, which the matrices have in turn.
inline std::vector<MatrixSpec> read_matrices(const Row& row, const std::string& name,
                                             bool compact = false) {
  const auto words = [&](const std::string& column) {
    return read_words(row.text(column.c_str()), ',');
  };
  const std::vector<std::string> storage = words(name), fills = words(name + "_fill");
  std::vector<MatrixSpec> all(std::max(storage.size(), fills.size()));
  for (size_t i = 0; i < all.size(); ++i) {
    MatrixSpec& m = all[i];
    read_storage(name.c_str(), storage[i % storage.size()], &m);
    if (!compact) m.pad = row.integer((name + "_pad").c_str());
    m.offset = row.integer((name + "_offset").c_str());
    m.fill = fills[i % fills.size()];
    m.scale = row.number((name + "_scale").c_str());
  }
  return all;
}

// Bytes of a matrix of weights, and what it is called in a case's description.
inline double weight_bytes(const MatrixSpec& m) {
  const auto elements = static_cast<double>(m.rows) * static_cast<double>(m.cols);
  if (m.blocks == EXN_BLOCKS_NONE) return elements * static_cast<double>(size_of(m.type));
  const BlockFormat& format = *block_format(m.blocks);
  return elements * static_cast<double>(format.bytes) / static_cast<double>(format.elements);
}
inline const char* weight_name(const MatrixSpec& m) {
  return m.blocks == EXN_BLOCKS_NONE ? name_of(m.type) : block_format(m.blocks)->name;
}

// The one that matrix `which` of several is, with its sizes.
inline MatrixSpec sized(const std::vector<MatrixSpec>& in_turn, int64_t which, int64_t rows,
                        int64_t cols) {
  MatrixSpec m = in_turn[static_cast<size_t>(which) % in_turn.size()];
  m.rows = rows;
  m.cols = cols;
  return m;
}

inline HostTensor make_matrix(const MatrixSpec& m, uint64_t seed, uint64_t stream) {
  if (in_panels(m.blocks)) {
    HostTensor rows = make_tensor(type_in_panels(m.blocks), {m.rows, m.cols});
    fill(&rows, seed, stream, m.fill, m.scale, m.special);
    return panels_of(rows, m.offset);
  }
  if (m.blocks != EXN_BLOCKS_NONE) {
    HostTensor t = make_blocks(*block_format(m.blocks), m.rows, m.cols, m.pad, m.offset);
    const bool special = m.fill == "nan" || m.fill == "pinf" || m.fill == "ninf";
    fill_blocks(&t, seed, stream, special ? "normal" : m.fill, m.scale, special ? m.fill : "-");
    return t;
  }
  HostTensor t = make_tensor(m.type, {m.rows, m.cols}, m.pad, m.offset);
  fill(&t, seed, stream, m.fill, m.scale, m.special);
  return t;
}

}  // namespace exn::test
