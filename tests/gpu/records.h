// SPDX-License-Identifier: Apache-2.0
// Results as lines of JSON, each written as soon as it is known: of a run that is killed nothing is
// lost but the line it was at.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

namespace exn::gpu {

class Record {
 public:
  explicit Record(const char* kind) { add("kind", kind); }

  Record& add(const char* name, const std::string& value);
  Record& add(const char* name, const char* value) { return add(name, std::string(value)); }
  Record& add(const char* name, double value);
  Record& add(const char* name, int value) { return add(name, static_cast<double>(value)); }
  Record& flag(const char* name, bool value) { return json(name, value ? "true" : "false"); }
  Record& add(const char* name, const std::vector<std::string>& values);
  // What is JSON already.
  Record& json(const char* name, const std::string& value);

  std::string object() const { return "{" + text_ + "}"; }

 private:
  std::string text_;
};

class Records {
 public:
  Records() = default;
  ~Records();
  Records(const Records&) = delete;
  Records& operator=(const Records&) = delete;

  // Appends to the file; without one, records go nowhere.
  void open(const std::string& path);
  void write(const Record& record);

 private:
  FILE* file_ = nullptr;
};

}  // namespace exn::gpu
