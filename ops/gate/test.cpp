// SPDX-License-Identifier: Apache-2.0
#include "gate/case.h"

#include "misuse.h"

namespace exn::test {
namespace {
using Params = exn_gate_params;

const Op<Params> kOp = EXN_TEST_OP(gate);

HostTensor blocks_of(const char* format, std::vector<int64_t> shape) {
  const int64_t columns = shape.back();
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
  HostTensor t = make_blocks(*block_format(format), rows, columns, 0, 0);
  fill_blocks(&t, 7, 1, "normal", 0.25f, "-");
  shape.back() = t.cols;
  t.cols *= rows;
  t.stride = t.cols;
  t.rows = 1;
  t.shape = shape;
  return t;
}

TEST(GateMisuse, Blocks) {
  Placed features(kCpu, normal(Type::kF32, {3, 64})), hidden(kCpu, blocks_of("q8_0", {2, 64, 64})),
      out(kCpu, blocks_of("q4_1", {2, 64})), prob(kCpu, poisoned(Type::kF32, {3}));
  Params p = {};
  p.struct_size = sizeof p;
  p.features = features.dl();
  p.hidden_weight = hidden.dl();
  p.out_weight = out.dl();
  p.prob = prob.dl();
  p.kind = EXN_GATE_TANH;
  p.repeats = 2;
  p.hidden_blocks = EXN_BLOCKS_Q8_0;
  p.out_blocks = EXN_BLOCKS_Q4_1;
  ASSERT_EQ(exn_gate_supported(&p), EXN_OK) << exn_last_error();
  // What belongs to a weight that is not there is looked at nevertheless.
  p.kind = EXN_GATE_LINEAR;
  p.hidden_weight = nullptr;
  EXPECT_EQ(exn_gate_supported(&p), EXN_OK) << exn_last_error();
  p.hidden_blocks = 99;
  expect_refused(EXN_TEST_OP(gate), p, {&prob}, EXN_INVALID_ARGUMENT, {"hidden_blocks", "99"});
}

}  // namespace
}  // namespace exn::test
