// SPDX-License-Identifier: Apache-2.0
#include "safetensors.h"

#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "json.h"

namespace exn::test {

namespace {

Type type_named(const std::string& name) {
  static const std::map<std::string, Type> types = {
      {"F64", Type::kF64}, {"F32", Type::kF32}, {"F16", Type::kF16}, {"BF16", Type::kBF16},
      {"I64", Type::kI64}, {"I32", Type::kI32}, {"U8", Type::kU8}};
  const auto found = types.find(name);
  if (found == types.end()) throw std::runtime_error("safetensors: dtype " + name);
  return found->second;
}

std::vector<int64_t> integers_of(const Json& list) {
  std::vector<int64_t> values;
  for (const Json& item : list.list()) values.push_back(static_cast<int64_t>(item.number()));
  return values;
}

}  // namespace

Safetensors Safetensors::read(const std::string& path) {
  Safetensors file;
  std::ifstream stream(path, std::ios::binary);
  if (!stream) return file;
  const std::string bytes((std::istreambuf_iterator<char>(stream)),
                          std::istreambuf_iterator<char>());
  uint64_t length = 0;
  if (bytes.size() < sizeof length) throw std::runtime_error(path + ": too short");
  std::memcpy(&length, bytes.data(), sizeof length);
  if (length > bytes.size() - sizeof length) {
    throw std::runtime_error(path + ": header of " + std::to_string(length) + " bytes");
  }
  file.data_ = bytes.substr(sizeof length + length);
  const Json header = Json::parse(bytes.substr(sizeof length, length));
  for (const auto& [name, tensor] : header.members()) {
    if (!tensor.has("dtype")) continue;  // __metadata__
    const std::vector<int64_t> range = integers_of(tensor.at("data_offsets"));
    Entry e = {type_named(tensor.at("dtype").text()), integers_of(tensor.at("shape")), 0, 0};
    if (range.size() == 2 && range[0] >= 0) {
      e.begin = static_cast<size_t>(range[0]);
      e.end = static_cast<size_t>(range[1]);
    }
    if (range.size() != 2 || range[0] < 0 || e.end > file.data_.size() || e.begin > e.end) {
      throw std::runtime_error(path + ": " + name + " lies outside the file");
    }
    file.entries_[name] = e;
  }
  return file;
}

std::vector<std::string> Safetensors::groups() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) {
    const std::string group = name.substr(0, name.find('/'));
    if (names.empty() || names.back() != group) names.push_back(group);
  }
  return names;
}

HostTensor Safetensors::tensor(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) throw std::runtime_error("safetensors: no tensor " + name);
  const Entry& e = found->second;
  HostTensor t = make_tensor(e.type, e.shape.empty() ? std::vector<int64_t>{1} : e.shape);
  if (t.bytes.size() != e.end - e.begin) {
    throw std::runtime_error("safetensors: " + name + " has the wrong size");
  }
  std::memcpy(t.bytes.data(), data_.data() + e.begin, t.bytes.size());
  return t;
}

}  // namespace exn::test
