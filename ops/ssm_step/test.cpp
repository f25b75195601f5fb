// SPDX-License-Identifier: Apache-2.0
#include "ssm_step/case.h"

#include "cache_fixture.h"

namespace exn::test {
namespace {
const auto kOp = EXN_TEST_OP(ssm_step);

using P = exn_ssm_step_params;

HostTensor values(std::vector<int64_t> shape, const std::vector<double>& of) {
  HostTensor t = make_tensor(Type::kF32, std::move(shape));
  for (size_t i = 0; i < of.size(); ++i)
    t.set(static_cast<int64_t>(i) / t.cols, static_cast<int64_t>(i) % t.cols, of[i]);
  return t;
}

// dt softplus(.5), A = -1: worked out by hand from the step of the authors' code.
TEST(SsmStep, HandVectors) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    Placed x(target, values({1, 1}, {2})), state(target, values({1, 1, 1}, {.4})),
        a(target, values({1, 1}, {-1})), dt(target, values({1, 1}, {.5})),
        b(target, values({1, 1}, {.3})), c(target, values({1, 1}, {.7})),
        skip(target, values({1}, {.1})), z(target, values({1, 1}, {1})),
        out(target, poisoned(Type::kF32, {1, 1}));
    P p = {};
    p.struct_size = sizeof p;
    p.x = x.dl();
    p.state = state.dl();
    p.weight = a.dl();
    p.dt = dt.dl();
    p.b = b.dl();
    p.c = c.dl();
    p.skip = skip.dl();
    p.out = out.dl();
    p.stage = EXN_SSM_SCAN;
    ASSERT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
    EXPECT_NEAR(state.read().at(0, 0), 0.735462458, 3e-7);
    EXPECT_NEAR(out.read().at(0, 0), 0.714823721, 3e-7);
    state.reset();
    p.z = z.dl();
    ASSERT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
    EXPECT_NEAR(out.read().at(0, 0), 0.522578013, 3e-7);

    Placed inputs(target, values({1, 1, 4}, {1, 2, 3, 4})), y(target, poisoned(Type::kF32, {1, 1})),
        w(target, values({1, 4}, {.5, -.25, 1, 2})), bias(target, values({1}, {-.5}));
    P q = {};
    q.struct_size = sizeof q;
    q.x = x.dl();
    q.state = inputs.dl();
    q.weight = w.dl();
    q.bias = bias.dl();
    q.out = y.dl();
    ASSERT_EQ(run_once(target, kOp, q), EXN_OK) << exn_last_error();
    EXPECT_EQ(inputs.read().bytes, values({1, 1, 4}, {2, 3, 4, 2}).bytes);
    EXPECT_NEAR(y.read().at(0, 0), 7.75 / (1 + std::exp(-7.75)),
                2e-6);  // SiLU(1 - .75 + 4 + 4 - .5)
  }
}

// A prompt in one call, and its tokens in as many: the same bits.
TEST(SsmStep, PromptIsItsTokens) {
  for (const int32_t stage : {EXN_SSM_CONV, EXN_SSM_SCAN}) {
    SsmStepCase c;
    c.stage = stage;
    c.x = {6, 37, Type::kF32, 3, 0, "normal", 1, "-"};
    c.states = 2;
    c.width = stage == EXN_SSM_CONV ? 4 : 16;
    c.gated = c.bias = c.skip = stage == EXN_SSM_SCAN;
    const SsmStepInputs in = make_inputs(c);
    for (const Target& target : targets()) {
      SCOPED_TRACE(target.name());
      Placed x(target, in.x), state(target, in.state), weight(target, in.weight),
          bias(target, in.bias), dt(target, in.dt), b(target, in.b), of_c(target, in.c),
          skip(target, in.skip), z(target, in.z), out(target, poisoned(Type::kF32, {6, 37}));
      P p = {};
      p.struct_size = sizeof p;
      p.x = x.dl();
      p.state = state.dl();
      p.weight = weight.dl();
      p.bias = bias.dl();
      p.dt = dt.dl();
      p.b = b.dl();
      p.c = of_c.dl();
      p.skip = skip.dl();
      p.z = z.dl();
      p.out = out.dl();
      p.stage = stage;
      ASSERT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
      const HostTensor all_out = out.read(), all_state = state.read();
      out.reset();
      state.reset();
      for (int64_t first = 0; first < 6; first += 2) {
        P token = p;
        BlockOfRows block(first, 2);
        for (const DLTensor** field :
             {&token.x, &token.dt, &token.b, &token.c, &token.z, &token.out})
          block(field);
        ASSERT_EQ(run_once(target, kOp, token), EXN_OK) << exn_last_error();
      }
      EXPECT_EQ(out.read().bytes, all_out.bytes);
      EXPECT_EQ(state.read().bytes, all_state.bytes);
    }
  }
}

// On a device a row of no sequence is inactive.
TEST(SsmStep, StrayRows) {
  for (const int32_t stage : {EXN_SSM_CONV, EXN_SSM_SCAN}) {
    SsmStepCase c;
    c.stage = stage;
    c.x = {5, 7, Type::kF32, 0, 0, "normal", 1, "-"};
    c.states = 2;
    c.width = 4;
    SsmStepInputs in = make_inputs(c);
    in.sequence = make_integers({1, -1, 0, 2, INT32_MAX});
    const SsmStepExpected expected = ssm_step_oracle(c, in);
    for (const Target& target : targets()) {
      SCOPED_TRACE(target.name());
      Placed x(target, in.x), state(target, in.state), weight(target, in.weight), dt(target, in.dt),
          b(target, in.b), of_c(target, in.c), out(target, poisoned(Type::kF32, {5, 7})),
          sequence(target, in.sequence);
      P p = {};
      p.struct_size = sizeof p;
      p.x = x.dl();
      p.state = state.dl();
      p.weight = weight.dl();
      p.dt = dt.dl();
      p.b = b.dl();
      p.c = of_c.dl();
      p.out = out.dl();
      p.sequence = sequence.dl();
      p.stage = stage;
      const exn_status status = run_once(target, kOp, p);
      if (target.cpu()) {
        EXPECT_EQ(status, EXN_INVALID_ARGUMENT);
        expect_words({"sequence[1]", "-1", "0..1"});
        EXPECT_TRUE(state.unchanged() && out.unchanged());
      } else {
        ASSERT_EQ(status, EXN_OK) << exn_last_error();
        expect_all_agree("state", expected.state, state.read());
        expect_all_agree("out", expected.out, out.read());
      }
    }
  }
}

TEST(SsmStepMisuse, Scan) {
  if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  Placed x(kCpu, normal(Type::kF32, {3, 5})), state(kCpu, zeros(Type::kF32, {2, 5, 4})),
      weight(kCpu, normal(Type::kF32, {5, 4})), bias(kCpu, normal(Type::kF32, {5})),
      dt(kCpu, normal(Type::kF32, {3, 5})), b(kCpu, normal(Type::kF32, {3, 4})),
      c(kCpu, normal(Type::kF32, {3, 4})), skip(kCpu, normal(Type::kF32, {5})),
      z(kCpu, normal(Type::kF32, {3, 5})), out(kCpu, poisoned(Type::kF32, {3, 5}, 2)),
      sequence(kCpu, make_integers({0, 1, 1})), active(kCpu, zeros(Type::kU8, {3}));
  P p = {sizeof p,  x.dl(), state.dl(),    weight.dl(), bias.dl(), dt.dl(),      b.dl(), c.dl(),
         skip.dl(), z.dl(), sequence.dl(), active.dl(), out.dl(),  EXN_SSM_SCAN, 0};
  const std::vector<Placed*> written = {&state, &out};
  state.mutable_dl()->strides = nullptr;  // compact, whatever its sizes
  weight.mutable_dl()->strides = nullptr;
  state.mutable_dl()->shape[0] = 0;
  expect_refused(kOp, p, written, EXN_INVALID_ARGUMENT, {"S (axis 0 of state)", "0", "1"});
  state.mutable_dl()->shape[0] = 2;
  for (const int64_t bad : {0, 257}) {
    state.mutable_dl()->shape[2] = bad;
    expect_refused(kOp, p, written, EXN_INVALID_ARGUMENT,
                   {"N (axis 2 of state)", std::to_string(bad)});
  }
  state.mutable_dl()->shape[2] = 4;
  p.stage = EXN_SSM_CONV;
  p.dt = nullptr;
  p.b = p.c = nullptr;
  p.skip = nullptr;
  p.z = p.out = nullptr;
  expect_refused(kOp, p, written, EXN_INVALID_ARGUMENT, {"out", "null"});
}

}  // namespace
}  // namespace exn::test
