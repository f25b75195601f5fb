// SPDX-License-Identifier: Apache-2.0
// A graph of ONNX Runtime's, read once into plain arrays.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "ort.h"

namespace exn::ort {

struct Value {
  std::string name;
  int32_t type = 0;  // 0: no tensor
  bool ranked = false;
  std::vector<int64_t> shape;          // -1: not known before a run
  const OrtValue* constant = nullptr;  // ONNX Runtime's, as long as the graph is
  bool leaves = false;                 // an output of the graph
  int producer = -1;
  std::vector<int> consumers;  // one entry for each use
};

struct Node {
  const OrtNode* node = nullptr;
  std::string name, domain, op;
  std::vector<int> inputs, outputs;  // values; -1: left out

  bool is(const char* type, const char* of = "") const { return op == type && domain == of; }
};

class Graph {
 public:
  Graph(const Api& of, const OrtGraph* graph);

  const Api& api;
  std::vector<Value> values;
  std::vector<Node> nodes;
  std::vector<std::pair<std::string, int64_t>> opsets;

  int find(const std::string& name) const {
    const auto found = names_.find(name);
    return found == names_.end() ? -1 : found->second;
  }

  const Value* input(const Node& node, size_t i) const {
    return i < node.inputs.size() && node.inputs[i] >= 0 ? &values[node.inputs[i]] : nullptr;
  }
  // The node that alone reads this value, whom nobody else sees; -1 if there are several or none.
  int only_reader(int value) const {
    const Value& v = values[value];
    return !v.leaves && v.consumers.size() == 1 ? v.consumers[0] : -1;
  }

  int64_t integer(const Node& node, const char* attribute, int64_t otherwise) const;
  float number(const Node& node, const char* attribute, float otherwise) const;
  std::string text(const Node& node, const char* attribute, const char* otherwise) const;
  std::vector<int64_t> integers(const Node& node, const char* attribute) const;

  std::vector<std::string> attributes(const Node& node) const;

  // The elements of a constant as f32; empty if it is none, or has another type.
  std::vector<float> floats(int value) const;
  // Whether a value is a constant of one element, with this number in it as far as its type holds.
  bool is_scalar(int value, float expected) const;
  bool scalar(int value, float* out) const;

 private:
  int add(const OrtValueInfo* info);
  const OrtOpAttr* attribute(const Node& node, const char* name, int32_t type) const;

  std::unordered_map<std::string, int> names_;
};

float to_float(const TensorView& tensor, int64_t i);

// Where a value of a graph is among the inputs or outputs of the node that stands for it.
size_t place_of(const std::vector<std::string>& names, const std::string& name);

}  // namespace exn::ort
