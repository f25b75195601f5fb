// SPDX-License-Identifier: Apache-2.0
#include "match.h"

#include <exeunt/exeunt.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "inner.h"

namespace exn::ort {
namespace {

bool is_float(int32_t type) { return type == kFloat || type == kFloat16 || type == kBfloat16; }

const char* type_name(int32_t type) {
  switch (type) {
    case kFloat:
      return "f32";
    case kFloat16:
      return "f16";
    case kBfloat16:
      return "bf16";
    case kInt8:
      return "i8";
    case kUint8:
      return "u8";
    case kInt4:
      return "i4";
    case kUint4:
      return "u4";
    default:
      return "another type";
  }
}

// Of fewer elements in a row, ONNX Runtime's softmax is as fast or faster.
constexpr int64_t kWideSoftmax = 4096;

bool microsoft(const Node& node, const char* op) { return node.is(op, "com.microsoft"); }

class Matcher {
 public:
  Matcher(const Graph& graph, const Policy& chosen) : g(graph), policy(chosen) {}

  Claims run() {
    Claims claims;
    std::map<int, std::vector<Product>> by_input;  // in the order of values, which is that of nodes
    for (size_t i = 0; i < g.nodes.size(); ++i) {
      Product product;
      std::string why;
      if (start(static_cast<int>(i), &product, &why)) {
        by_input[product.input].push_back(std::move(product));
      } else if (!why.empty()) {
        claims.declined.push_back(g.nodes[i].op + " " + g.nodes[i].name + ": " + why);
      }
    }
    for (auto& [input, products] : by_input) {
      Group group;
      for (Product& product : products) {
        // What else a product reads might depend on another of the group.
        follow(&product, products.size() == 1);
        describe(&product);
        group.nodes.insert(group.nodes.end(), product.nodes.begin(), product.nodes.end());
      }
      group.input = input;
      group.products = std::move(products);
      prologue(&group);
      std::sort(group.nodes.begin(), group.nodes.end());
      claims.groups.push_back(std::move(group));
    }
    std::vector<bool> taken(g.nodes.size());
    for (const Group& group : claims.groups) {
      for (const int node : group.nodes) taken[node] = true;
    }
    for (size_t i = 0; i < g.nodes.size(); ++i) {
      Norm norm;
      Attention attention;
      std::string why;
      const int index = static_cast<int>(i);
      if (taken[i]) continue;
      if (alone(index, &norm, &why) && std::none_of(norm.nodes.begin(), norm.nodes.end(),
                                                    [&](int node) { return taken[node]; })) {
        for (const int node : norm.nodes) taken[node] = true;
        norm.text = g.nodes[i].op + " " + g.nodes[i].name + ": " + (norm.skip >= 0 ? "sum, " : "") +
                    (norm.softmax                  ? "softmax"
                     : norm.kind == EXN_NORM_LAYER ? "LayerNorm"
                                                   : "RMSNorm");
        claims.norms.push_back(std::move(norm));
      } else if (grouped(index, &attention, &why)) {
        claims.attentions.push_back(std::move(attention));
      } else if (!why.empty()) {
        claims.declined.push_back(g.nodes[i].op + " " + g.nodes[i].name + ": " + why);
      }
    }
    return claims;
  }

 private:
  const Graph& g;
  const Policy& policy;

  const Node* reader(int value, int* index) const {
    *index = value < 0 ? -1 : g.only_reader(value);
    return *index < 0 ? nullptr : &g.nodes[*index];
  }

  // The operand of a node of two that is not `value`.
  static int other(const Node& node, int value) {
    if (node.inputs.size() != 2) return -1;
    return node.inputs[0] == value ? node.inputs[1] : node.inputs[1] == value ? node.inputs[0] : -1;
  }

  const Value* constant(int value) const {
    return value >= 0 && g.values[value].constant != nullptr ? &g.values[value] : nullptr;
  }

  // ---- the product itself ----

  // False with a reason if a node is a product that is not taken, without if it is none.
  bool start(int index, Product* p, std::string* why) const {
    const Node& node = g.nodes[index];
    const bool matmul = node.is("MatMul"), gemm = node.is("Gemm");
    const bool bits = microsoft(node, "MatMulNBits");
    if (!matmul && !gemm && !bits) return false;
    p->node = index;
    p->nodes = {index};
    p->input = node.inputs[0];
    p->output = node.outputs[0];
    const Value& x = g.values[p->input];
    p->product_type = x.type;
    if (!is_float(x.type)) {
      *why = "its input is of a type other than f32, f16 and bf16";
      return false;
    }
    if (bits) return start_bits(node, p, why);
    if (!x.ranked || x.shape.size() < 2) {
      *why = "its input has less than two axes";
      return false;
    }
    int weight = node.inputs[1];
    if (gemm) {
      if (g.integer(node, "transA", 0) != 0 || g.number(node, "alpha", 1) != 1.0f ||
          g.number(node, "beta", 1) != 1.0f) {
        *why = "transA, alpha and beta are not 0, 1 and 1";
        return false;
      }
      p->transposed = g.integer(node, "transB", 0) != 0;
    }
    if (constant(weight) == nullptr) {
      const int producer = g.values[weight].producer;
      if (producer >= 0 && g.nodes[producer].is("DequantizeLinear")) {
        if (!start_dequantised(producer, p, why)) return false;
      } else {
        *why = "its right operand is no constant";
        return false;
      }
    } else {
      p->weight = weight;
    }
    const Value& w = *constant(p->weight);
    if (w.shape.size() != 2) {
      *why = "its weights have " + std::to_string(w.shape.size()) + " axes, expected 2";
      return false;
    }
    p->rows = w.shape[p->transposed ? 0 : 1];
    p->columns = w.shape[p->transposed ? 1 : 0];
    if (p->rows < 1 || p->columns < 1) {
      *why = "its weights are empty";
      return false;
    }
    if (p->storage == Storage::kDense && w.type != x.type) {
      *why = "its operands differ in type";
      return false;
    }
    if (p->storage == Storage::kDense && w.type == kFloat && !policy.f32 && !narrow(*p)) {
      *why = "its weights are f32, which option f32 leaves alone";
      return false;
    }
    if (gemm && node.inputs.size() > 2 && node.inputs[2] >= 0 && !take_bias(p, node.inputs[2])) {
      *why = "C is no constant row";
      return false;
    }
    return true;
  }

  // Whether f32 weights are bf16 in all but name, as constants that were folded behind a Cast are.
  bool narrow(const Product& p) const {
    const TensorView w = view_of(g.api, g.values[p.weight].constant);
    const auto* words = w.as<uint32_t>();
    const int64_t n = w.count();
    for (int64_t i = 0; i < n; ++i) {
      if (words[i] & 0xffff) return false;
    }
    return true;
  }

  bool start_bits(const Node& node, Product* p, std::string* why) const {
    p->storage = Storage::kBits;
    p->transposed = true;
    p->columns = g.integer(node, "K", 0);
    p->rows = g.integer(node, "N", 0);
    p->bits = g.integer(node, "bits", 4);
    p->block = g.integer(node, "block_size", 0);
    p->weight = node.inputs[1];
    p->scales = node.inputs[2];
    p->zeros = node.inputs.size() > 3 ? node.inputs[3] : -1;
    const int g_idx = node.inputs.size() > 4 ? node.inputs[4] : -1;
    const int bias = node.inputs.size() > 5 ? node.inputs[5] : -1;
    if (p->bits != 4 && p->bits != 8) {
      *why = "bits is " + std::to_string(p->bits) + ", expected 4 or 8";
    } else if (p->block % 32 != 0 || p->columns % 32 != 0 || p->columns % p->block != 0) {
      *why = "K " + std::to_string(p->columns) + " and block_size " + std::to_string(p->block) +
             " are not multiples of 32 and of each other";
    } else if (g_idx >= 0) {
      *why = "its columns are in another order (g_idx)";
    } else if (!constant(p->weight) || !constant(p->scales) ||
               (p->zeros >= 0 && !constant(p->zeros))) {
      *why = "its weights are no constants";
    } else if (p->zeros >= 0 && (p->bits == 8 || g.values[p->zeros].type != kUint8)) {
      *why = "zero points are taken of 4 bits, packed, only";
    } else if (bias >= 0 && !take_bias(p, bias)) {
      *why = "its bias is no constant row";
    } else {
      return true;
    }
    return false;
  }

  bool start_dequantised(int index, Product* p, std::string* why) const {
    const Node& dequantise = g.nodes[index];
    const int weight = dequantise.inputs[0], scale = dequantise.inputs[1];
    const int zero = dequantise.inputs.size() > 2 ? dequantise.inputs[2] : -1;
    const Value* w = constant(weight);
    const Value* s = constant(scale);
    *why = "";
    if (w == nullptr || s == nullptr || (zero >= 0 && !constant(zero))) {
      *why = "its right operand is no constant";
      return false;
    }
    const int x_producer = g.values[p->input].producer;
    if (x_producer >= 0 && g.nodes[x_producer].is("DequantizeLinear")) {
      *why = "its input is quantised too, for which ONNX Runtime has products of integers";
      return false;
    }
    if (w->shape.size() != 2 || g.only_reader(dequantise.outputs[0]) != p->node ||
        (w->type != kInt8 && w->type != kUint8)) {
      *why = std::string("its quantised weights are ") + type_name(w->type) +
             " or read by others as well, expected a matrix of i8 or u8 for this product alone";
      return false;
    }
    const int64_t rank_axis = g.integer(dequantise, "axis", 1);
    const int64_t axis = rank_axis < 0 ? rank_axis + 2 : rank_axis;
    const int64_t n = w->shape[p->transposed ? 0 : 1], k = w->shape[p->transposed ? 1 : 0];
    const int64_t n_axis = p->transposed ? 0 : 1, blocks = g.integer(dequantise, "block_size", 0);
    const int64_t scales = view_of(g.api, s->constant).count();
    if (k % 32 != 0) {
      *why = "its weights have " + std::to_string(k) + " rows, expected a multiple of 32";
    } else if (scales == 1) {
      p->block = -1;
    } else if (blocks == 0 && axis == n_axis && scales == n) {
      p->block = 0;
    } else if (blocks > 0 && axis != n_axis && blocks % 32 == 0 && k % blocks == 0 &&
               scales == k / blocks * n) {
      p->block = blocks;
    } else {
      *why = "its scales are neither one, nor one for each column, nor for blocks of 32 times "
             "something";
    }
    if (!why->empty()) return false;
    p->storage = Storage::kDequantised;
    p->bits = 8;
    p->weight = weight;
    p->scales = scale;
    p->zeros = zero;
    p->nodes.push_back(index);
    return true;
  }

  // A constant that is added to each row.
  bool take_bias(Product* p, int value) const {
    const Value* c = constant(value);
    if (c == nullptr || !is_float(c->type)) return false;
    int64_t count = 1;
    for (const int64_t extent : c->shape) count *= extent;
    const size_t rank = g.values[p->output].shape.size();
    if (count != p->rows || c->shape.empty() || c->shape.back() != p->rows) return false;
    if (c->shape.size() > std::max<size_t>(rank, 1)) return false;
    p->bias = value;
    return true;
  }

  // ---- what follows ----

  void follow(Product* p, bool alone) const {
    for (bool more = true; more;) {
      more = widened(p) || biased(p) || activated(p);
      if (!more && alone) more = added(p) || normalised(p);
      if (p->norm != EXN_NORM_NONE) break;
    }
    if (alone) head(p);
  }

  void take(Product* p, std::initializer_list<int> nodes, int output) const {
    p->nodes.insert(p->nodes.end(), nodes);
    p->output = output;
  }

  bool widened(Product* p) const {
    int at;
    const Node* node = reader(p->output, &at);
    if (node == nullptr || !node->is("Cast") || g.values[node->outputs[0]].type != kFloat ||
        !is_float(g.values[p->output].type)) {
      return false;
    }
    take(p, {at}, node->outputs[0]);
    return true;
  }

  bool biased(Product* p) const {
    int at;
    const Node* node = reader(p->output, &at);
    if (node == nullptr || !node->is("Add") || p->bias >= 0 || p->residual >= 0 ||
        p->activation != Activation::kNone || !take_bias(p, other(*node, p->output))) {
      return false;
    }
    take(p, {at}, node->outputs[0]);
    return true;
  }

  bool added(Product* p) const {
    int at;
    const Node* node = reader(p->output, &at);
    if (node == nullptr || !node->is("Add") || p->residual >= 0) return false;
    const int value = other(*node, p->output);
    if (value < 0 || value == p->output || constant(value) != nullptr) return false;
    const Value &r = g.values[value], &own = g.values[p->output];
    if (!r.ranked || r.shape.size() != own.shape.size() || r.type != own.type ||
        !is_float(r.type)) {
      return false;
    }
    p->residual = value;
    take(p, {at}, node->outputs[0]);
    return true;
  }

  bool activated(Product* p) const {
    if (p->activation != Activation::kNone || p->residual >= 0) return false;
    int at;
    const int cur = p->output;
    const Node* node = reader(cur, &at);
    if (node != nullptr) {
      Activation found = Activation::kNone;
      if (node->is("Relu")) found = Activation::kRelu;
      if (node->is("Gelu") || microsoft(*node, "Gelu")) {
        found = g.text(*node, "approximate", "none") == "tanh" ? Activation::kGeluTanh
                                                               : Activation::kGelu;
      }
      if (microsoft(*node, "FastGelu") && node->inputs.size() == 1) found = Activation::kGeluTanh;
      if (found == Activation::kNone) return false;
      p->activation = found;
      take(p, {at}, node->outputs[0]);
      return true;
    }
    const Value& value = g.values[cur];
    return !value.leaves && value.consumers.size() == 2 && (erf_gelu(p) || silu(p));
  }

  // x sigmoid(x)
  bool silu(Product* p) const {
    const int cur = p->output;
    for (const int first : g.values[cur].consumers) {
      const Node& sigmoid = g.nodes[first];
      if (!sigmoid.is("Sigmoid")) continue;
      int at;
      const Node* product = reader(sigmoid.outputs[0], &at);
      if (product == nullptr || !product->is("Mul") || other(*product, sigmoid.outputs[0]) != cur) {
        continue;
      }
      p->activation = Activation::kSilu;
      take(p, {first, at}, product->outputs[0]);
      return true;
    }
    return false;
  }

  // x/2 (1 + erf(x / sqrt 2)), with the half at any of its places
  bool erf_gelu(Product* p) const {
    const int cur = p->output;
    const std::vector<int>& uses = g.values[cur].consumers;
    for (int k = 0; k < 2; ++k) {
      const int first = uses[k];
      const Node& scaled = g.nodes[first];
      if (!(scaled.is("Div") && scaled.inputs[0] == cur &&
            g.is_scalar(scaled.inputs[1], std::sqrt(2.0f))) &&
          !(scaled.is("Mul") && g.is_scalar(other(scaled, cur), std::sqrt(0.5f)))) {
        continue;
      }
      int erf_at, plus_at, next_at;
      const Node* erf = reader(scaled.outputs[0], &erf_at);
      if (erf == nullptr || !erf->is("Erf")) continue;
      const Node* plus = reader(erf->outputs[0], &plus_at);
      if (plus == nullptr || !plus->is("Add") || !g.is_scalar(other(*plus, erf->outputs[0]), 1)) {
        continue;
      }
      const int factor = plus->outputs[0];
      const Node* next = reader(factor, &next_at);
      if (next == nullptr || !next->is("Mul")) continue;
      const int rest = uses[1 - k];
      const auto done = [&](std::initializer_list<int> more, int output) {
        p->activation = Activation::kGelu;
        take(p, {first, erf_at, plus_at, next_at}, output);
        p->nodes.insert(p->nodes.end(), more);
        return true;
      };
      int last_at;
      if (rest == next_at && other(*next, factor) == cur) {  // (x f) / 2
        const Node* last = reader(next->outputs[0], &last_at);
        if (last != nullptr && last->is("Mul") &&
            g.is_scalar(other(*last, next->outputs[0]), 0.5f)) {
          return done({last_at}, last->outputs[0]);
        }
      } else if (g.nodes[rest].is("Mul") && g.is_scalar(other(g.nodes[rest], cur), 0.5f) &&
                 g.only_reader(g.nodes[rest].outputs[0]) == next_at) {  // (x / 2) f
        return done({rest}, next->outputs[0]);
      } else if (g.is_scalar(other(*next, factor), 0.5f)) {  // x (f / 2)
        const Node* last = reader(next->outputs[0], &last_at);
        if (last != nullptr && last->is("Mul") && last_at == rest &&
            other(*last, next->outputs[0]) == cur) {
          return done({last_at}, last->outputs[0]);
        }
      }
    }
    return false;
  }

  // ---- norms ----

  // An op of its own, over the last axis, with constants of `width`.
  bool norm_of(const Node& node, int64_t width, int* kind, int* weight, int* bias,
               float* eps) const {
    const bool layer = node.is("LayerNormalization") || microsoft(node, "LayerNormalization");
    const bool rms = node.is("SimplifiedLayerNormalization") || node.is("RMSNormalization") ||
                     microsoft(node, "SimplifiedLayerNormalization");
    if (!layer && !rms) return false;
    const Value& x = g.values[node.inputs[0]];
    const int64_t axis = g.integer(node, "axis", -1);
    for (size_t i = 1; i < node.outputs.size(); ++i) {
      if (node.outputs[i] >= 0) return false;
    }
    if (!x.ranked || !is_float(x.type)) return false;
    if (axis != -1 && axis != static_cast<int64_t>(x.shape.size()) - 1) return false;
    *weight = node.inputs[1];
    *bias = layer && node.inputs.size() > 2 ? node.inputs[2] : -1;
    for (const int value : {*weight, *bias}) {
      if (value < 0 && value == *bias) continue;
      const Value* c = constant(value);
      if (c == nullptr || c->shape.size() != 1 || c->shape[0] != width) return false;
    }
    *kind = layer ? EXN_NORM_LAYER : EXN_NORM_RMS;
    *eps = g.number(node, "epsilon", 1e-5f);
    return true;
  }

  bool normalised(Product* p) const {
    int at;
    const Node* node = reader(p->output, &at);
    if (node != nullptr) {
      if (node->inputs[0] != p->output ||
          !norm_of(*node, p->rows, &p->norm, &p->norm_weight, &p->norm_bias, &p->eps)) {
        return false;
      }
      take(p, {at}, node->outputs[0]);
      return true;
    }
    return spelt_out(p);
  }

  // ReduceMean over the last axis of `value`, which it keeps.
  bool mean_of(const Node& node, int value) const {
    if (!node.is("ReduceMean") || node.inputs[0] != value || g.integer(node, "keepdims", 1) != 1) {
      return false;
    }
    std::vector<int64_t> axes = g.integers(node, "axes");
    if (node.inputs.size() > 1 && constant(node.inputs[1]) != nullptr) {
      const TensorView view = view_of(g.api, constant(node.inputs[1])->constant);
      if (view.type == kInt64) axes.assign(view.as<int64_t>(), view.as<int64_t>() + view.count());
    }
    const auto rank = static_cast<int64_t>(g.values[value].shape.size());
    return axes.size() == 1 && (axes[0] == -1 || axes[0] == rank - 1);
  }

  // LayerNorm as exporters wrote it before it was an op.
  bool spelt_out(Product* p) const {
    const int x = p->output;
    const Value& value = g.values[x];
    if (value.leaves || value.consumers.size() != 2) return false;
    for (int k = 0; k < 2; ++k) {
      const int mean_at = value.consumers[k], sub_at = value.consumers[1 - k];
      const Node &mean = g.nodes[mean_at], &sub = g.nodes[sub_at];
      if (!mean_of(mean, x) || !sub.is("Sub") || sub.inputs[0] != x ||
          sub.inputs[1] != mean.outputs[0] || g.only_reader(mean.outputs[0]) != sub_at) {
        continue;
      }
      const int d = sub.outputs[0];
      const Value& difference = g.values[d];
      if (difference.leaves || difference.consumers.size() != 2) return false;
      for (int j = 0; j < 2; ++j) {
        const int pow_at = difference.consumers[j], div_at = difference.consumers[1 - j];
        const Node &pow = g.nodes[pow_at], &div = g.nodes[div_at];
        if (!pow.is("Pow") || pow.inputs[0] != d || !g.is_scalar(pow.inputs[1], 2)) continue;
        int var_at, plus_at, root_at, root_reader, mul_at, add_at;
        const Node* var = reader(pow.outputs[0], &var_at);
        if (var == nullptr || !mean_of(*var, pow.outputs[0])) continue;
        const Node* plus = reader(var->outputs[0], &plus_at);
        if (plus == nullptr || !plus->is("Add") ||
            !g.scalar(other(*plus, var->outputs[0]), &p->eps) || p->eps < 0) {
          continue;
        }
        const Node* root = reader(plus->outputs[0], &root_at);
        if (root == nullptr || !root->is("Sqrt")) continue;
        if (reader(root->outputs[0], &root_reader) != &div || !div.is("Div") ||
            div.inputs[0] != d || div.inputs[1] != root->outputs[0]) {
          continue;
        }
        const Node* mul = reader(div.outputs[0], &mul_at);
        if (mul == nullptr || !mul->is("Mul")) continue;
        const int weight = other(*mul, div.outputs[0]);
        const Node* add = reader(mul->outputs[0], &add_at);
        if (add == nullptr || !add->is("Add")) continue;
        const int bias = other(*add, mul->outputs[0]);
        if (!row(weight, p->rows) || !row(bias, p->rows)) continue;
        p->norm = EXN_NORM_LAYER;
        p->norm_weight = weight;
        p->norm_bias = bias;
        take(p, {mean_at, sub_at, pow_at, var_at, plus_at, root_at, div_at, mul_at, add_at},
             add->outputs[0]);
        return true;
      }
    }
    return false;
  }

  // A norm or softmax that begins with this node, and that no product took.
  bool alone(int index, Norm* norm, std::string* why) const {
    const Node& node = g.nodes[index];
    const int64_t width = node.inputs.empty() || node.inputs[0] < 0 ||
                                  g.values[node.inputs[0]].shape.empty() ||
                                  !is_float(g.values[node.inputs[0]].type)
                              ? -1
                              : g.values[node.inputs[0]].shape.back();
    if (width < 1) return false;
    norm->input = node.inputs[0];
    if (node.is("ReduceMean")) {
      Product written;
      written.output = norm->input;
      written.rows = width;
      if (!spelt_out(&written)) return false;
      *norm = {written.nodes,
               norm->input,
               -1,
               -1,
               written.norm,
               written.norm_weight,
               written.norm_bias,
               written.eps,
               written.output,
               -1,
               false,
               ""};
      return true;
    }
    norm->nodes = {index};
    norm->output = node.outputs[0];
    norm->softmax = softmax(node);
    if (norm->softmax) {
      if (width >= kWideSoftmax && g.values[norm->input].type != kFloat16) return true;
      *why = "rows that are f16, or of less than " + std::to_string(kWideSoftmax) +
             " elements, are as fast elsewhere";
      return false;
    }
    if (norm_of(node, width, &norm->kind, &norm->weight, &norm->bias, &norm->eps)) return true;
    const bool layer = microsoft(node, "SkipLayerNormalization");
    if (!layer && !microsoft(node, "SkipSimplifiedLayerNormalization")) return false;
    const auto input = [&](size_t i) { return i < node.inputs.size() ? node.inputs[i] : -1; };
    norm->skip = input(1);
    norm->weight = input(2);
    norm->bias = layer ? input(3) : -1;
    norm->add = input(layer ? 4 : 3);
    norm->sum = output(node, 3);
    norm->kind = layer ? EXN_NORM_LAYER : EXN_NORM_RMS;
    norm->eps = g.number(node, "epsilon", 1e-12f);
    return norm->skip >= 0 && output(node, 1) < 0 && output(node, 2) < 0 &&
           row(norm->weight, width) && (norm->bias < 0 || row(norm->bias, width)) &&
           (norm->add < 0 || row(norm->add, width));
  }

  // ---- attention ----

  bool grouped(int index, Attention* a, std::string* why) const {
    const Node& node = g.nodes[index];
    if (!microsoft(node, "GroupQueryAttention")) return false;
    const auto given = [&](size_t i) { return i < node.inputs.size() && node.inputs[i] >= 0; };
    a->node = index;
    a->heads = g.integer(node, "num_heads", 0);
    a->kv_heads = g.integer(node, "kv_num_heads", 0);
    a->scale = g.number(node, "scale", 0);
    a->softcap = g.number(node, "softcap", 0);
    a->rotary = g.integer(node, "do_rotary", 0) != 0;
    a->interleaved = g.integer(node, "rotary_interleaved", 0) != 0;
    const std::string unknown = unknown_attribute(
        node, {"num_heads", "kv_num_heads", "scale", "softcap", "do_rotary", "rotary_interleaved",
               "local_window_size", "smooth_softmax", "qk_output", "k_quant_type", "v_quant_type",
               "kv_cache_bit_width", "qk_norm_epsilon", "sliding_window_cache"});
    if (!is_float(g.values[node.inputs[0]].type)) {
      *why = "its query is of a type other than f32, f16 and bf16";
    } else if (!unknown.empty()) {
      *why = "its attribute " + unknown + " is not known here";
    } else if (a->kv_heads < 1 || a->heads % a->kv_heads != 0) {
      *why = "num_heads " + std::to_string(a->heads) + " is no multiple of kv_num_heads " +
             std::to_string(a->kv_heads);
    } else if (!(a->scale >= 0) || !(a->softcap >= 0)) {
      *why = "scale or softcap is below 0";
    } else if (g.integer(node, "local_window_size", -1) > 0 ||
               g.integer(node, "sliding_window_cache", 0) != 0) {
      *why = "it sees a window (local_window_size) and not all that came before";
    } else if (g.integer(node, "smooth_softmax", 0) > 0 || given(11)) {
      *why = "its softmax has a sink (smooth_softmax or head_sink)";
    } else if (given(10)) {
      *why = "it has an attention_bias";
    } else if (g.integer(node, "qk_output", 0) != 0 || output(node, 3) >= 0) {
      *why = "somebody asks for its scores";
    } else if (g.integer(node, "kv_cache_bit_width", 0) != 0 ||
               g.text(node, "k_quant_type", "NONE") != "NONE" ||
               g.text(node, "v_quant_type", "NONE") != "NONE" || given(12) || given(13)) {
      *why = "its keys and values are quantised";
    } else if (given(14) || given(15) || node.inputs.size() > 16) {
      *why = "it norms query and key, or has inputs that are not known here";
    } else if (!given(5) || !given(6) || given(1) != given(2) || given(3) != given(4)) {
      *why = "it lacks an input";
    } else if (output(node, 1) < 0 || output(node, 2) < 0) {
      *why = "nobody takes its keys and values";
    } else if (a->rotary &&
               (!given(7) || !given(8) || !table(node.inputs[7]) || !table(node.inputs[8]))) {
      *why = "cos_cache and sin_cache are no constant matrices";
    } else {
      a->text = node.op + " " + node.name + ": attention of " + std::to_string(a->heads) +
                " heads, " + std::to_string(a->kv_heads) + " of keys and values" +
                (a->rotary ? ", rotary" : "") + (a->softcap > 0 ? ", softcap" : "");
      return true;
    }
    return false;
  }

  static int output(const Node& node, size_t i) {
    return i < node.outputs.size() ? node.outputs[i] : -1;
  }

  bool table(int value) const {
    const Value* c = constant(value);
    return c != nullptr && is_float(c->type) && c->shape.size() == 2;
  }

  std::string unknown_attribute(const Node& node, std::initializer_list<const char*> known) const {
    for (const std::string& name : g.attributes(node)) {
      if (std::find(known.begin(), known.end(), name) == known.end()) return name;
    }
    return "";
  }

  bool row(int value, int64_t width) const {
    const Value* c = constant(value);
    return c != nullptr && is_float(c->type) && c->shape.size() == 1 && c->shape[0] == width;
  }

  // ---- heads ----

  // Whether everybody who reads the logits wants statistics of their rows.
  void head(Product* p) const {
    if (p->activation != Activation::kNone || p->residual >= 0 || p->norm != EXN_NORM_NONE) return;
    Product found = *p;
    if (!statistics(&found, p->output, false) || found.nodes.size() == p->nodes.size()) return;
    found.head = true;
    *p = std::move(found);
  }

  // Over the last axis. Before opset 13 it went over all axes from `axis` on, by default from 1.
  bool softmax(const Node& node) const {
    const bool old = std::any_of(g.opsets.begin(), g.opsets.end(), [](const auto& opset) {
      return (opset.first.empty() || opset.first == "ai.onnx") && opset.second < 13;
    });
    return node.is("Softmax") && over_last(g.integer(node, "axis", old ? 1 : -1), node.inputs[0]);
  }

  bool over_last(int64_t axis, int value) const {
    return axis == -1 || axis == static_cast<int64_t>(g.values[value].shape.size()) - 1;
  }

  bool statistics(Product* p, int value, bool probabilities) const {
    const Value& v = g.values[value];
    if (v.leaves || v.consumers.empty() || !v.ranked) return false;
    for (const int at : v.consumers) {
      const Node& node = g.nodes[at];
      if (node.inputs[0] != value) return false;
      if (node.is("Softmax") && !probabilities) {
        if (!softmax(node)) return false;
        p->nodes.push_back(at);
        if (!statistics(p, node.outputs[0], true)) return false;
      } else if (node.is("ArgMax")) {
        if (!over_last(g.integer(node, "axis", 0), value) ||
            g.integer(node, "select_last_index", 0) != 0) {
          return false;
        }
        p->nodes.push_back(at);
        p->argmaxes.push_back(node.outputs[0]);
        if (g.integer(node, "keepdims", 1) == 0) p->reduced.push_back(node.outputs[0]);
      } else if (node.is("ReduceMax")) {
        std::vector<int64_t> axes = g.integers(node, "axes");
        if (node.inputs.size() > 1 && constant(node.inputs[1]) != nullptr) {
          const TensorView view = view_of(g.api, constant(node.inputs[1])->constant);
          axes.assign(view.as<int64_t>(), view.as<int64_t>() + view.count());
        }
        if (axes.size() != 1 || !over_last(axes[0], value)) return false;
        p->nodes.push_back(at);
        (probabilities ? p->p1s : p->max_logits).push_back(node.outputs[0]);
        if (g.integer(node, "keepdims", 1) == 0) p->reduced.push_back(node.outputs[0]);
      } else if (node.is("TopK")) {
        const Value* k = node.inputs.size() > 1 ? constant(node.inputs[1]) : nullptr;
        if (k == nullptr || *view_of(g.api, k->constant).as<int64_t>() != 1 ||
            !over_last(g.integer(node, "axis", -1), value) || g.integer(node, "largest", 1) != 1) {
          return false;
        }
        p->nodes.push_back(at);
        if (node.outputs[0] >= 0) {
          (probabilities ? p->p1s : p->max_logits).push_back(node.outputs[0]);
        }
        if (node.outputs.size() > 1 && node.outputs[1] >= 0) {
          p->argmaxes.push_back(node.outputs[1]);
        }
      } else {
        return false;
      }
    }
    for (const int out : p->p1s) {
      if (g.values[out].type != kFloat) return false;
    }
    for (const int out : p->max_logits) {
      if (g.values[out].type != kFloat) return false;
    }
    return true;
  }

  // ---- what comes first ----

  bool all_within(int value, const std::vector<int>& nodes) const {
    const Value& v = g.values[value];
    return !v.leaves && std::all_of(v.consumers.begin(), v.consumers.end(), [&](int at) {
      return std::find(nodes.begin(), nodes.end(), at) != nodes.end();
    });
  }

  void prologue(Group* group) const {
    int at = g.values[group->input].producer;
    if (at >= 0 && g.nodes[at].is("Cast") && is_float(g.values[g.nodes[at].inputs[0]].type) &&
        all_within(group->input, group->nodes)) {
      group->nodes.push_back(at);
      group->input = g.nodes[at].inputs[0];
      at = g.values[group->input].producer;
    }
    if (at >= 0 && all_within(group->input, group->nodes) &&
        norm_of(g.nodes[at], group->products[0].columns, &group->prologue_norm,
                &group->prologue_weight, &group->prologue_bias, &group->prologue_eps)) {
      group->nodes.push_back(at);
      group->input = g.nodes[at].inputs[0];
    }
  }

  void describe(Product* p) const {
    const Node& node = g.nodes[p->node];
    const Value& w = g.values[p->weight];
    p->text = node.op + " " + node.name + ": ";
    p->text += p->head ? "exit head" : "linear";
    p->text += " of " + std::to_string(p->rows) + " x " + std::to_string(p->columns);
    p->text += p->storage == Storage::kBits ? " in blocks of " + std::to_string(p->bits) + " bits"
               : p->storage == Storage::kDequantised ? " in blocks of 8 bits"
                                                     : std::string(" ") + type_name(w.type);
    if (p->bias >= 0) p->text += ", bias";
    switch (p->activation) {
      case Activation::kNone:
        break;
      case Activation::kRelu:
        p->text += ", ReLU";
        break;
      case Activation::kGelu:
        p->text += ", GELU";
        break;
      case Activation::kGeluTanh:
        p->text += ", GELU (tanh)";
        break;
      case Activation::kSilu:
        p->text += ", SiLU";
        break;
    }
    if (p->residual >= 0) p->text += ", residual";
    if (p->norm == EXN_NORM_LAYER) p->text += ", LayerNorm";
    if (p->norm == EXN_NORM_RMS) p->text += ", RMSNorm";
  }
};

// Puts nodes together, as long as no way leads out of what becomes one node and back into it.
class Clusters {
 public:
  Clusters(const Graph& graph, const std::vector<std::vector<int>>& claimed)
      : g(graph), place_(graph.nodes.size(), -1), before_(graph.nodes.size()) {
    for (const std::vector<int>& nodes : claimed) {
      for (const int node : nodes) place_[node] = static_cast<int>(behind_.size());
      behind_.emplace_back();
    }
    const int fixed = static_cast<int>(behind_.size());
    std::vector<std::set<int>> from(g.nodes.size());
    for (const Value& value : g.values) {
      for (const int reader : value.consumers) {
        if (value.producer >= 0) from[reader].insert(value.producer);
      }
    }
    // ONNX Runtime lists what a node reads before the node.
    for (int n = 0; n < static_cast<int>(g.nodes.size()); ++n) {
      std::set<int> all;
      for (const int p : from[n]) merge(&all, behind(p));
      if (place_[n] < 0 && wants(g.nodes[n])) {
        place_[n] = static_cast<int>(behind_.size());
        for (const int p : from[n]) {
          const int at = place_[p];
          if (at >= fixed && std::all_of(from[n].begin(), from[n].end(), [&](int q) {
                return place_[q] == at || behind(q).count(at) == 0;
              })) {
            place_[n] = at;
            break;
          }
        }
        if (place_[n] == static_cast<int>(behind_.size())) {
          behind_.emplace_back();
          lists.emplace_back();
        }
        lists[place_[n] - fixed].push_back(n);
      }
      if (place_[n] < 0) {
        before_[n] = std::move(all);
      } else {
        grow(place_[n], std::move(all));
      }
    }
    // What only moves elements about is not worth a claim.
    lists.erase(std::remove_if(lists.begin(), lists.end(),
                               [&](const std::vector<int>& list) {
                                 return std::all_of(list.begin(), list.end(),
                                                    [&](int n) { return moves(g.nodes[n]); });
                               }),
                lists.end());
  }

  std::vector<std::vector<int>> lists;

 private:
  const Graph& g;
  std::vector<int> place_;             // the fused node that a node goes into, or -1
  std::vector<std::set<int>> before_;  // fused nodes that a node of its own needs
  std::vector<std::set<int>> behind_;  // fused nodes that a fused node needs

  // Those that a node's results need.
  std::set<int> behind(int node) const {
    if (place_[node] < 0) return before_[node];
    std::set<int> all = behind_[place_[node]];
    all.insert(place_[node]);
    return all;
  }

  static void merge(std::set<int>* into, const std::set<int>& from) {
    into->insert(from.begin(), from.end());
  }

  void grow(int place, std::set<int> all) {
    all.erase(place);
    merge(&behind_[place], all);
    const std::set<int> grown = behind_[place];
    for (std::set<int>& other : behind_) {
      if (other.count(place)) merge(&other, grown);
    }
    for (std::set<int>& other : before_) {
      if (other.count(place)) merge(&other, grown);
    }
  }

  // ONNX Runtime has these for all types.
  static bool moves(const Node& node) {
    for (const char* op : {"Cast", "Reshape", "Transpose", "Gather", "Concat", "Squeeze",
                           "Unsqueeze", "Identity", "Flatten"}) {
      if (node.is(op)) return true;
    }
    return false;
  }

  bool wants(const Node& node) const {
    if (!node.domain.empty() && node.domain != "com.microsoft") return false;
    if (node.is("Shape") || node.is("Size")) return false;
    const Value* first = g.input(node, 0);
    // A table of embeddings stays as narrow as it is.
    if (node.is("Gather") && first != nullptr && first->constant != nullptr) return false;
    bool narrow = false;
    for (const std::vector<int>* list : {&node.inputs, &node.outputs}) {
      for (const int value : *list) {
        if (value < 0) continue;
        const int32_t type = g.values[value].type;
        if (type == 0 || type == kString) return false;
        narrow |= type == kBfloat16;
      }
    }
    return narrow && Widened::possible(g, node);
  }
};

}  // namespace

std::vector<std::vector<int>> Claims::fused() const {
  std::vector<std::vector<int>> lists;
  for (const Group& group : groups) lists.push_back(group.nodes);
  for (const Norm& norm : norms) lists.push_back(norm.nodes);
  for (const Attention& attention : attentions) lists.push_back({attention.node});
  return lists;
}

Claims claim(const Graph& graph, const Policy& policy) {
  Claims claims = Matcher(graph, policy).run();
  claims.widened = Clusters(graph, claims.fused()).lists;
  return claims;
}

}  // namespace exn::ort
