// SPDX-License-Identifier: Apache-2.0
#include "json.h"

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace exn::test {

class Json::Reader {
 public:
  explicit Reader(const std::string& text) : text_(text) {}

  Json all() {
    const Json value = any();
    if (next() != '\0') fail("something follows the value");
    return value;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw std::runtime_error("json: " + what + " at byte " + std::to_string(at_));
  }

  // The next byte that is no blank; '\0' at the end.
  char next() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r'))
      ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  void expect(char c) {
    if (next() != c) fail(std::string("no '") + c + "'");
    ++at_;
  }
  bool word(const char* w) {
    const std::string expected = w;
    if (text_.compare(at_, expected.size(), expected) != 0) return false;
    at_ += expected.size();
    return true;
  }

  Json any() {
    switch (next()) {
      case '{':
        return object();
      case '[':
        return list();
      case '"':
        return string();
      default:
        return scalar();
    }
  }

  Json object() {
    Json j;
    j.kind_ = Kind::kObject;
    expect('{');
    while (next() != '}') {
      const std::string key = string().text_;
      expect(':');
      j.members_[key] = any();
      if (next() != '}') expect(',');
    }
    ++at_;
    return j;
  }

  Json list() {
    Json j;
    j.kind_ = Kind::kList;
    expect('[');
    while (next() != ']') {
      j.items_.push_back(any());
      if (next() != ']') expect(',');
    }
    ++at_;
    return j;
  }

  // Escapes stay as they are written, but for quotes and backslashes: such text is not compared.
  Json string() {
    Json j;
    j.kind_ = Kind::kText;
    expect('"');
    for (; at_ < text_.size() && text_[at_] != '"'; ++at_) {
      const bool quoted = text_[at_] == '\\' && at_ + 1 < text_.size() &&
                          (text_[at_ + 1] == '"' || text_[at_ + 1] == '\\');
      if (quoted) ++at_;
      j.text_ += text_[at_];
    }
    if (at_ == text_.size()) fail("a string has no end");
    ++at_;
    return j;
  }

  Json scalar() {
    Json j;
    if (word("null")) return j;
    j.kind_ = Kind::kBool;
    j.number_ = 1;
    if (word("true")) return j;
    j.number_ = 0;
    if (word("false")) return j;
    j.kind_ = Kind::kNumber;
    char* end = nullptr;
    j.number_ = std::strtod(text_.c_str() + at_, &end);
    const size_t after = static_cast<size_t>(end - text_.c_str());
    if (after == at_) fail("no value");
    at_ = after;
    return j;
  }

  const std::string& text_;
  size_t at_ = 0;
};

Json Json::read(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) return {};
  const std::string text((std::istreambuf_iterator<char>(stream)),
                         std::istreambuf_iterator<char>());
  return parse(text);
}

Json Json::parse(const std::string& text) { return Reader(text).all(); }

const Json& Json::at(const std::string& key) const {
  const auto found = members_.find(key);
  if (found == members_.end()) throw std::runtime_error("json: no member " + key);
  return found->second;
}

double Json::number() const {
  if (kind_ != Kind::kNumber) throw std::runtime_error("json: not a number");
  return number_;
}

bool Json::flag() const {
  if (kind_ != Kind::kBool) throw std::runtime_error("json: neither true nor false");
  return number_ != 0;
}

const std::string& Json::text() const {
  if (kind_ != Kind::kText) throw std::runtime_error("json: not a text");
  return text_;
}

}  // namespace exn::test
