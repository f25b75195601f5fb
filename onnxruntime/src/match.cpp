// SPDX-License-Identifier: Apache-2.0
#include "match.h"

#include <exeunt/exeunt.h>

#include <algorithm>
#include <cmath>

#include "clusters.h"
#include "products.h"
#include "worth.h"

namespace exn::ort {
namespace {

// Of fewer elements in a row, ONNX Runtime's softmax is as fast or faster.
constexpr int64_t kWideSoftmax = 4096;

// Whether ONNX Runtime numbers fused nodes anew in each body of an If, Loop or Scan, so that two of
// one name may meet, which it refuses: before 1.24.4.
bool confuses_bodies(const Policy& policy) {
  return policy.release < 24 || (policy.release == 24 && policy.patch < 4);
}

class Matcher {
 public:
  Matcher(const Graph& graph, const Policy& policy, const Refused& refused)
      : g(graph),
        m_(graph),
        policy_(policy),
        products_(m_, policy),
        refused_(refused),
        owner_(graph.nodes.size()) {}

  Claims run() {
    if (g.body && confuses_bodies(policy_)) {
      claims_.declined.push_back(
          "a body: before 1.24.4 ONNX Runtime gives fused nodes of bodies the "
          "names of others");
      return std::move(claims_);
    }
    for (const auto& [node, why] : refused_) decline(node, why);
    groups();
    norms();
    attentions();
    add_clusters(g, refused_, &claims_);
    bundle(g, &claims_);
    return std::move(claims_);
  }

 private:
  const Graph& g;
  Patterns m_;
  const Policy& policy_;
  Products products_;
  const Refused& refused_;
  Claims claims_;
  std::vector<size_t> owner_;  // of each node: the claim it is in, from 1 on

  void decline(int node, const std::string& why) {
    claims_.declined.push_back(title_of(g.nodes[node]) + ": " + why);
  }

  // Claims a list of nodes unless something is wrong with it that the patterns should have noticed.
  void add(int node, Claim claim) {
    std::sort(claim.nodes.begin(), claim.nodes.end());
    const std::string wrong = flaw(&claim);
    if (wrong.empty()) {
      claims_.list.push_back(std::move(claim));
    } else {
      for (const int one : claim.nodes) owner_[one] = 0;
      decline(node, wrong);
    }
  }

  std::string flaw(Claim* claim) {
    const size_t number = claims_.list.size() + 1;
    const auto has = [](const std::vector<int>& list, int value) {
      return std::find(list.begin(), list.end(), value) != list.end();
    };
    for (const int node : claim->nodes) {
      if (owner_[node] != 0) return title_of(g.nodes[node]) + " would be taken twice";
      owner_[node] = number;
    }
    for (const int node : claim->nodes) {
      for (const int value : g.nodes[node].inputs) {
        if (value < 0 || g.values[value].fixed) continue;
        const int producer = g.values[value].producer;
        const bool within = producer >= 0 && owner_[producer] == number;
        if (within == has(claim->inputs, value)) {
          return g.values[value].name + " is read otherwise than it would be";
        }
      }
      for (const int value : g.nodes[node].outputs) {
        if (value < 0 || has(claim->outputs, value)) continue;
        const std::vector<int>& readers = g.values[value].consumers;
        if (g.values[value].leaves || std::any_of(readers.begin(), readers.end(), [&](int reader) {
              return owner_[reader] != number;
            })) {
          return "others read " + g.values[value].name;
        }
      }
    }
    for (const int value : claim->inputs) {
      if (g.values[value].fixed) return g.values[value].name + " is a constant";
    }
    std::vector<int>& outputs = claim->outputs;
    outputs.erase(std::remove_if(outputs.begin(), outputs.end(),
                                 [&](int value) { return !g.is_read(value); }),
                  outputs.end());
    return outputs.empty() ? "no node reads its result" : "";
  }

  void groups() {
    std::vector<Group> list;
    std::map<std::pair<int, int64_t>, size_t> by_input;
    for (size_t i = 0; i < g.nodes.size(); ++i) {
      const int node = static_cast<int>(i);
      Product product;
      std::string why;
      if (refused_.count(node) != 0) continue;
      if (products_.start(node, &product, &why)) {
        m_.use(product.nodes);
        // What else a product reads might depend on another of the group.
        const bool alone = product.residual >= 0;
        const size_t next = list.size();
        const size_t at =
            alone ? next
                  : by_input.emplace(std::pair(product.input, product.columns), next).first->second;
        if (at == next) {
          list.emplace_back();
          list.back().input = product.input;
        }
        list[at].products.push_back(std::move(product));
      } else if (!why.empty()) {
        decline(node, why);
      }
    }
    for (Group& group : list) {
      for (Product& product : group.products) {
        products_.follow(&product, group.products.size() == 1);
        products_.describe(&product);
      }
      products_.precede(&group);
      if (!policy_.all && !worth(g, group, policy_.release)) {
        for (const Product& p : group.products) {
          m_.release(p.nodes);
          decline(p.node, "ONNX Runtime is as fast or faster here");
        }
        continue;
      }
      Claim claim;
      claim.inputs = {group.input};
      for (const Product& p : group.products) {
        claim.nodes.insert(claim.nodes.end(), p.nodes.begin(), p.nodes.end());
        if (p.residual >= 0 && p.residual != group.input) claim.inputs.push_back(p.residual);
        if (!p.head) claim.outputs.push_back(p.output);
        for (const std::vector<int>* some : {&p.argmaxes, &p.p1s, &p.max_logits}) {
          claim.outputs.insert(claim.outputs.end(), some->begin(), some->end());
        }
      }
      const int node = group.products[0].node;
      claim.what = std::move(group);
      add(node, std::move(claim));
    }
  }

  void norms() {
    for (size_t i = 0; i < g.nodes.size(); ++i) {
      const int node = static_cast<int>(i);
      Claim claim;
      Norm norm;
      std::string why;
      if (!m_.free(node) || refused_.count(node) != 0) continue;
      if (!alone(node, &norm, &claim.nodes, &why)) {
        if (!why.empty()) decline(node, why);
        continue;
      }
      norm.node = node;
      norm.text = title_of(g.nodes[i]) + ": " + (norm.skip >= 0 ? "sum, " : "") +
                  (norm.softmax                  ? "softmax"
                   : norm.kind == EXN_NORM_LAYER ? "LayerNorm"
                                                 : "RMSNorm");
      m_.use(claim.nodes);
      claim.inputs = {norm.input};
      if (norm.skip >= 0 && norm.skip != norm.input) claim.inputs.push_back(norm.skip);
      for (const int value : {norm.output, norm.sum}) {
        if (value >= 0) claim.outputs.push_back(value);
      }
      claim.what = std::move(norm);
      add(node, std::move(claim));
    }
  }

  // A norm or softmax that begins with this node, and that no product took.
  bool alone(int index, Norm* norm, std::vector<int>* nodes, std::string* why) const {
    const Node& node = g.nodes[index];
    norm->input = node.input(0);
    if (norm->input < 0 || g.values[norm->input].fixed || !is_float(g.values[norm->input].type)) {
      return false;
    }
    const int64_t width = m_.width(norm->input);
    if (width < 1) return false;
    *nodes = {index};
    norm->output = node.output(0);
    norm->softmax = m_.softmax(node);
    if (norm->softmax) {
      if (width >= kWideSoftmax && g.values[norm->input].type != kFloat16) return true;
      *why = "rows that are f16, or of less than " + std::to_string(kWideSoftmax) +
             " elements, are as fast elsewhere";
      return false;
    }
    NormPattern found;
    if (node.is("ReduceMean") ? m_.spelt_out(norm->input, width, &found)
                              : m_.norm_op(index, width, &found)) {
      *nodes = found.nodes;
      norm->kind = found.kind;
      norm->weight = found.weight;
      norm->bias = found.bias;
      norm->eps = found.eps;
      norm->output = found.output;
      return true;
    }
    return skipped(node, width, norm);
  }

  bool skipped(const Node& node, int64_t width, Norm* norm) const {
    const bool layer = microsoft(node, "SkipLayerNormalization");
    if (!layer && !microsoft(node, "SkipSimplifiedLayerNormalization")) return false;
    norm->skip = node.input(1);
    norm->weight = node.input(2);
    norm->bias = layer ? node.input(3) : -1;
    norm->add = node.input(layer ? 4 : 3);
    norm->sum = node.output(3);
    norm->kind = layer ? EXN_NORM_LAYER : EXN_NORM_RMS;
    norm->eps = g.number(node, "epsilon", 1e-12f);
    const Value& x = g.values[norm->input];
    return norm->skip >= 0 && !g.values[norm->skip].fixed && g.values[norm->skip].type == x.type &&
           (!x.ranked || x.shape.size() == 2 || x.shape.size() == 3) && norm->output >= 0 &&
           node.output(1) < 0 && node.output(2) < 0 && m_.row(norm->weight, width) &&
           (norm->bias < 0 || m_.row(norm->bias, width)) &&
           (norm->add < 0 || m_.row(norm->add, width)) && norm->eps >= 0 &&
           std::isfinite(norm->eps);
  }

  void attentions() {
    for (size_t i = 0; i < g.nodes.size(); ++i) {
      const int node = static_cast<int>(i);
      Attention attention;
      std::string why;
      if (!m_.free(node) || refused_.count(node) != 0) continue;
      if (!grouped(node, &attention, &why)) {
        if (!why.empty()) decline(node, why);
        continue;
      }
      Claim claim;
      claim.nodes = {node};
      for (const int value : g.nodes[i].inputs) {
        if (value >= 0 && !g.values[value].fixed) claim.inputs.push_back(value);
      }
      claim.outputs = g.nodes[i].outputs;
      claim.what = std::move(attention);
      m_.use(claim.nodes);
      add(node, std::move(claim));
    }
  }

  bool grouped(int index, Attention* a, std::string* why) const {
    const Node& node = g.nodes[index];
    if (!microsoft(node, "GroupQueryAttention")) return false;
    const auto given = [&](size_t i) { return node.input(i) >= 0; };
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
               "kv_cache_bit_width", "qk_norm_epsilon", "q_norm_epsilon", "k_norm_epsilon",
               "sliding_window_cache", "causal"});
    const std::string type = wrong_type(node);
    if (!unknown.empty()) {
      *why = "its attribute " + unknown + " is not known here";
    } else if (!type.empty()) {
      *why = type;
    } else if (a->heads < 1 || a->kv_heads < 1 || a->heads > INT32_MAX ||
               a->heads % a->kv_heads != 0) {
      *why = "num_heads " + std::to_string(a->heads) + " is no multiple of kv_num_heads " +
             std::to_string(a->kv_heads);
    } else if (!(a->scale >= 0) || !(a->softcap >= 0) || !std::isfinite(a->scale) ||
               !std::isfinite(a->softcap)) {
      *why = "scale or softcap is below 0, or infinite";
    } else if (g.integer(node, "causal", 1) != 1) {
      *why = "it sees what comes after (causal)";
    } else if (g.integer(node, "local_window_size", -1) != -1 ||
               g.integer(node, "sliding_window_cache", 0) != 0) {
      *why = "it sees a window (local_window_size) and not all that came before";
    } else if (g.integer(node, "smooth_softmax", 0) > 0 || given(11)) {
      *why = "its softmax has a sink (smooth_softmax or head_sink)";
    } else if (given(10)) {
      *why = "it has an attention_bias";
    } else if (g.integer(node, "qk_output", 0) != 0 || node.output(3) >= 0) {
      *why = "its scores are an output";
    } else if (g.integer(node, "kv_cache_bit_width", 0) != 0 ||
               g.text(node, "k_quant_type", "NONE") != "NONE" ||
               g.text(node, "v_quant_type", "NONE") != "NONE" || given(12) || given(13)) {
      *why = "its keys and values are quantised";
    } else if (given(14) || given(15) || given(16) || node.inputs.size() > 17) {
      *why = "it norms query and key, or has inputs that are not known here";
    } else if (!given(5) || !given(6) || given(1) != given(2) || given(3) != given(4) ||
               given(7) != given(8)) {
      *why = "it lacks an input";
    } else if (!g.is_read(node.output(0)) || !g.is_read(node.output(1)) ||
               !g.is_read(node.output(2))) {
      *why = "no node reads its keys and values, or its result";
    } else if ((a->rotary || given(7)) &&
               (!table(node.input(7)) || !table(node.input(8)) ||
                g.values[node.input(7)].shape != g.values[node.input(8)].shape)) {
      *why = "cos_cache and sin_cache are no constant matrices of one shape";
    } else {
      a->text = title_of(node) + ": attention of " + std::to_string(a->heads) + " heads, " +
                std::to_string(a->kv_heads) + " of keys and values" +
                (a->rotary ? ", rotary" : "") + (a->softcap > 0 ? ", softcap" : "");
      return true;
    }
    return false;
  }

  // Which input or output of GroupQueryAttention has another type than query, or than is expected.
  std::string wrong_type(const Node& node) const {
    const int32_t query = node.input(0) < 0 ? 0 : g.values[node.input(0)].type;
    if (!is_float(query)) return "its query is of a type other than f32, f16 and bf16";
    const std::pair<size_t, int32_t> inputs[] = {{1, query},  {2, query},  {3, query}, {4, query},
                                                 {5, kInt32}, {6, kInt32}, {9, kInt64}};
    for (const auto& [i, expected] : inputs) {
      if (const Value* value = g.input(node, i); value != nullptr && value->type != expected) {
        return value->name + " has the ONNX element type " + std::to_string(value->type) +
               ", expected " + std::to_string(expected) + ", beside a query of " +
               std::to_string(query);
      }
    }
    for (size_t i = 0; i < 3; ++i) {
      if (node.output(i) >= 0 && g.values[node.output(i)].type != query) {
        return "it makes another type than that of query";
      }
    }
    return "";
  }

  bool table(int value) const {
    const Value* c = g.constant(value);
    return c != nullptr && is_float(c->type) && c->shape.size() == 2 && c->shape[0] >= 1 &&
           c->shape[1] >= 1;
  }

  std::string unknown_attribute(const Node& node, std::initializer_list<const char*> known) const {
    for (const std::string& name : g.attributes(node)) {
      if (std::find(known.begin(), known.end(), name) == known.end()) return name;
    }
    return "";
  }
};

}  // namespace

std::string title_of(const Node& node) { return node.op + " " + node.name; }

Claims claim(const Graph& graph, const Policy& policy, const Refused& refused) {
  return Matcher(graph, policy, refused).run();
}

}  // namespace exn::ort
