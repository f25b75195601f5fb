// SPDX-License-Identifier: Apache-2.0
// Which nodes of a graph this provider runs, and as what.
#pragma once

#include <string>
#include <vector>

#include "graph.h"

namespace exn::ort {

enum class Activation { kNone, kRelu, kGelu, kGeluTanh, kSilu };

// Where the weights of a product come from.
enum class Storage { kDense, kBits, kDequantised };

// act(x W + b) + residual, normalised: what follows a product with constant weights and can be
// computed before anybody else sees it. Numbers are values of the graph; -1: there is none.
struct Product {
  std::vector<int> nodes;
  int node = -1;  // the product
  int input = -1;
  int32_t product_type = 0;  // of the operands as the graph has them
  Storage storage = Storage::kDense;
  int weight = -1;
  bool transposed = false;  // weight is [N,K]
  int scales = -1, zeros = -1;
  int64_t block = 0;  // elements that share a scale; 0: a column, -1: all
  int64_t bits = 0;
  int64_t columns = 0, rows = 0;  // K, N
  int bias = -1;
  Activation activation = Activation::kNone;
  int residual = -1;
  int norm = 0;  // EXN_NORM_*
  int norm_weight = -1, norm_bias = -1;
  float eps = 0;
  int output = -1;

  // In place of an output: statistics of the softmax of the row, or of the row.
  bool head = false;
  std::vector<int> argmaxes, p1s, max_logits;  // several nodes may ask for the same
  std::vector<int> reduced;                    // those of them that lose the axis

  std::string text;  // for the report
};

// Products that are one node to ONNX Runtime. They share their input, and what is done to it first.
struct Group {
  std::vector<int> nodes;
  int input = -1;  // before cast and norm
  int prologue_norm = 0, prologue_weight = -1, prologue_bias = -1;
  float prologue_eps = 0;
  std::vector<Product> products;
};

// A norm with no product beside it, of x or of x + skip + add, or a softmax.
struct Norm {
  std::vector<int> nodes;
  int input = -1, skip = -1, add = -1;  // add: a constant row
  int kind = 0;                         // EXN_NORM_*
  int weight = -1, bias = -1;
  float eps = 0;
  int output = -1, sum = -1;
  bool softmax = false;
  std::string text;
};

// GroupQueryAttention of ONNX Runtime's.
struct Attention {
  int node = -1;
  int64_t heads = 0, kv_heads = 0;
  float scale = 0, softcap = 0;  // scale 0: that of the size of a head
  bool rotary = false, interleaved = false;
  std::string text;
};

struct Policy {
  bool f32 = true;  // take products of f32 weights too
};

struct Settings {
  int64_t threads = 1;  // how many parts of a node are worth making
  Policy policy;
  std::string report;
};

struct Claims {
  std::vector<Group> groups;
  std::vector<Norm> norms;
  std::vector<Attention> attentions;
  // Nodes of bf16 that ONNX Runtime has for f32 alone, together with what lies between them.
  std::vector<std::vector<int>> widened;
  // What becomes one node each, but for those.
  std::vector<std::vector<int>> fused() const;
  std::vector<std::string> declined;  // NODE: why, for what is near to what is taken
};

Claims claim(const Graph& graph, const Policy& policy);

}  // namespace exn::ort
