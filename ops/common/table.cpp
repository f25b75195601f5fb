// SPDX-License-Identifier: Apache-2.0
#include "table.h"

#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

namespace exn::test {

const std::string& Row::text(const char* column) const {
  for (size_t i = 0; i < table_->columns.size(); ++i) {
    if (table_->columns[i].name != column) continue;
    table_->columns[i].was_read = true;
    return table_->lines[line_][i];
  }
  fail(std::string("no column '") + column + "'");
}

int64_t Row::integer(const char* column) const {
  const std::string& field = text(column);
  char* end = nullptr;
  const int64_t value = std::strtoll(field.c_str(), &end, 10);
  if (*end != '\0') fail(std::string(column) + ": '" + field + "' is no integer");
  return value;
}

float Row::number(const char* column) const {
  const std::string& field = text(column);
  char* end = nullptr;
  const float value = std::strtof(field.c_str(), &end);
  if (*end != '\0') fail(std::string(column) + ": '" + field + "' is no number");
  return value;
}

bool Row::flag(const char* column) const { return choice(column, {"0", "1"}) == 1; }

Type Row::type(const char* column) const { return type_in(column, text(column)); }

int32_t Row::choice(const char* column, const std::vector<const char*>& words) const {
  const std::string& field = text(column);
  for (size_t i = 0; i < words.size(); ++i) {
    if (field == words[i]) return static_cast<int32_t>(i);
  }
  fail(std::string(column) + ": unknown word '" + field + "'");
}

uint32_t Row::subset(const char* column, const std::vector<const char*>& words) const {
  const std::string& field = text(column);
  if (field == "all") return (1u << words.size()) - 1;
  uint32_t bits = 0;
  std::stringstream list(field);
  for (std::string part; std::getline(list, part, ',');) {
    uint32_t bit = 0;
    for (size_t i = 0; i < words.size(); ++i) {
      if (part == words[i]) bit = 1u << i;
    }
    if (bit == 0) fail(std::string(column) + ": unknown word '" + part + "'");
    bits |= bit;
  }
  return bits;
}

Type type_in(const std::string& column, const std::string& word) {
  for (Type t : {Type::kF64, Type::kF32, Type::kF16, Type::kBF16, Type::kI32, Type::kI64}) {
    if (word == name_of(t)) return t;
  }
  fail(column + ": '" + word + "' is no dtype");
}

std::vector<std::string> read_words(const std::string& text, char separator) {
  std::vector<std::string> words;
  std::stringstream list(text);
  for (std::string part; std::getline(list, part, separator);) words.push_back(part);
  return words;
}

std::vector<int64_t> read_list(const std::string& text, char separator) {
  std::vector<int64_t> values;
  for (const std::string& word : read_words(text, separator)) values.push_back(std::stoll(word));
  return values;
}

namespace {

std::vector<std::string> fields_of(const std::string& line) {
  std::istringstream stream(line);
  std::vector<std::string> fields;
  for (std::string field; stream >> field;) fields.push_back(field);
  return fields;
}

}  // namespace

Table read_table(const std::string& op) {
  const char* folder = std::getenv("EXEUNT_OPS");
  const std::string path =
      std::string(folder == nullptr ? EXN_OPS_DIRECTORY : folder) + "/" + op + "/cases.tsv";
  std::ifstream file(path);
  if (!file) fail("cannot read " + path);
  Table table;
  std::set<std::string> ids;
  for (std::string line; std::getline(file, line);) {
    std::vector<std::string> fields = fields_of(line);
    if (fields.empty() || fields[0][0] == '#') continue;
    if (table.columns.empty()) {
      for (std::string& name : fields) table.columns.push_back({std::move(name)});
      continue;
    }
    if (fields.size() != table.columns.size())
      fail(path + ": wrong number of fields in '" + line + "'");
    if (!ids.insert(fields[0]).second) fail(path + ": '" + fields[0] + "' appears twice");
    table.lines.push_back(std::move(fields));
  }
  return table;
}

}  // namespace exn::test
