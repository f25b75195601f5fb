// SPDX-License-Identifier: Apache-2.0
// A group of products, ready to run: weights in exeunt's layout, inputs and outputs by their number
// in the node that ONNX Runtime made of the group.
#pragma once

#include <memory>

#include "frame.h"
#include "head.h"
#include "match.h"
#include "weights.h"

namespace exn::ort {

class Plan : public Step {
 public:
  Plan(const Graph& graph, const Group& group, const Settings& settings);

  // The weights of a product of the group. Fails if they do not fit what they are to become.
  void prepare(const Graph& graph, const Product& product, Store* store);

  void bind(const Places& inputs, const Places& outputs) override;
  void run(Frame& frame) const override;

 private:
  struct Output {
    Slot slot;
    bool reduced = false;
  };
  struct Linear {
    std::shared_ptr<const Weights> weights;
    std::vector<float> bias, norm_weight, norm_bias;
    bool matrix = false;
    Activation activation = Activation::kNone;
    bool added = false, adds_c = false;
    Slot residual;
    int norm = 0;
    float eps = 0;
    bool head = false;
    std::vector<Output> outputs;  // one, but of a head
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

  static std::vector<int64_t> shape_of(const Linear& linear, const TensorView& input,
                                       int64_t elements);
  void check_input(const TensorView& input) const;
  void run_linears(Frame& frame, const TensorView& input) const;
  void finish(Frame& frame, const Linear& linear, const Target& t) const;
  void run_heads(Frame& frame, const Linear& linear, const TensorView& input) const;
  RowOfHead unclear(const Linear& linear, const TensorView& input, int64_t row) const;
  void multiply(Tensor* x, Tensor* weight, int32_t blocks, Tensor* bias, Tensor* residual,
                Tensor* out) const;
  TensorView prepared(Frame& frame, const TensorView& input, Scratch::Block* block) const;
  std::vector<Part> parts(int64_t rows) const;
  void run_parts(Frame& frame, const TensorView& input, const std::vector<Target>& targets) const;
  void run_part(const Part& part, const Rows& x, const Target& t) const;

  const Api& api_;
  int64_t threads_;
  Slot input_;
  int64_t columns_;
  bool pairs_;                 // bf16 times bf16 is what this processor does best
  int32_t prologue_type_ = 0;  // what a Cast makes of the input, or its own
  int prologue_norm_ = 0;
  std::vector<float> prologue_weight_, prologue_bias_;
  float prologue_eps_ = 0;
  std::vector<Linear> linears_;
  mutable Scratch scratch_;
};

}  // namespace exn::ort
