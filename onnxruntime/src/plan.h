// SPDX-License-Identifier: Apache-2.0
// A group of products, ready to run: weights in exeunt's layout, inputs and outputs by their number
// in the node that ONNX Runtime made of the group.
#pragma once

#include <memory>

#include "calls.h"
#include "match.h"

namespace exn::ort {

struct Weights {
  Memory memory;
  int64_t offset = 0;   // of the first row
  bool panels = false;  // packed (exeunt/pack.h), 32 rows in each
  int32_t type = 0;     // kUint8: blocks, or panels
  int32_t blocks = 0;   // EXN_BLOCKS_*
  int64_t rows = 0, columns = 0, row_bytes = 0;

  char* row(int64_t i) const { return memory.as<char>() + offset + i * row_bytes; }
};

class Plan : public Step {
 public:
  // `inputs`, `outputs`: names of those of the fused node.
  Plan(const Graph& graph, const Group& group, const std::vector<std::string>& inputs,
       const std::vector<std::string>& outputs, const Settings& settings);

  // From several threads at the same time, if need be.
  void run(OrtKernelContext* context) const override;

 private:
  struct Output {
    size_t index = 0;
    int32_t type = 0;
    bool reduced = false;
  };
  struct Linear {
    Weights weights;
    std::vector<float> bias, norm_weight, norm_bias;
    Activation activation = Activation::kNone;
    int residual = -1;
    int norm = 0;
    float eps = 0;
    bool head = false;
    Output output;
    std::vector<Output> argmaxes, p1s, max_logits;
  };
  // Where the results of a product go.
  struct Target {
    TensorView out, plain;     // the node's output; the rows before norm and change of type
    TensorView residual, sum;  // f32
    bool fused = false;        // the residual is of the product's shape
    bool narrowed = false;     // each part goes to `out` in its type; there is no `plain`
  };
  struct Part {  // rows [begin, end) of the weights of a product, and some of its input
    size_t product;
    int64_t begin, end, row, rows;
  };
  struct Rows {
    char* data;
    int32_t type;
    int64_t stride;
    char* row(int64_t i) const { return data + i * stride * bytes_of(type); }
  };

  void run_linears(OrtKernelContext* context, const TensorView& input) const;
  void run_heads(OrtKernelContext* context, const Linear& linear, const TensorView& input) const;
  TensorView prepared(OrtKernelContext* context, const TensorView& input,
                      Scratch::Block* block) const;
  std::vector<Part> parts(int64_t rows) const;
  void run_parts(OrtKernelContext* context, const TensorView& input,
                 const std::vector<Target>& targets) const;
  void run_part(const Part& part, const Rows& x, const Target& t) const;

  const Api& api_;
  int64_t threads_;
  size_t input_ = 0;
  int32_t prologue_type_ = 0;  // what a Cast makes of the input; 0: there is none
  int prologue_norm_ = 0;
  std::vector<float> prologue_weight_, prologue_bias_;
  float prologue_eps_ = 0;
  std::vector<Linear> linears_;
  mutable Scratch scratch_;
};

}  // namespace exn::ort
