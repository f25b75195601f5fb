// SPDX-License-Identifier: Apache-2.0
#include "products.h"

#include <exeunt/exeunt.h>

#include <algorithm>
#include <cmath>

#include "elementwise.h"
#include "weights.h"

namespace exn::ort {
namespace {

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

int64_t count_of(const Value& constant) {
  int64_t count = 1;
  for (const int64_t extent : constant.shape) count *= extent;
  return count;
}

// Whether a constant of MatMulNBits has `each` elements for each of its rows, in one axis or two.
bool holds_rows(const Value& constant, int64_t rows, int64_t each) {
  using Shape = std::vector<int64_t>;
  return constant.shape == Shape{rows * each} || constant.shape == Shape{rows, each};
}

}  // namespace

// ---- the product itself ----

bool Products::start(int index, Product* p, std::string* why) const {
  const Node& node = g.nodes[index];
  const bool bits = microsoft(node, "MatMulNBits");
  if (!node.is("MatMul") && !node.is("Gemm") && !bits) return false;
  p->node = index;
  p->nodes = {index};
  p->input = node.input(0);
  p->output = node.output(0);
  if (p->input < 0 || node.input(1) < 0) {
    *why = "it lacks an input";
    return false;
  }
  if (!g.is_read(p->output)) {
    *why = "no node reads its result";
    return false;
  }
  const Value& x = g.values[p->input];
  p->product_type = x.type;
  if (!is_float(x.type) || !is_float(g.values[p->output].type)) {
    *why = "its input is of a type other than f32, f16 and bf16";
    return false;
  }
  if (x.fixed) {
    *why = "its input is a constant";
    return false;
  }
  if (!(bits ? start_bits(node, p, why) : start_dense(node, p, why))) return false;
  const int64_t width = m.width(p->input);
  if (width >= 0 && width != p->columns) {
    *why = "its input has rows of " + std::to_string(width) + " elements, its weights are for " +
           std::to_string(p->columns);
    return false;
  }
  *why = unheld(g, *p);
  return why->empty();
}

bool Products::start_dense(const Node& node, Product* p, std::string* why) const {
  const Value& x = g.values[p->input];
  p->matrix = node.is("Gemm");
  if (p->matrix && x.ranked && x.shape.size() != 2) {
    *why = "its input has " + std::to_string(x.shape.size()) + " axes, expected 2";
    return false;
  }
  if (p->matrix) {
    if (g.integer(node, "transA", 0) != 0 || g.number(node, "alpha", 1) != 1.0f ||
        g.number(node, "beta", 1) != 1.0f) {
      *why = "transA, alpha and beta are not 0, 1 and 1";
      return false;
    }
    p->transposed = g.integer(node, "transB", 0) != 0;
  }
  const int weight = node.inputs[1];
  if (g.constant(weight) == nullptr) {
    const int producer = g.values[weight].producer;
    if (producer < 0 || !g.nodes[producer].is("DequantizeLinear")) {
      *why = "its right operand is no constant";
      return false;
    }
    if (!start_dequantised(producer, p, why)) return false;
  } else {
    p->weight = weight;
  }
  const Value& w = *g.constant(p->weight);
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
  if (p->storage == Storage::kDense && w.type == kFloat && !policy_.f32 &&
      !holds_bf16(view_of(g.api, w.constant))) {
    *why = "its weights are f32, which option f32 leaves alone";
    return false;
  }
  if (p->matrix && node.input(2) >= 0 && !take_bias(p, node.input(2)) &&
      !take_sum(p, node.input(2))) {
    *why = "C is neither a row nor a matrix of rows like those of the result, or A as well";
    return false;
  }
  return true;
}

bool Products::start_bits(const Node& node, Product* p, std::string* why) const {
  p->storage = Storage::kBits;
  p->transposed = true;
  p->columns = g.integer(node, "K", 0);
  p->rows = g.integer(node, "N", 0);
  p->bits = g.integer(node, "bits", 4);
  p->block = g.integer(node, "block_size", 0);
  p->weight = node.input(1);
  p->scales = node.input(2);
  p->zeros = node.input(3);
  const int bias = node.input(5);
  const Value *weight = g.constant(p->weight), *scales = g.constant(p->scales),
              *zeros = g.constant(p->zeros);
  const auto all = [](int64_t extent) { return extent >= 1 && extent <= INT32_MAX; };
  if (p->bits != 4 && p->bits != 8) {
    *why = "bits is " + std::to_string(p->bits) + ", expected 4 or 8";
  } else if (!all(p->columns) || !all(p->rows)) {
    *why = "K is " + std::to_string(p->columns) + " and N " + std::to_string(p->rows) +
           ", expected 1 or more";
  } else if (p->block < 32 || (p->block & (p->block - 1)) != 0 || p->columns % p->block != 0) {
    *why = "K " + std::to_string(p->columns) + " is no multiple of block_size " +
           std::to_string(p->block) + ", or that no power of 2 from 32 on";
  } else if (g.integer(node, "weight_prepacked", 0) != 0) {
    *why = "its weights are in the layout of another provider (weight_prepacked)";
  } else if (node.input(4) >= 0) {
    *why = "its columns are in another order (g_idx)";
  } else if (weight == nullptr || scales == nullptr || (p->zeros >= 0 && zeros == nullptr)) {
    *why = "its weights are no constants";
  } else if (zeros != nullptr && (p->bits == 8 || zeros->type != kUint8)) {
    *why = "zero points are taken of 4 bits, packed, only";
  } else {
    const int64_t per_row = p->columns / p->block;
    const std::vector<int64_t> expected = {p->rows, per_row, p->block * p->bits / 8};
    if (weight->type != kUint8 || weight->shape != expected) {
      *why = "B is " + text_of(weight->shape) + ", expected u8 " + text_of(expected);
    } else if (!is_float(scales->type) || !holds_rows(*scales, p->rows, per_row)) {
      *why = "scales is " + text_of(scales->shape) + ", expected " + std::to_string(per_row) +
             " for each of " + std::to_string(p->rows) + " rows";
    } else if (zeros != nullptr && !holds_rows(*zeros, p->rows, (per_row + 1) / 2)) {
      *why = "zero_points is " + text_of(zeros->shape) + ", expected " +
             std::to_string((per_row + 1) / 2) + " bytes for each of " + std::to_string(p->rows) +
             " rows";
    } else if (bias >= 0 && !take_bias(p, bias)) {
      *why = "its bias is no constant row";
    } else {
      return true;
    }
  }
  return false;
}

bool Products::start_dequantised(int index, Product* p, std::string* why) const {
  const Node& dequantise = g.nodes[index];
  const int weight = dequantise.input(0), scale = dequantise.input(1), zero = dequantise.input(2);
  const Value *w = g.constant(weight), *s = g.constant(scale), *z = g.constant(zero);
  if (w == nullptr || s == nullptr || (zero >= 0 && z == nullptr)) {
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
  if (!is_float(s->type) || (z != nullptr && (z->type != w->type || z->shape != s->shape))) {
    *why = "its scales are " + std::string(type_name(s->type)) + " " + text_of(s->shape) +
           ", its zero points " + (z == nullptr ? "none" : type_name(z->type)) + " " +
           text_of(z == nullptr ? std::vector<int64_t>() : z->shape) +
           ", expected as many, of the type of the weights";
    return false;
  }
  const int64_t given = g.integer(dequantise, "axis", 1), axis = given < 0 ? given + 2 : given;
  const int64_t n_axis = p->transposed ? 0 : 1, k_axis = 1 - n_axis;
  const int64_t n = w->shape[n_axis], k = w->shape[k_axis];
  const int64_t blocks = g.integer(dequantise, "block_size", 0);
  std::vector<int64_t> of_blocks = w->shape;
  if (blocks > 0) of_blocks[k_axis] = k / blocks;
  if (k < 1 || k % 32 != 0) {
    *why = "its weights have " + std::to_string(k) + " rows, expected a multiple of 32";
  } else if (blocks == 0 && count_of(*s) == 1 && s->shape.size() <= 1) {
    p->block = -1;
  } else if (blocks == 0 && axis == n_axis && s->shape == std::vector<int64_t>{n}) {
    p->block = 0;
  } else if (blocks > 0 && axis == k_axis && blocks % 32 == 0 && k % blocks == 0 &&
             s->shape == of_blocks) {
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
bool Products::take_bias(Product* p, int value) const {
  const Value* c = g.constant(value);
  if (c == nullptr || !is_float(c->type)) return false;
  if (count_of(*c) != p->rows || c->shape.empty() || c->shape.back() != p->rows) return false;
  if (c->shape.size() > m.axes(p->output)) return false;
  p->bias = value;
  return true;
}

// What a run computes and Gemm adds: a row for all, or one for each.
bool Products::take_sum(Product* p, int value) const {
  const Value& c = g.values[value];
  if (c.fixed || !c.ranked || c.type != g.values[p->output].type || value == p->input) return false;
  if (c.shape.empty() || c.shape.size() > 2 || c.shape.back() != p->rows) return false;
  p->residual = value;
  p->adds_c = true;
  return true;
}

// ---- what follows ----

void Products::follow(Product* p, bool alone) {
  for (bool more = true; more;) {
    more = widened(p) || biased(p) || activated(p);
    if (!more && alone) more = added(p) || normalised(p);
    if (p->norm != EXN_NORM_NONE) break;
  }
  if (alone) head(p);
}

void Products::take(Product* p, const std::vector<int>& nodes, int output) {
  p->nodes.insert(p->nodes.end(), nodes.begin(), nodes.end());
  p->output = output;
  m.use(nodes);
}

bool Products::widened(Product* p) {
  int at, out;
  if (m.reader(p->output, "Cast", &at, &out) == nullptr || g.values[out].type != kFloat) {
    return false;
  }
  take(p, {at}, out);
  return true;
}

bool Products::biased(Product* p) {
  if (p->bias >= 0 || p->residual >= 0 || p->activation != Activation::kNone) return false;
  int at, out;
  const Node* node = m.reader(p->output, "Add", &at, &out);
  if (node == nullptr || !take_bias(p, Patterns::other(*node, p->output))) return false;
  take(p, {at}, out);
  return true;
}

bool Products::added(Product* p) {
  if (p->residual >= 0) return false;
  int at, out;
  const Node* node = m.reader(p->output, "Add", &at, &out);
  if (node == nullptr) return false;
  const int value = Patterns::other(*node, p->output);
  if (value < 0 || value == p->output || g.values[value].fixed) return false;
  const Value& r = g.values[value];
  if (r.type != g.values[p->output].type || !is_float(r.type)) return false;
  // Rows of one element can be broadcast to longer ones, which would be no rows of the product's.
  if (p->rows == 1 && m.width(value) != 1) return false;
  p->residual = value;
  take(p, {at}, out);
  return true;
}

bool Products::activated(Product* p) {
  if (p->activation != Activation::kNone || p->residual >= 0) return false;
  int at;
  const int cur = p->output;
  const Node* node = m.reader(cur, &at);
  if (node != nullptr) {
    Activation found = Activation::kNone;
    if (node->is("Relu")) found = Activation::kRelu;
    if (node->is("Gelu")) {
      const std::string kind = g.text(*node, "approximate", "none");
      if (kind == "tanh") found = Activation::kGeluTanh;
      if (kind == "none") found = Activation::kGelu;
    }
    if (microsoft(*node, "Gelu")) found = Activation::kGelu;
    if (microsoft(*node, "FastGelu") && node->input(1) < 0) found = Activation::kGeluTanh;
    if (found == Activation::kNone || node->output(0) < 0) return false;
    p->activation = found;
    take(p, {at}, node->output(0));
    return true;
  }
  const Value& value = g.values[cur];
  return !value.leaves && value.consumers.size() == 2 && (erf_gelu(p) || silu(p));
}

// x sigmoid(x)
bool Products::silu(Product* p) {
  const int cur = p->output;
  for (const int first : g.values[cur].consumers) {
    const Node& sigmoid = g.nodes[first];
    if (!sigmoid.is("Sigmoid") || !m.free(first)) continue;
    int at, out;
    const Node* product = m.reader(sigmoid.output(0), "Mul", &at, &out);
    if (product == nullptr || Patterns::other(*product, sigmoid.output(0)) != cur) continue;
    p->activation = Activation::kSilu;
    take(p, {first, at}, out);
    return true;
  }
  return false;
}

// x/2 (1 + erf(x / sqrt 2)), with the half at any of its places
bool Products::erf_gelu(Product* p) {
  const int cur = p->output;
  const std::vector<int> uses = g.values[cur].consumers;
  for (int k = 0; k < 2; ++k) {
    const int first = uses[k], rest = uses[1 - k];
    const Node &scaled = g.nodes[first], &beside = g.nodes[rest];
    if (!m.free(first) || !m.free(rest)) continue;
    if (!(scaled.is("Div") && scaled.input(0) == cur &&
          m.is_scalar(scaled.input(1), std::sqrt(2.0f), cur)) &&
        !(scaled.is("Mul") && m.is_scalar(Patterns::other(scaled, cur), std::sqrt(0.5f), cur))) {
      continue;
    }
    int erf_at, erf, plus_at, factor, next_at, next_out, last_at, last_out;
    if (m.reader(scaled.output(0), "Erf", &erf_at, &erf) == nullptr) continue;
    const Node* plus = m.reader(erf, "Add", &plus_at, &factor);
    if (plus == nullptr || !m.is_scalar(Patterns::other(*plus, erf), 1, cur)) continue;
    const Node* next = m.reader(factor, "Mul", &next_at, &next_out);
    if (next == nullptr) continue;
    const auto done = [&](int last, int output) {
      p->activation = Activation::kGelu;
      take(p, {first, erf_at, plus_at, next_at, last}, output);
      return true;
    };
    if (rest == next_at && Patterns::other(*next, factor) == cur) {  // (x f) / 2
      const Node* last = m.reader(next_out, "Mul", &last_at, &last_out);
      if (last != nullptr && m.is_scalar(Patterns::other(*last, next_out), 0.5f, cur)) {
        return done(last_at, last_out);
      }
    } else if (beside.is("Mul") && beside.output(0) >= 0 &&
               m.is_scalar(Patterns::other(beside, cur), 0.5f, cur) &&
               g.only_reader(beside.output(0)) == next_at) {  // (x / 2) f
      return done(rest, next_out);
    } else if (m.is_scalar(Patterns::other(*next, factor), 0.5f, cur)) {  // x (f / 2)
      const Node* last = m.reader(next_out, "Mul", &last_at, &last_out);
      if (last != nullptr && last_at == rest) return done(last_at, last_out);
    }
  }
  return false;
}

bool Products::normalised(Product* p) {
  int at;
  NormPattern norm;
  const Node* node = m.reader(p->output, &at);
  if (node != nullptr ? node->input(0) != p->output || !m.norm_op(at, p->rows, &norm)
                      : !m.spelt_out(p->output, p->rows, &norm)) {
    return false;
  }
  p->norm = norm.kind;
  p->norm_weight = norm.weight;
  p->norm_bias = norm.bias;
  p->eps = norm.eps;
  take(p, norm.nodes, norm.output);
  return true;
}

// ---- heads ----

// Whether all nodes that read the logits want statistics of their rows.
void Products::head(Product* p) {
  if (p->activation != Activation::kNone || p->residual >= 0 || p->norm != EXN_NORM_NONE) return;
  Product found = *p;
  if (!statistics(&found, p->output, false) || found.nodes.size() == p->nodes.size()) return;
  found.head = true;
  m.use(found.nodes);
  *p = std::move(found);
}

bool Products::statistics(Product* p, int value, bool probabilities) const {
  const Value& v = g.values[value];
  if (v.leaves || v.consumers.empty()) return false;
  for (const int at : v.consumers) {
    const Node& node = g.nodes[at];
    const int out = node.output(0);
    if (!m.free(at) || node.input(0) != value) return false;
    p->nodes.push_back(at);
    const auto reduce = [&](std::vector<int>* list) {
      if (out < 0) return false;
      list->push_back(out);
      if (g.integer(node, "keepdims", 1) != 1) p->reduced.push_back(out);
      return true;
    };
    std::vector<int>* largest = probabilities ? &p->p1s : &p->max_logits;
    if (node.is("Softmax") && !probabilities) {
      if (!m.softmax(node) || !statistics(p, out, true)) return false;
    } else if (node.is("ArgMax")) {
      if (!m.over_last(g.integer(node, "axis", 0), value) ||
          g.integer(node, "select_last_index", 0) != 0 || !reduce(&p->argmaxes)) {
        return false;
      }
    } else if (node.is("ReduceMax")) {
      const std::vector<int64_t> axes = m.axes_of(node);
      if (axes.size() != 1 || !m.over_last(axes[0], value) || !reduce(largest)) return false;
    } else if (node.is("TopK")) {
      if (g.longs(node.input(1)) != std::vector<int64_t>{1} ||
          !m.over_last(g.integer(node, "axis", -1), value) || g.integer(node, "largest", 1) != 1) {
        return false;
      }
      if (out >= 0) largest->push_back(out);
      if (node.output(1) >= 0) p->argmaxes.push_back(node.output(1));
    } else {
      return false;
    }
  }
  const auto is_f32 = [&](int out) { return g.values[out].type == kFloat; };
  return std::all_of(p->p1s.begin(), p->p1s.end(), is_f32) &&
         std::all_of(p->max_logits.begin(), p->max_logits.end(), is_f32);
}

// ---- what comes first ----

// Whether only its products read the input of a group, as what they multiply.
bool Products::read_by_products(const Group& group) const {
  const Value& v = g.values[group.input];
  return !v.leaves && std::all_of(v.consumers.begin(), v.consumers.end(), [&](int at) {
    return std::any_of(group.products.begin(), group.products.end(),
                       [&](const Product& p) { return p.node == at; });
  });
}

void Products::precede(Group* group) {
  std::vector<int>& nodes = group->products[0].nodes;
  int at = g.values[group->input].producer;
  bool alone = read_by_products(*group);
  if (at >= 0 && alone && m.free(at) && g.nodes[at].is("Cast")) {
    const int narrow = g.nodes[at].input(0);
    if (narrow < 0 || !is_float(g.values[narrow].type) || g.values[narrow].fixed) return;
    m.use({at});
    nodes.push_back(at);
    group->input = narrow;
    alone = g.only_reader(narrow) == at;
    at = g.values[narrow].producer;
  }
  NormPattern norm;
  if (at < 0 || !alone || !m.norm_op(at, group->products[0].columns, &norm) ||
      g.values[g.nodes[at].input(0)].fixed) {
    return;
  }
  group->prologue_norm = norm.kind;
  group->prologue_weight = norm.weight;
  group->prologue_bias = norm.bias;
  group->prologue_eps = norm.eps;
  m.use(norm.nodes);
  nodes.push_back(at);
  group->input = g.nodes[at].input(0);
}

void Products::describe(Product* p) const {
  const Value& w = g.values[p->weight];
  p->text = title_of(g.nodes[p->node]) + ": ";
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

}  // namespace exn::ort
