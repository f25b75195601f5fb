// SPDX-License-Identifier: Apache-2.0
#include "patterns.h"

#include <exeunt/exeunt.h>

#include <algorithm>
#include <cmath>

namespace exn::ort {

bool is_float(int32_t type) { return type == kFloat || type == kFloat16 || type == kBfloat16; }

const Node* Patterns::reader(int value, int* index) const {
  *index = value < 0 ? -1 : g.only_reader(value);
  return *index < 0 || !free(*index) ? nullptr : &g.nodes[*index];
}

const Node* Patterns::reader(int value, const char* op, int* index, int* output) const {
  const Node* node = reader(value, index);
  if (node == nullptr || !node->is(op)) return nullptr;
  *output = node->output(0);
  return *output < 0 ? nullptr : node;
}

int Patterns::other(const Node& node, int value) {
  if (node.inputs.size() != 2) return -1;
  return node.inputs[0] == value ? node.inputs[1] : node.inputs[1] == value ? node.inputs[0] : -1;
}

bool Patterns::row(int value, int64_t width) const {
  const Value* c = g.constant(value);
  return c != nullptr && is_float(c->type) && c->shape.size() == 1 && c->shape[0] == width;
}

bool Patterns::is_scalar(int value, float expected, int beside) const {
  float found = 0;
  return g.scalar(value, &found) && g.values[value].shape.size() <= axes(beside) &&
         std::fabs(found - expected) <=
             std::fabs(expected) * (g.values[value].type == kFloat ? 1e-5f : 5e-3f);
}

size_t Patterns::axes(int value) const { return std::max<size_t>(1, g.values[value].shape.size()); }

int64_t Patterns::width(int value) const {
  const Value& v = g.values[value];
  return v.shape.empty() ? -1 : v.shape.back();
}

bool Patterns::over_last(int64_t axis, int value) const {
  const Value& v = g.values[value];
  return axis == -1 || (v.ranked && axis == static_cast<int64_t>(v.shape.size()) - 1);
}

std::vector<int64_t> Patterns::axes_of(const Node& node) const {
  return node.input(1) >= 0 ? g.longs(node.input(1)) : g.integers(node, "axes");
}

bool Patterns::norm_op(int at, int64_t width, NormPattern* norm) const {
  const Node& node = g.nodes[at];
  const bool layer = node.is("LayerNormalization") || microsoft(node, "LayerNormalization");
  const bool rms = node.is("SimplifiedLayerNormalization") || node.is("RMSNormalization") ||
                   microsoft(node, "SimplifiedLayerNormalization");
  if ((!layer && !rms) || !free(at)) return false;
  for (size_t i = 1; i < node.outputs.size(); ++i) {
    if (node.outputs[i] >= 0) return false;
  }
  const int x = node.input(0);
  norm->nodes = {at};
  norm->kind = layer ? EXN_NORM_LAYER : EXN_NORM_RMS;
  norm->weight = node.input(1);
  norm->bias = layer ? node.input(2) : -1;
  norm->eps = g.number(node, "epsilon", 1e-5f);
  norm->output = node.output(0);
  return x >= 0 && norm->output >= 0 && is_float(g.values[x].type) &&
         is_float(g.values[norm->output].type) && over_last(g.integer(node, "axis", -1), x) &&
         row(norm->weight, width) && (norm->bias < 0 || row(norm->bias, width)) && norm->eps >= 0 &&
         std::isfinite(norm->eps);
}

// ReduceMean over the last axis of `value`, which it keeps.
bool Patterns::mean_of(const Node& node, int value) const {
  if (!node.is("ReduceMean") || node.input(0) != value || g.integer(node, "keepdims", 1) != 1) {
    return false;
  }
  const std::vector<int64_t> axes = axes_of(node);
  return axes.size() == 1 && over_last(axes[0], value);
}

bool Patterns::spelt_out(int x, int64_t width, NormPattern* norm) const {
  const Value& value = g.values[x];
  if (value.leaves || value.consumers.size() != 2 || !is_float(value.type)) return false;
  for (int k = 0; k < 2; ++k) {
    const int mean_at = value.consumers[k], sub_at = value.consumers[1 - k];
    const Node &mean = g.nodes[mean_at], &sub = g.nodes[sub_at];
    if (!free(mean_at) || !free(sub_at) || !mean_of(mean, x) || !sub.is("Sub") ||
        sub.input(0) != x || mean.output(0) < 0 || sub.input(1) != mean.output(0) ||
        g.only_reader(mean.output(0)) != sub_at || sub.output(0) < 0) {
      continue;
    }
    const int d = sub.output(0);
    const Value& difference = g.values[d];
    if (difference.leaves || difference.consumers.size() != 2) return false;
    for (int j = 0; j < 2; ++j) {
      const int pow_at = difference.consumers[j], div_at = difference.consumers[1 - j];
      const Node &pow = g.nodes[pow_at], &div = g.nodes[div_at];
      if (!free(pow_at) || !free(div_at) || !pow.is("Pow") || pow.input(0) != d ||
          !is_scalar(pow.input(1), 2, d) || !div.is("Div") || div.input(0) != d) {
        continue;
      }
      int var_at, var, plus_at, plus, root_at, root, mul_at, mul, add_at, add, at;
      const Node* node = reader(pow.output(0), "ReduceMean", &var_at, &var);
      if (node == nullptr || !mean_of(*node, pow.output(0))) continue;
      node = reader(var, "Add", &plus_at, &plus);
      if (node == nullptr) continue;
      const int eps = other(*node, var);
      if (!g.scalar(eps, &norm->eps) || g.values[eps].shape.size() > axes(x) || !(norm->eps >= 0) ||
          !std::isfinite(norm->eps) || reader(plus, "Sqrt", &root_at, &root) == nullptr ||
          reader(root, &at) != &div || div.input(1) != root) {
        continue;
      }
      node = reader(div.output(0), "Mul", &mul_at, &mul);
      if (node == nullptr) continue;
      norm->weight = other(*node, div.output(0));
      node = reader(mul, "Add", &add_at, &add);
      if (node == nullptr) continue;
      norm->bias = other(*node, mul);
      if (!row(norm->weight, width) || !row(norm->bias, width)) continue;
      norm->kind = EXN_NORM_LAYER;
      norm->nodes = {mean_at, sub_at, pow_at, var_at, plus_at, root_at, div_at, mul_at, add_at};
      norm->output = add;
      return true;
    }
  }
  return false;
}

// Before opset 13 it went over all axes from `axis` on, by default from 1.
bool Patterns::softmax(const Node& node) const {
  if (!node.is("Softmax") || node.input(0) < 0 || node.output(0) < 0) return false;
  const bool old = std::any_of(g.opsets.begin(), g.opsets.end(), [](const auto& opset) {
    return (opset.first.empty() || opset.first == "ai.onnx") && opset.second < 13;
  });
  return over_last(g.integer(node, "axis", old ? 1 : -1), node.input(0));
}

}  // namespace exn::ort
