// SPDX-License-Identifier: Apache-2.0
// GroupQueryAttention: prompts and decoding over keys and values that the graph hands from run to
// run, in a buffer of its own each time or in one that past and present share.
#pragma once

#include "frame.h"
#include "match.h"

namespace exn::ort {

class GroupQuery : public Step {
 public:
  GroupQuery(const Graph& graph, const Attention& attention, const Settings& settings);

  void bind(const Places& inputs, const Places& outputs) override;
  void run(Frame& frame) const override;

 private:
  // An input of the fused node, or a constant, which is none.
  struct Operand {
    bool given = false, held = false;
    Slot slot;
    TensorView constant;  // of `bytes`, if held
    std::vector<char> bytes;
  };
  struct Call;

  TensorView view(const Frame& frame, const Operand& operand) const;
  Call prepared(Frame& frame) const;
  void attend(const Call& call, int64_t sequence, int64_t begin, int64_t end) const;

  const Api& api_;
  const int64_t threads_, heads_, kv_heads_;
  const float scale_, softcap_;
  const bool rotary_, interleaved_;
  int32_t type_;
  Operand query_, key_, value_, past_key_, past_value_, lengths_, total_, positions_;
  Slot out_, present_key_, present_value_;
  std::vector<float> table_;  // [positions, pairs, 2]
  int64_t table_rows_ = 0, table_pairs_ = 0;
  mutable Scratch scratch_;
};

}  // namespace exn::ort
