// SPDX-License-Identifier: Apache-2.0
// Reads JSON: what the recorded vectors say of their cases. Numbers are doubles; NaN and Infinity
// are taken too.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace exn::test {

class Json {
 public:
  // Null if the file is not there; throws std::runtime_error if it is malformed.
  static Json read(const std::string& path);
  static Json parse(const std::string& text);

  bool null() const { return kind_ == Kind::kNull; }
  bool has(const std::string& key) const { return members_.count(key) != 0; }
  // Throw if there is none, or it is something else.
  const Json& at(const std::string& key) const;
  double number() const;
  bool flag() const;
  const std::string& text() const;
  const std::vector<Json>& list() const { return items_; }
  const std::map<std::string, Json>& members() const { return members_; }

  int64_t integer(const std::string& key) const { return static_cast<int64_t>(at(key).number()); }

 private:
  enum class Kind { kNull, kBool, kNumber, kText, kList, kObject };
  class Reader;

  Kind kind_ = Kind::kNull;
  double number_ = 0;
  std::string text_;
  std::vector<Json> items_;
  std::map<std::string, Json> members_;
};

}  // namespace exn::test
