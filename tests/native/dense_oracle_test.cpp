// SPDX-License-Identifier: Apache-2.0
// The oracles of the dense layer ops against rows worked out by hand.
#include <gtest/gtest.h>

#include <cmath>

#include "ffn/case.h"
#include "kv_propagate/case.h"
#include "linear/case.h"
#include "norm/case.h"
#include "rope/case.h"
#include "rope_table/case.h"

namespace exn::test {
namespace {

HostTensor matrix(const std::vector<std::vector<double>>& rows) {
  HostTensor t = make_tensor(
      Type::kF32, {static_cast<int64_t>(rows.size()), static_cast<int64_t>(rows[0].size())});
  for (size_t r = 0; r < rows.size(); ++r) {
    for (size_t c = 0; c < rows[r].size(); ++c) {
      t.set(static_cast<int64_t>(r), static_cast<int64_t>(c), rows[r][c]);
    }
  }
  return t;
}

HostTensor vector(const std::vector<double>& values) {
  HostTensor t = make_tensor(Type::kF32, {static_cast<int64_t>(values.size())});
  for (size_t i = 0; i < values.size(); ++i) t.set(0, static_cast<int64_t>(i), values[i]);
  return t;
}

void expect_values(const std::vector<Expected>& got, const std::vector<double>& values,
                   double error = 1e-9) {
  ASSERT_EQ(got.size(), values.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i].value, values[i], error) << i;
}

TEST(NormOracle, ByHand) {
  NormCase c;
  const NormInputs in = {matrix({{3, 4, 0, 0}}), vector({1, 2, 1, 1}), {}};
  c.norm = EXN_NORM_RMS;  // mean square 25/4
  expect_values(norm_oracle(c, in), {1.2, 3.2, 0, 0});
  c.norm = EXN_NORM_LAYER;  // 1 3 -1 -3: mean 0, variance 5; with eps 4 the deviation is 3
  c.eps = 4;
  const NormInputs layer = {matrix({{3, 5, 1, -1}}), vector({3, 3, 3, 6}), vector({0, 1, 0, 0})};
  expect_values(norm_oracle(c, layer), {1, 4, -1, -6});
}

TEST(RopeOracle, TableByHand) {
  RopeTableCase c;
  c.positions = 3;
  c.pairs = 2;
  c.base = 100;  // frequencies 1 and 1/10
  const std::vector<Expected> t = rope_table_oracle(c);
  expect_values({t[0], t[1], t[2], t[3]}, {1, 0, 1, 0});
  expect_values({t[8], t[9], t[10], t[11]},
                {std::cos(2.0), std::sin(2.0), std::cos(0.2), std::sin(0.2)});
  c.factor = 4;
  c.scaling = EXN_ROPE_SCALING_LINEAR;
  EXPECT_NEAR(rope_table_oracle(c)[9].value, std::sin(0.5), 1e-12);
  c.scaling = EXN_ROPE_SCALING_NTK;  // base 100 * 4^(4/2) = 1600, frequency 1/40
  EXPECT_NEAR(rope_table_oracle(c)[11].value, std::sin(0.05), 1e-12);
}

TEST(RopeOracle, RotatesByHand) {
  RopeCase c;
  c.heads = 1;
  c.dim = 5;
  c.pairs = 2;
  c.positions = 2;
  RopeInputs in;
  in.input = matrix({{1, 2, 3, 4, 9}});
  in.position = make_integers({1});
  in.table = vector({1, 0, 1, 0, 0, 1, -1, 0});  // at position 1: a quarter turn, a half turn
  c.style = EXN_ROPE_HALF;                       // pairs (1, 3) and (2, 4)
  expect_values(rope_oracle(c, in), {-3, -2, 1, -4, 9});
  c.style = EXN_ROPE_INTERLEAVED;  // pairs (1, 2) and (3, 4)
  expect_values(rope_oracle(c, in), {-2, 1, -3, -4, 9});
}

TEST(LinearOracle, ByHand) {
  LinearCase c;
  LinearInputs in;
  in.input = matrix({{1, 2}, {-1, 0}});
  in.weight = matrix({{3, 4}, {5, 6}, {7, 8}});
  in.bias = vector({1, 0, -1});
  in.residual = matrix({{10, 20, 30}, {40, 50, 60}});
  expect_values(linear_oracle(c, in), {22, 37, 52, 38, 45, 52});
  c.adapter_down.rows = 1;
  in.down = matrix({{1, 1}});
  in.up = matrix({{1, 0, -1}});
  in.scale = matrix({{2}, {0}});  // t is 6 and 0
  expect_values(linear_oracle(c, in), {28, 37, 46, 38, 45, 52});
}

TEST(FfnOracle, ByHand) {
  FfnCase c;
  c.hidden.cols = 2;
  c.width = 1;
  c.norm = EXN_NORM_NONE;
  FfnInputs in;
  in.hidden = matrix({{3, 4}, {0, 0}});
  in.gate_weight = matrix({{1, 0}});
  in.up_weight = matrix({{0, 1}});
  in.down_weight = matrix({{1}, {0}});
  const double a = 3 / (1 + std::exp(-3.0)) * 4;  // silu(3) * 4, all of it along the first axis
  const FfnExpected e = ffn_oracle(c, in);
  expect_values(e.out, {3 + a, 4, 0, 0});
  expect_values(e.branch_cosine, {0.6, 0});
  expect_values(e.cosine, {(3 * (3 + a) + 16) / (5 * std::hypot(3 + a, 4)), 0});
  c.gate = false;
  in.gate_weight = {};
  c.activation = EXN_ACT_GELU;  // Phi(4) = 0.99996832875816688
  expect_values(ffn_oracle(c, in).out, {3 + 4 * 0.99996832875816688, 4, 0, 0});
  c.activation = EXN_ACT_GELU_TANH;
  expect_values(ffn_oracle(c, in).out,
                {3 + 2 * (1 + std::tanh(0.7978845608028654 * (4 + 0.044715 * 64))), 4, 0, 0});
  in.skip = make_tensor(Type::kU8, {2});
  in.skip.set_integer(0, 200);
  in.skip.set_integer(1, 0);
  expect_values(ffn_oracle(c, in).out, {3, 4, 0, 0});
  EXPECT_TRUE(std::isnan(ffn_oracle(c, in).cosine[0].value));
}

TEST(KvPropagateOracle, ByHand) {
  KvPropagateCase c;
  c.hidden.rows = 3;
  c.hidden.cols = 2;
  c.cache.dim = 2;
  c.cache.slots = 3;
  c.layers = 2;
  c.norm = EXN_NORM_NONE;
  c.pairs = 1;
  KvPropagateInputs in;
  in.hidden = matrix({{1, 0}, {0, 1}, {5, 5}});
  in.exit_layer = make_integers({0, 2, -1});
  in.slot = make_integers({2, 0, 1});
  in.position = make_integers({0, 1, 0});
  in.table = vector({1, 0, 0, 1});  // a quarter turn at position 1
  for (int32_t j = 1; j < 3; ++j) {
    KvLayerInputs layer;
    layer.index = j;
    layer.k_weight = matrix({{1, 2}, {3, 4}});
    layer.v_weight = matrix({{5, 6}, {7, 8}});
    layer.v_bias = vector({10, 20});
    layer.cache.k = layer.cache.v = vector({-1, -2, -3, -4, -5, -6});
    layer.cache.k.shape = layer.cache.v.shape = {1, 3, 2};
    in.layers.push_back(layer);
  }
  const std::vector<KvLayerExpected> e = kv_propagate_oracle(c, in);
  expect_values(e[0].k, {-1, -2, -3, -4, 1, 3});  // layer 1: only row 0 has left, into slot 2
  expect_values(e[0].v, {-1, -2, -3, -4, 15, 27});
  expect_values(e[1].k, {-4, 2, -3, -4, 1, 3});  // layer 2: row 1 too, turned
  expect_values(e[1].v, {16, 28, -3, -4, 15, 27});
}

}  // namespace
}  // namespace exn::test
