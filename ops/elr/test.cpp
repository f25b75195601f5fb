// SPDX-License-Identifier: Apache-2.0
#include "elr/case.h"

#include "cache_fixture.h"

namespace exn::test {
namespace {
const auto kOp = EXN_TEST_OP(elr);

using P = exn_elr_params;

ElrCase little_case() {
  ElrCase c;
  c.logits = {5, 40, Type::kF32, 0, 0, "normal", 1, "-"};
  c.samples = 9;
  return c;
}

// From a few lines that follow the authors' code, the gradients by finite differences. In the second
// row the clamp holds all probabilities, so that the regulariser moves nothing.
TEST(Elr, HandVectors) {
  const float logits[2][3] = {{1, 2, 3}, {0, 9.5, -2}};
  const float before[2][3] = {{.2f, .3f, .5f}, {.1f, .6f, .1f}};
  const double targets_after[2][3] = {{.1670092, .2834185, .5495723}, {.07003, .71994, .07003}};
  const double losses[2] = {.6141249, 7.6824518};
  const double gradients[2][3] = {{-.771004, .467086, .303918}, {.000075, .999915, -.99999}};
  ElrInputs in;
  in.logits = make_tensor(Type::kF32, {2, 3});
  in.targets = make_tensor(Type::kF32, {3, 3});
  for (int64_t j = 0; j < 3; ++j) {
    for (int64_t r = 0; r < 2; ++r) {
      in.logits.set(r, j, static_cast<double>(logits[r][j]));
      in.targets.set(2 * r, j, static_cast<double>(before[r][j]));
    }
    in.targets.set(1, j, .25);
  }
  in.index = make_integers({0, 2});
  in.labels = make_integers({0, 2});
  ElrCase c;
  c.logits.rows = 2;
  c.logits.cols = 3;
  c.samples = 3;
  c.reduction = EXN_REDUCE_NONE;
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    const Outputs got = outputs_of(target, instantiate(c, in, target));
    for (int64_t r = 0; r < 2; ++r) {
      EXPECT_NEAR(got[1].at(0, r), losses[r], 4e-6 * (1 + losses[r]));
      for (int64_t j = 0; j < 3; ++j) {
        EXPECT_NEAR(got[0].at(2 * r, j), targets_after[r][j], 3e-7);
        EXPECT_NEAR(got[2].at(r, j), gradients[r][j], 3e-6);
      }
    }
    for (int64_t j = 0; j < 3; ++j) EXPECT_EQ(got[0].at(1, j), .25);
  }
}

// Refused with nothing written on the CPU; NaN in its row (and in the mean) on CUDA, where its
// target stays.
class ElrStray : public ::testing::TestWithParam<std::tuple<int, int32_t>> {};

TEST_P(ElrStray, IsRefusedOrNaN) {
  const auto [which, reduction] = GetParam();
  ElrCase c = little_case();
  c.reduction = reduction;
  ElrInputs in = make_inputs(c);
  const int64_t first = in.index.integer_at(0);
  const struct {
    HostTensor* tensor;
    int64_t value;
    Words words;
  } strays[] = {{&in.labels, -1, {"labels[3]", "-1", "39"}},
                {&in.labels, 40, {"labels[3]", "40", "39"}},
                {&in.labels, int64_t{1} << 32, {"labels[3]", "4294967296"}},
                {&in.index, -1, {"index[3]", "-1", "0..8"}},
                {&in.index, 9, {"index[3]", "9", "0..8"}},
                {&in.index, INT32_MAX, {"index[3]", "2147483647"}},
                {&in.index, first, {"index[3]", std::to_string(first), "index[0]"}}};
  strays[which].tensor->set_integer(3, strays[which].value);
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    const std::unique_ptr<Instance> instance = instantiate(c, in, target);
    const exn_status status = run_once(target, instance->calls()[0]);
    if (target.cpu()) {
      EXPECT_EQ(status, EXN_INVALID_ARGUMENT);
      expect_words(strays[which].words);
      EXPECT_TRUE(instance->outputs_unchanged());
    } else {
      ASSERT_EQ(status, EXN_OK) << exn_last_error();
      EXPECT_EQ(judge(c, elr_oracle(c, in), instance->outputs()), "");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Strays, ElrStray,
                         ::testing::Combine(::testing::Range(0, 7),
                                            ::testing::Values(EXN_REDUCE_NONE, EXN_REDUCE_MEAN)));

// Rows that have the sample of one far before them.
TEST(Elr, RepeatsFarApart) {
  ElrCase c = little_case();
  c.logits.rows = 600;
  c.logits.cols = 3;
  c.samples = 700;
  ElrInputs in = make_inputs(c);
  constexpr int64_t kTwice[][2] = {{254, 255}, {3, 256}, {255, 511}, {512, 513}, {0, 599}};
  for (const auto& [first, second] : kTwice)
    in.index.set_integer(second, in.index.integer_at(first));
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    const std::unique_ptr<Instance> instance = instantiate(c, in, target);
    const exn_status status = run_once(target, instance->calls()[0]);
    if (target.cpu()) {
      EXPECT_EQ(status, EXN_INVALID_ARGUMENT);
      expect_words({"index[255]", "index[254]"});
      EXPECT_TRUE(instance->outputs_unchanged());
    } else {
      ASSERT_EQ(status, EXN_OK) << exn_last_error();
      EXPECT_EQ(judge(c, elr_oracle(c, in), instance->outputs()), "");
    }
  }
}

}  // namespace
}  // namespace exn::test
