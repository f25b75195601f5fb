// SPDX-License-Identifier: Apache-2.0
#include "records.h"

#include <cmath>
#include <stdexcept>

namespace exn::gpu {
namespace {

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char ch : text) {
    if (ch == '"' || ch == '\\') out += '\\';
    out += static_cast<unsigned char>(ch) < 0x20 ? ' ' : ch;
  }
  return out + "\"";
}

}  // namespace

Record& Record::json(const char* name, const std::string& value) {
  if (!text_.empty()) text_ += ", ";
  text_ += quoted(name) + ": " + value;
  return *this;
}

Record& Record::add(const char* name, const std::string& value) {
  return json(name, quoted(value));
}

Record& Record::add(const char* name, double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.10g", value);
  return json(name, std::isfinite(value) ? text : "null");
}

Record& Record::add(const char* name, const std::vector<std::string>& values) {
  std::string list = "[";
  for (const std::string& value : values) list += (list.size() > 1 ? ", " : "") + quoted(value);
  return json(name, list + "]");
}

Records::~Records() {
  if (file_ != nullptr) std::fclose(file_);
}

void Records::open(const std::string& path) {
  file_ = std::fopen(path.c_str(), "a");
  if (file_ == nullptr) throw std::runtime_error("cannot write " + path);
}

void Records::write(const Record& record) {
  if (file_ == nullptr) return;
  std::fprintf(file_, "%s\n", record.object().c_str());
  if (std::fflush(file_) != 0) throw std::runtime_error("cannot write a result");
}

}  // namespace exn::gpu
