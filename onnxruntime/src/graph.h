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
  int32_t type = 0;            // 0: no tensor
  bool ranked = false;         // false also for scalars, of which ONNX Runtime says no more
  std::vector<int64_t> shape;  // -1: not known before a run
  // A constant initializer, of this graph or of one around it. No fused node has it as an input.
  bool fixed = false;
  const OrtValue* constant =
      nullptr;          // if fixed and no string; ONNX Runtime's, as long as the graph
  bool leaves = false;  // an output of the graph
  int producer = -1;
  std::vector<int> consumers;  // one entry for each use
};

struct Node {
  const OrtNode* node = nullptr;
  std::string name, domain, op;
  std::vector<int> inputs, outputs;  // values; -1: left out

  bool is(const char* type, const char* of = "") const { return op == type && domain == of; }
  // -1 also beyond the last.
  int input(size_t i) const { return i < inputs.size() ? inputs[i] : -1; }
  int output(size_t i) const { return i < outputs.size() ? outputs[i] : -1; }
};

class Graph {
 public:
  Graph(const Api& of, const OrtGraph* graph);

  const Api& api;
  bool body = false;  // of an If, a Loop or a Scan
  std::vector<Value> values;
  std::vector<Node> nodes;
  std::vector<std::pair<std::string, int64_t>> opsets;

  // Null where a node has no such input.
  const Value* input(const Node& node, size_t i) const {
    return node.input(i) >= 0 ? &values[node.input(i)] : nullptr;
  }
  // Null unless it is a constant whose elements can be read.
  const Value* constant(int value) const {
    return value >= 0 && values[value].constant != nullptr ? &values[value] : nullptr;
  }
  // The only node that reads this value, which is no output; -1 if there are several or none.
  int only_reader(int value) const {
    const Value& v = values[value];
    return !v.leaves && v.consumers.size() == 1 ? v.consumers[0] : -1;
  }
  // Whether anybody does anything with it.
  bool is_read(int value) const {
    return value >= 0 && (values[value].leaves || !values[value].consumers.empty());
  }
  Slot slot(int value) const { return {values[value].name, values[value].type}; }

  int64_t integer(const Node& node, const char* attribute, int64_t otherwise) const;
  float number(const Node& node, const char* attribute, float otherwise) const;
  std::string text(const Node& node, const char* attribute, const char* otherwise) const;
  std::vector<int64_t> integers(const Node& node, const char* attribute) const;

  std::vector<std::string> attributes(const Node& node) const;

  // The elements of a constant as f32; empty if it is none, or has another type.
  std::vector<float> floats(int value) const;
  // The elements of a constant of i64 in one axis; empty if it is none.
  std::vector<int64_t> longs(int value) const;
  // Whether a value is a constant of one element, which is put into *out.
  bool scalar(int value, float* out) const;

 private:
  int add(const OrtValueInfo* info);
  const OrtOpAttr* attribute(const Node& node, const char* name, int32_t type) const;

  std::unordered_map<std::string, int> names_;
};

float to_float(const TensorView& tensor, int64_t i);

// The attributes of a node, and what one of them holds, of whatever length: integers, floats, or the
// characters of a string, which may be followed by zeros.
std::vector<const OrtOpAttr*> attributes_of(const Api& api, const Node& node);
std::vector<char> contents_of(const Api& api, const OrtOpAttr* attribute, int32_t type);

}  // namespace exn::ort
