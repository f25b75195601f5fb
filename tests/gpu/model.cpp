// SPDX-License-Identifier: Apache-2.0
#include "model.h"

#include "model_case.h"

namespace exn::gpu {

ModelShape rehearsal_shape() {
  ModelShape small;
  small.dim = 96, small.block_dim = 768, small.vocab = 384, small.width = 112;
  small.kv_heads = 2, small.head_dim = 32;
  small.shortlist = 48;
  small.batches = {1, 3};
  small.slots = {64, 144};
  small.layers = {1, 3};
  small.windows = {2, 4};
  small.scored_slots = small.slots;
  small.other_widths = {40};
  return small;
}

ModelShape counted_shape() {
  ModelShape shape;
  shape.scored_slots = {512};
  shape.other_widths = {64, 80, 96, 192, 256};
  return shape;
}

std::vector<ModelWork> model_work(const ModelShape& m) {
  using namespace model;
  std::vector<ModelWork> all;
  const int64_t keys = m.kv_heads * m.head_dim, most = m.batches.back();
  for (const int64_t group : m.groups) {
    for (const int64_t slots : m.slots) {
      for (const int64_t rows : m.batches)
        all.push_back(attention(rows, group * m.kv_heads, m.kv_heads, m.head_dim, slots));
    }
  }
  for (const int64_t window : m.windows) {
    for (const int64_t slots : m.scored_slots) {
      all.push_back(
          attention_scores(window, m.groups[0] * m.kv_heads, m.kv_heads, m.head_dim, slots));
    }
  }
  all.push_back(cross_entropy(most, m.vocab));
  for (const int64_t shortlist : {int64_t{0}, m.shortlist}) {
    for (const int64_t rows : m.batches) all.push_back(exit_head(rows, m.dim, m.vocab, shortlist));
  }
  for (const int64_t rows : m.batches) all.push_back(ffn(rows, m.dim, m.width));
  for (const int64_t layers : m.layers) {
    for (const int64_t rows : m.batches)
      all.push_back(kv_propagate(rows, layers, m.dim, m.kv_heads, m.head_dim));
  }
  for (const int64_t cols : {m.dim, keys, m.width}) {
    for (const int64_t rows : m.batches) all.push_back(linear(rows, m.dim, cols));
  }
  for (const char* format : m.formats) {
    for (const int64_t rows : {m.batches[0], m.batches[1]})
      all.push_back(linear_blocks(format, rows, m.block_dim, m.width));
  }
  for (const int64_t rows : {most, m.slots[0]}) all.push_back(norm(rows, m.dim));
  for (const int64_t rows : {most, m.slots[0]}) {
    all.push_back(rope(rows, (m.groups[0] + 1) * m.kv_heads, m.head_dim, Type::kBF16));
  }
  for (const int64_t width : m.other_widths) {
    for (const Type type : {Type::kBF16, Type::kF32})
      all.push_back(rope(most, (m.groups[0] + 1) * m.kv_heads, width, type));
  }
  for (const int64_t rows : m.batches) all.push_back(row_stats(rows, m.vocab));
  for (const int64_t slots : m.slots) {
    all.push_back(select(1, slots, m.shortlist / 2));
    all.push_back(select(m.kv_heads, slots, m.shortlist / 2));
  }
  for (const int64_t rows : m.batches) all.push_back(stablemax(rows, m.vocab));
  return all;
}

}  // namespace exn::gpu
