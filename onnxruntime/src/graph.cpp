// SPDX-License-Identifier: Apache-2.0
#include "graph.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace exn::ort {
namespace {

float from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

float half(uint16_t bits) {
  const uint32_t sign = uint32_t(bits & 0x8000) << 16, rest = bits & 0x7fff;
  if (rest >= 0x7c00) return from_bits(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  const float magnitude = rest < 0x400 ? std::ldexp(static_cast<float>(rest), -24)
                                       : from_bits((rest << 13) + (112u << 23));
  return sign ? -magnitude : magnitude;
}

}  // namespace

float to_float(const TensorView& tensor, int64_t i) {
  switch (tensor.type) {
    case kFloat:
      return tensor.as<float>()[i];
    case kFloat16:
      return half(tensor.as<uint16_t>()[i]);
    case kBfloat16:
      return from_bits(uint32_t(tensor.as<uint16_t>()[i]) << 16);
    default:
      return NAN;
  }
}

std::vector<const OrtOpAttr*> attributes_of(const Api& api, const Node& node) {
  size_t n = 0;
  check(api, api.Node_GetNumAttributes(node.node, &n));
  std::vector<const OrtOpAttr*> list(n);
  check(api, api.Node_GetAttributes(node.node, list.data(), n));
  return list;
}

std::vector<char> contents_of(const Api& api, const OrtOpAttr* attribute, int32_t type) {
  std::vector<char> data(64);
  size_t bytes = 0;
  OrtStatus* status = api.ReadOpAttr(attribute, type, data.data(), data.size(), &bytes);
  if (status != nullptr) {  // there is no room for it: `bytes` says how much it takes
    api.ReleaseStatus(status);
    data.resize(std::max(bytes, data.size()));
    check(api, api.ReadOpAttr(attribute, type, data.data(), data.size(), &bytes));
  }
  data.resize(bytes);
  return data;
}

Graph::Graph(const Api& of, const OrtGraph* graph) : api(of) {
  const OrtNode* around = nullptr;
  check(api, api.Graph_GetParentNode(graph, &around));
  body = around != nullptr;
  size_t n = 0;
  check(api, api.Graph_GetNumNodes(graph, &n));
  std::vector<const OrtNode*> list(n);
  check(api, api.Graph_GetNodes(graph, list.data(), n));
  nodes.reserve(n);
  const auto read = [&](const OrtNode* node, auto count, auto get) {
    size_t m = 0;
    check(api, count(node, &m));
    std::vector<const OrtValueInfo*> infos(m);
    check(api, get(node, infos.data(), m));
    std::vector<int> out;
    for (const OrtValueInfo* info : infos) out.push_back(info == nullptr ? -1 : add(info));
    return out;
  };
  for (const OrtNode* node : list) {
    Node out;
    const char* text = nullptr;
    out.node = node;
    check(api, api.Node_GetName(node, &text));
    out.name = text;
    check(api, api.Node_GetOperatorType(node, &text));
    out.op = text;
    check(api, api.Node_GetDomain(node, &text));
    out.domain = std::strcmp(text, "ai.onnx") == 0 ? "" : text;
    const int index = static_cast<int>(nodes.size());
    out.inputs = read(node, api.Node_GetNumInputs, api.Node_GetInputs);
    out.outputs = read(node, api.Node_GetNumOutputs, api.Node_GetOutputs);
    for (const int value : out.inputs) {
      if (value >= 0) values[value].consumers.push_back(index);
    }
    // What the branches of an If read.
    for (const int value : read(node, api.Node_GetNumImplicitInputs, api.Node_GetImplicitInputs)) {
      if (value >= 0) values[value].consumers.push_back(index);
    }
    for (const int value : out.outputs) {
      if (value >= 0) values[value].producer = index;
    }
    nodes.push_back(std::move(out));
  }
  check(api, api.Graph_GetNumOperatorSets(graph, &n));
  std::vector<const char*> domains(n);
  std::vector<int64_t> versions(n);
  check(api, api.Graph_GetOperatorSets(graph, domains.data(), versions.data(), n));
  for (size_t i = 0; i < n; ++i) opsets.emplace_back(domains[i], versions[i]);
  check(api, api.Graph_GetNumOutputs(graph, &n));
  std::vector<const OrtValueInfo*> outputs(n);
  check(api, api.Graph_GetOutputs(graph, outputs.data(), n));
  for (const OrtValueInfo* info : outputs) {
    if (info != nullptr) {
      const int value = add(info);
      if (value >= 0) values[value].leaves = true;
    }
  }
}

int Graph::add(const OrtValueInfo* info) {
  const char* name = nullptr;
  check(api, api.GetValueInfoName(info, &name));
  if (*name == '\0') return -1;
  const auto [at, fresh] = names_.emplace(name, static_cast<int>(values.size()));
  if (!fresh) return at->second;
  Value value;
  value.name = name;
  const OrtTypeInfo* type = nullptr;
  const OrtTensorTypeAndShapeInfo* tensor = nullptr;
  check(api, api.GetValueInfoTypeInfo(info, &type));
  if (type != nullptr) check(api, api.CastTypeInfoToTensorInfo(type, &tensor));
  if (tensor != nullptr) {
    check(api, api.GetTensorElementType(tensor, &value.type));
    size_t rank = 0;
    check(api, api.GetDimensionsCount(tensor, &rank));
    value.shape.resize(rank);
    check(api, api.GetDimensions(tensor, value.shape.data(), rank));
    value.ranked = rank > 0;
  }
  check(api, api.ValueInfo_IsConstantInitializer(info, &value.fixed));
  if (value.fixed && value.type != 0 && value.type != kString) {
    check(api, api.ValueInfo_GetInitializerValue(info, &value.constant));
    if (value.constant != nullptr) {
      const TensorView view = view_of(api, value.constant);
      value.type = view.type;
      value.shape = view.shape;
      value.ranked = true;
    }
  }
  values.push_back(std::move(value));
  return at->second;
}

const OrtOpAttr* Graph::attribute(const Node& node, const char* name, int32_t type) const {
  for (const OrtOpAttr* attribute : attributes_of(api, node)) {
    const char* text = nullptr;
    int32_t found = 0;
    check(api, api.OpAttr_GetName(attribute, &text));
    if (std::strcmp(text, name) != 0) continue;
    check(api, api.OpAttr_GetType(attribute, &found));
    return found == type ? attribute : nullptr;
  }
  return nullptr;
}

std::vector<std::string> Graph::attributes(const Node& node) const {
  std::vector<std::string> names;
  for (const OrtOpAttr* one : attributes_of(api, node)) {
    const char* name = nullptr;
    check(api, api.OpAttr_GetName(one, &name));
    names.emplace_back(name);
  }
  return names;
}

int64_t Graph::integer(const Node& node, const char* name, int64_t otherwise) const {
  const OrtOpAttr* found = attribute(node, name, kAttrInt);
  int64_t value = otherwise;
  size_t bytes = 0;
  if (found) check(api, api.ReadOpAttr(found, kAttrInt, &value, sizeof value, &bytes));
  return value;
}

float Graph::number(const Node& node, const char* name, float otherwise) const {
  const OrtOpAttr* found = attribute(node, name, kAttrFloat);
  float value = otherwise;
  size_t bytes = 0;
  if (found) check(api, api.ReadOpAttr(found, kAttrFloat, &value, sizeof value, &bytes));
  return value;
}

std::string Graph::text(const Node& node, const char* name, const char* otherwise) const {
  const OrtOpAttr* found = attribute(node, name, kAttrString);
  if (!found) return otherwise;
  const std::vector<char> data = contents_of(api, found, kAttrString);
  if (data.empty()) return "";
  return std::string(data.data(), strnlen(data.data(), data.size()));
}

std::vector<int64_t> Graph::integers(const Node& node, const char* name) const {
  const OrtOpAttr* found = attribute(node, name, kAttrInts);
  if (!found) return {};
  const std::vector<char> data = contents_of(api, found, kAttrInts);
  std::vector<int64_t> list(data.size() / sizeof(int64_t));
  if (!list.empty()) std::memcpy(list.data(), data.data(), list.size() * sizeof(int64_t));
  return list;
}

std::vector<float> Graph::floats(int value) const {
  if (constant(value) == nullptr) return {};
  const TensorView view = view_of(api, values[value].constant);
  if (view.type != kFloat && view.type != kFloat16 && view.type != kBfloat16) return {};
  std::vector<float> out(static_cast<size_t>(view.count()));
  for (size_t i = 0; i < out.size(); ++i) out[i] = to_float(view, static_cast<int64_t>(i));
  return out;
}

std::vector<int64_t> Graph::longs(int value) const {
  if (constant(value) == nullptr) return {};
  const TensorView view = view_of(api, values[value].constant);
  if (view.type != kInt64 || view.shape.size() != 1) return {};
  return std::vector<int64_t>(view.as<int64_t>(), view.as<int64_t>() + view.count());
}

bool Graph::scalar(int value, float* out) const {
  if (constant(value) == nullptr) return false;
  const TensorView view = view_of(api, values[value].constant);
  if (view.count() != 1) return false;
  *out = to_float(view, 0);
  return !std::isnan(*out);
}

}  // namespace exn::ort
