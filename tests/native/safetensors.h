// SPDX-License-Identifier: Apache-2.0
// Reads safetensors files: a little-endian header length, a JSON header, raw row-major tensors.
#pragma once

#include <map>
#include <string>

#include "tensor.h"

namespace exn::test {

class Safetensors {
 public:
  // Empty if the file is not there; throws std::runtime_error if it is malformed.
  static Safetensors read(const std::string& path);

  bool empty() const { return entries_.empty(); }
  bool has(const std::string& name) const { return entries_.count(name) != 0; }
  // Names up to the first '/', each once, ascending.
  std::vector<std::string> groups() const;
  // Throws if there is none of that name. A scalar has shape {1}.
  HostTensor tensor(const std::string& name) const;

 private:
  struct Entry {
    Type type;
    std::vector<int64_t> shape;
    size_t begin, end;
  };

  std::map<std::string, Entry> entries_;
  std::string data_;
};

}  // namespace exn::test
