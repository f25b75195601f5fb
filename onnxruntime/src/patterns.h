// SPDX-License-Identifier: Apache-2.0
// What a few nodes together compute, and which of them are still to be had.
#pragma once

#include "match.h"

namespace exn::ort {

bool is_float(int32_t type);

inline bool microsoft(const Node& node, const char* op) { return node.is(op, "com.microsoft"); }

// A norm over the last axis of `input`.
struct NormPattern {
  std::vector<int> nodes;
  int kind = 0;  // EXN_NORM_*
  int weight = -1, bias = -1;
  float eps = 0;
  int output = -1;
};

class Patterns {
 public:
  explicit Patterns(const Graph& graph) : g(graph), used_(graph.nodes.size()) {}

  const Graph& g;

  bool free(int node) const { return !used_[node]; }
  void use(const std::vector<int>& nodes) {
    for (const int node : nodes) used_[node] = true;
  }
  void release(const std::vector<int>& nodes) {
    for (const int node : nodes) used_[node] = false;
  }

  // The node that alone reads a value; null if there is none, or if another claim has it.
  const Node* reader(int value, int* index) const;
  // The same for a node of one output, which is put into *output.
  const Node* reader(int value, const char* op, int* index, int* output) const;

  // The operand of a node of two that is not `value`.
  static int other(const Node& node, int value);
  // Whether a value is a constant row of f32, f16 or bf16.
  bool row(int value, int64_t width) const;
  // Whether `value` is a constant of one element, with this number in it as far as its type holds,
  // that gives no more axes to what `beside` is.
  bool is_scalar(int value, float expected, int beside) const;
  // Of a value, as far as they are known: at least one of what products and norms read and make.
  size_t axes(int value) const;
  // The last extent of a value; -1: not known.
  int64_t width(int value) const;
  bool over_last(int64_t axis, int value) const;
  // Those of a reduction, as an attribute or as an input.
  std::vector<int64_t> axes_of(const Node& node) const;

  // An op of its own, over the last axis, with constants of `width`.
  bool norm_op(int node, int64_t width, NormPattern* norm) const;
  // LayerNorm of `value` as exporters wrote it before it was an op.
  bool spelt_out(int value, int64_t width, NormPattern* norm) const;
  // Over the last axis.
  bool softmax(const Node& node) const;

 private:
  bool mean_of(const Node& node, int value) const;

  std::vector<bool> used_;
};

}  // namespace exn::ort
