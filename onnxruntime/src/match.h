// SPDX-License-Identifier: Apache-2.0
// Which nodes of a graph this provider runs, and as what.
#pragma once

#include <map>
#include <string>
#include <variant>
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
  bool matrix = false;       // Gemm: its input has two axes
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
  bool adds_c = false;  // the residual is C of Gemm, which makes nothing larger
  int norm = 0;         // EXN_NORM_*
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
  int input = -1;  // before cast and norm
  int prologue_norm = 0, prologue_weight = -1, prologue_bias = -1;
  float prologue_eps = 0;
  std::vector<Product> products;
};

// A norm with no product beside it, of x or of x + skip + add, or a softmax.
struct Norm {
  int node = -1;                        // the first
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

// Nodes of bf16 that ONNX Runtime has for f32 alone, together with what lies between them.
struct Cluster {};

// What becomes one node.
struct Claim {
  std::vector<int> nodes;            // in the order of the graph
  std::vector<int> inputs, outputs;  // what it reads of others, and what others read
  std::variant<Group, Norm, Attention, Cluster> what;
};

struct Policy {
  bool f32 = true;   // take products of f32 weights too
  bool all = false;  // take also what ONNX Runtime alone computes as fast
  // Of ONNX Runtime: 24 for 1.24, and 4 for 1.24.4.
  int release = 0, patch = 0;
};

struct Settings {
  int64_t threads = 1;  // how many parts of a node are worth making
  Policy policy;
  std::string report;
};

// Nodes that are not to be taken though they look as if they could, and why.
using Refused = std::map<int, std::string>;

struct Claims {
  std::vector<Claim> list;  // no node is in two of them
  // Claims that are one node to ONNX Runtime, by their number, in an order in which they can run.
  std::vector<std::vector<size_t>> fused;
  std::vector<std::string> declined;  // NODE: why, for what is near to what is taken
};

Claims claim(const Graph& graph, const Policy& policy, const Refused& refused);

// What the report calls a node.
std::string title_of(const Node& node);

}  // namespace exn::ort
