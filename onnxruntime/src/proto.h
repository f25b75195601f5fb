// SPDX-License-Identifier: Apache-2.0
// Protocol buffers, as far as a model for an inner session needs them: fields of onnx.proto's
// messages.
#pragma once

#include <cstdint>
#include <string>

namespace exn::ort::proto {

inline std::string varint(uint64_t value) {
  std::string out;
  for (; value > 127; value >>= 7) out += static_cast<char>(value | 128);
  return out + static_cast<char>(value);
}

inline std::string integer(int field, int64_t value) {
  return varint(static_cast<uint64_t>(field) << 3) + varint(static_cast<uint64_t>(value));
}

inline std::string bytes(int field, const std::string& value) {
  return varint(static_cast<uint64_t>(field) << 3 | 2) + varint(value.size()) + value;
}

inline std::string number(int field, float value) {
  return varint(static_cast<uint64_t>(field) << 3 | 5) +
         std::string(reinterpret_cast<const char*>(&value), sizeof value);
}

// A model of one graph, in which opset_imports are fields 8.
inline std::string model(const std::string& graph, const std::string& opset_imports) {
  return integer(1, 8) + bytes(7, bytes(2, "inner") + graph) + opset_imports;
}

inline std::string opset(const std::string& domain, int64_t version) {
  return bytes(8, bytes(1, domain) + integer(2, version));
}

// A tensor of a type, of any shape.
inline std::string value_info(const std::string& name, int32_t type) {
  return bytes(1, name) + bytes(2, bytes(1, integer(1, type)));
}

}  // namespace exn::ort::proto
