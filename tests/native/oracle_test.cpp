// SPDX-License-Identifier: Apache-2.0
// The oracles against rows worked out by hand.
#include <gtest/gtest.h>

#include <cmath>

#include "cosine/case.h"
#include "cross_entropy/case.h"
#include "exit_head/case.h"
#include "exit_rule/case.h"
#include "gate/case.h"
#include "perp_grad/case.h"
#include "stablemax/case.h"
#include "stats.h"

namespace exn::test {
namespace {

constexpr double kSixDigits = 6e-7;  // the vectors below are printed to six decimals

HostTensor matrix(Type type, const std::vector<std::vector<double>>& rows) {
  HostTensor t =
      make_tensor(type, {static_cast<int64_t>(rows.size()), static_cast<int64_t>(rows[0].size())});
  for (size_t r = 0; r < rows.size(); ++r) {
    for (size_t c = 0; c < rows[r].size(); ++c) {
      t.set(static_cast<int64_t>(r), static_cast<int64_t>(c), rows[r][c]);
    }
  }
  return t;
}

StatsExpected stats_of(const std::vector<double>& z, int32_t normalizer = EXN_SOFTMAX,
                       float temperature = 1, float softcap = 0) {
  Logits logits;
  logits.z.assign(z.begin(), z.end());
  return stats_oracle(logits, normalizer, temperature, softcap);
}

// ---- statistics ---------------------------------------------------------------------------------

TEST(StatsOracle, FourLogits) {
  const StatsExpected s = stats_of({2, 1, 0, -1});
  EXPECT_TRUE(s.valid);
  EXPECT_EQ(s.argmax, 0);
  EXPECT_EQ(s.near_argmax, std::vector<int64_t>{0});
  EXPECT_EQ(s.stats[kMaxLogit].value, 2);
  EXPECT_NEAR(s.stats[kLse].value, 2.440190, kSixDigits);
  EXPECT_NEAR(s.stats[kP1].value, 0.643914, kSixDigits);
  EXPECT_NEAR(s.stats[kP2].value, 0.236883, kSixDigits);
  EXPECT_NEAR(s.stats[kMargin].value, 0.407031, kSixDigits);
  EXPECT_NEAR(s.stats[kEntropy].value, 0.947537, kSixDigits);
  EXPECT_NEAR(s.stats[kEntropy].value / std::log(4.0), 0.683503, kSixDigits);
  EXPECT_NEAR(s.stats[kPow2Entropy].value, 0.455429, kSixDigits);
  EXPECT_NEAR(-s.stats[kMeanLogP].value - std::log(4.0), 0.553895, kSixDigits);
}

TEST(StatsOracle, StableMaxOfFiveLogits) {
  const StatsExpected s = stats_of({-3, -1, 0, 1, 3}, EXN_STABLEMAX);
  EXPECT_EQ(s.argmax, 4);
  EXPECT_NEAR(s.stats[kLse].value, std::log(7.75), 1e-12);
  EXPECT_NEAR(s.stats[kP1].value, 0.516129, kSixDigits);
  EXPECT_NEAR(s.stats[kP2].value, 0.258065, kSixDigits);
  EXPECT_NEAR(s.stats[kMeanLogP].value, (-3.433987 - 2.740840 - 2.047693 - 1.354546 - 0.661398) / 5,
              kSixDigits);
}

TEST(StatsOracle, OneLogitIsCertain) {
  const StatsExpected s = stats_of({-5});
  EXPECT_EQ(s.argmax, 0);
  EXPECT_EQ(s.stats[kP1].value, 1);
  EXPECT_EQ(s.stats[kP2].value, 0);
  EXPECT_EQ(s.stats[kMargin].value, 1);
  EXPECT_EQ(s.stats[kEntropy].value, 0);
  EXPECT_EQ(s.stats[kMeanLogP].value, 0);
}

TEST(StatsOracle, TiesGoToTheSmallerIndex) {
  EXPECT_EQ(stats_of({1, 3, 3, 2}).argmax, 1);
  EXPECT_EQ(stats_of({-0.0, 0.0}).argmax, 0);
  const StatsExpected s = stats_of({3, 3});
  EXPECT_EQ(s.stats[kP1].value, 0.5);
  EXPECT_EQ(s.stats[kP2].value, 0.5);
  EXPECT_EQ(s.stats[kMargin].value, 0);
}

TEST(StatsOracle, TiesOfAShortlistGoToTheSmallerId) {
  Logits logits;
  logits.z = {2, 5, 5};
  logits.ids = {7, 40, 30};
  EXPECT_EQ(stats_oracle(logits, EXN_SOFTMAX, 1, 0).argmax, 30);
}

TEST(StatsOracle, InvalidRows) {
  const double inf = HUGE_VAL, nan = std::nan("");
  for (const std::vector<double>& z :
       {std::vector<double>{1, nan}, {nan}, {1, inf}, {inf, -inf}, {-inf, -inf}, {-inf, nan}}) {
    const StatsExpected s = stats_of(z);
    EXPECT_FALSE(s.valid);
    EXPECT_EQ(s.argmax, -1);
    EXPECT_TRUE(std::isnan(s.stats[kEntropy].value));
  }
}

TEST(StatsOracle, MinusInfinityCountsAsNothing) {
  const double inf = HUGE_VAL;
  const StatsExpected s = stats_of({2, -inf, 1, 0, -1});
  const StatsExpected same = stats_of({2, 1, 0, -1});
  for (Stat i : {kLse, kP1, kP2, kMargin, kEntropy, kPow2Entropy}) {
    EXPECT_EQ(s.stats[i].value, same.stats[i].value);
  }
  EXPECT_EQ(s.stats[kMeanLogP].value, -inf);
  EXPECT_EQ(stats_of({-inf, 4}).stats[kMargin].value, 1);
}

TEST(StatsOracle, TemperatureAndSoftcap) {
  EXPECT_NEAR(stats_of({4, 2, 0, -2}, EXN_SOFTMAX, 2).stats[kP1].value, 0.643914, kSixDigits);
  const StatsExpected capped = stats_of({100, 3}, EXN_SOFTMAX, 1, 10);
  EXPECT_NEAR(capped.stats[kMaxLogit].value, 10 * std::tanh(10.0), 1e-12);
  EXPECT_NEAR(capped.stats[kLse].value - capped.stats[kMaxLogit].value,
              std::log1p(std::exp(10 * std::tanh(0.3) - 10 * std::tanh(10.0))), 1e-12);
}

// ---- exit head ----------------------------------------------------------------------------------

ExitHeadCase head_case(int64_t dim, int64_t vocab) {
  ExitHeadCase c;
  c.hidden.rows = 1;
  c.hidden.cols = dim;
  c.weight.rows = vocab;
  c.weight.cols = dim;
  return c;
}

TEST(ExitHeadOracle, RmsNormByHand) {
  ExitHeadCase c = head_case(2, 2);
  c.norm = EXN_NORM_RMS;
  ExitHeadInputs in;
  in.hidden = matrix(Type::kF32, {{3, 4}});  // mean square 12.5
  in.weight = matrix(Type::kF32, {{1, 0}, {0, 1}});
  in.norm_weight = make_tensor(Type::kF32, {2});
  in.norm_weight.set(0, 0, 2);
  in.norm_weight.set(0, 1, 0.5);
  const StatsExpected s = exit_head_oracle(c, in)[0];
  EXPECT_EQ(s.argmax, 0);
  EXPECT_NEAR(s.stats[kMaxLogit].value, 6 / std::sqrt(12.5), 1e-12);
}

TEST(ExitHeadOracle, LayerNormByHand) {
  ExitHeadCase c = head_case(2, 3);
  c.norm = EXN_NORM_LAYER;
  c.norm_eps = 3;
  ExitHeadInputs in;
  in.hidden = matrix(Type::kF32, {{3, 5}});  // mean 4, variance 1; sqrt(1 + 3) = 2, so -1/2 and 1/2
  in.weight = matrix(Type::kF32, {{1, 0}, {0, 1}, {1, 1}});
  in.norm_weight = make_tensor(Type::kF32, {2});
  in.norm_weight.set(0, 0, 4);
  in.norm_weight.set(0, 1, 8);
  in.norm_bias = make_tensor(Type::kF32, {2});
  in.norm_bias.set(0, 0, 1);
  in.norm_bias.set(0, 1, -1);
  const StatsExpected s = exit_head_oracle(c, in)[0];  // x = (-1, 3)
  EXPECT_EQ(s.argmax, 1);
  EXPECT_NEAR(s.stats[kMaxLogit].value, 3, 1e-12);
  EXPECT_NEAR(s.stats[kLse].value, std::log(std::exp(-1.0) + std::exp(3.0) + std::exp(2.0)), 1e-12);
}

TEST(ExitHeadOracle, TranslatorShortlistAndBias) {
  ExitHeadCase c = head_case(2, 4);
  c.translator.rows = c.translator.cols = 2;
  ExitHeadInputs in;
  in.hidden = matrix(Type::kF32, {{1, 2}});
  in.translator = matrix(Type::kF32, {{0, 1}, {3, 0}});  // x = (2, 3)
  in.translator_bias = make_tensor(Type::kF32, {2});
  in.translator_bias.set(0, 0, 10);
  in.translator_bias.set(0, 1, 20);  // x = (12, 23)
  in.weight = matrix(Type::kF32, {{9, 9}, {1, 0}, {0, 1}, {9, 9}});
  in.bias = make_tensor(Type::kF32, {4});
  for (int i = 0; i < 4; ++i) in.bias.set(0, i, i == 1 ? 12 : 0);
  in.shortlist = make_tensor(Type::kI32, {2});
  in.shortlist.set_integer(0, 2);
  in.shortlist.set_integer(1, 1);
  const StatsExpected s = exit_head_oracle(c, in)[0];  // z = (23, 24) for ids (2, 1)
  EXPECT_EQ(s.argmax, 1);
  EXPECT_NEAR(s.stats[kMaxLogit].value, 24, 1e-12);
  EXPECT_NEAR(s.stats[kP1].value, 1 / (1 + std::exp(-1.0)), 1e-12);
}

TEST(ExitHeadOracle, SixteenBitPairsRoundTheState) {
  ExitHeadCase c = head_case(1, 1);
  c.norm = EXN_NORM_RMS;
  c.norm_eps = 2;
  for (Type type : {Type::kF32, Type::kBF16}) {
    c.hidden.type = c.weight.type = type;
    ExitHeadInputs in;
    in.hidden = matrix(type, {{1}});
    in.weight = matrix(type, {{1}});
    in.norm_weight = make_tensor(Type::kF32, {1});
    in.norm_weight.set(0, 0, 1);
    const double z = exit_head_oracle(c, in)[0].stats[kMaxLogit].value;
    // bf16 takes 0.57735 to 74/128.
    EXPECT_NEAR(z, type == Type::kF32 ? 1 / std::sqrt(3.0) : 0.578125, 1e-12);
  }
}

// ---- StableMax ----------------------------------------------------------------------------------

struct StableMaxRow {
  std::vector<double> z, p, log;
  double loss;
  std::vector<double> grad;
};

const std::vector<StableMaxRow>& stablemax_rows() {
  static const std::vector<StableMaxRow> rows = {
      {{-3, -1, 0, 1, 3},
       {.032258, .064516, .129032, .258065, .516129},
       {-3.433987, -2.740840, -2.047693, -1.354546, -.661398},
       3.433987,
       {-.241935, .032258, .129032, .129032, .129032}},
      {{2, -1, .5, -4, 0},
       {.483871, .080645, .241935, .032258, .161290},
       {-.725937, -2.517696, -1.419084, -3.433987, -1.824549},
       .725937,
       {-.172043, .040323, .161290, .006452, .161290}},
      {{100, -100, 0, 50, -1},
       {.657938, 6.44974e-5, .00651424, .332226, .00325712},
       {-.418645, -9.648886, -5.033765, -1.101939, -5.726912},
       .418645,
       {-3.386752e-3, 6.38588e-7, 6.514238e-3, 6.514238e-3, 1.628559e-3}},
      {{0, 0, 0, 0, 0},
       {.2, .2, .2, .2, .2},
       {-1.609438, -1.609438, -1.609438, -1.609438, -1.609438},
       1.609438,
       {-.8, .2, .2, .2, .2}}};
  return rows;
}

TEST(StableMaxOracle, FourRowsByHand) {
  for (const StableMaxRow& row : stablemax_rows()) {
    const HostTensor z = matrix(Type::kF64, {row.z});
    const std::vector<Expected> p = stablemax_oracle(z, EXN_STABLEMAX, false);
    const std::vector<Expected> log = stablemax_oracle(z, EXN_STABLEMAX, true);
    for (size_t j = 0; j < row.z.size(); ++j) {
      EXPECT_NEAR(p[j].value, row.p[j], kSixDigits);
      EXPECT_NEAR(log[j].value, row.log[j], kSixDigits);
    }
  }
}

TEST(CrossEntropyOracle, FourRowsByHand) {
  for (const StableMaxRow& row : stablemax_rows()) {
    CrossEntropyCase c;
    c.ignore_index = -1;
    CrossEntropyInputs in = {matrix(Type::kF64, {row.z}), make_tensor(Type::kI64, {1})};
    in.labels.set_integer(0, 0);
    const CrossEntropyExpected e = cross_entropy_oracle(c, in);
    EXPECT_NEAR(e.loss[0].value, row.loss, kSixDigits);
    for (size_t j = 0; j < row.z.size(); ++j) EXPECT_NEAR(e.grad[j].value, row.grad[j], kSixDigits);
  }
}

TEST(CrossEntropyOracle, SoftmaxCollapsesWhereStableMaxDoesNot) {
  CrossEntropyCase c;
  c.normalizer = EXN_SOFTMAX;
  c.ignore_index = -1;
  CrossEntropyInputs in = {matrix(Type::kF64, {{100, -100, 0, 50, -1}}),
                           make_tensor(Type::kI64, {1})};
  in.labels.set_integer(0, 0);
  EXPECT_LT(cross_entropy_oracle(c, in).loss[0].value, 1e-20);
}

TEST(CrossEntropyOracle, GradientIsTheSlopeOfTheLoss) {
  CrossEntropyCase c;
  c.ignore_index = -1;
  c.reduction = EXN_REDUCE_NONE;
  const std::vector<double> z = {0.5, -1.25, 3, 0.75};
  for (int32_t normalizer : {EXN_SOFTMAX, EXN_STABLEMAX}) {
    c.normalizer = normalizer;
    CrossEntropyInputs in = {matrix(Type::kF64, {z}), make_tensor(Type::kI64, {1})};
    in.labels.set_integer(0, 2);
    const CrossEntropyExpected e = cross_entropy_oracle(c, in);
    for (int64_t j = 0; j < 4; ++j) {
      const double h = 1e-5, centre = z[static_cast<size_t>(j)];
      in.logits.set(0, j, centre + h);
      const double above = cross_entropy_oracle(c, in).loss[0].value;
      in.logits.set(0, j, centre - h);
      const double below = cross_entropy_oracle(c, in).loss[0].value;
      in.logits.set(0, j, centre);
      EXPECT_NEAR(e.grad[static_cast<size_t>(j)].value, (above - below) / (2 * h), 1e-8);
    }
  }
}

TEST(CrossEntropyOracle, IgnoredRowsAndTheirMean) {
  CrossEntropyCase c;
  c.ignore_index = -100;
  CrossEntropyInputs in = {matrix(Type::kF64, {{0, 0}, {1, 5}}), make_tensor(Type::kI64, {2})};
  in.labels.set_integer(0, 1);
  in.labels.set_integer(1, -100);
  const CrossEntropyExpected one = cross_entropy_oracle(c, in);
  EXPECT_NEAR(one.loss[0].value, std::log(2.0), 1e-12);
  EXPECT_EQ(one.grad[2].value, 0);
  in.labels.set_integer(0, -100);
  const CrossEntropyExpected none = cross_entropy_oracle(c, in);
  EXPECT_TRUE(std::isnan(none.loss[0].value));
  EXPECT_EQ(none.grad[0].value, 0);
}

// ---- perpGrad and cosine ------------------------------------------------------------------------

PerpGradExpected perp_grad_of(const std::vector<double>& w, const std::vector<double>& g,
                              int32_t form = EXN_PERP_CODE) {
  return perp_grad_oracle(matrix(Type::kF64, {w}), matrix(Type::kF64, {g}), form);
}

TEST(PerpGradOracle, ThreeFourByHand) {
  const PerpGradExpected paper = perp_grad_of({3, 4}, {1, 2}, EXN_PERP_PAPER);
  EXPECT_NEAR(paper.out[0].value, -.32, 1e-12);
  EXPECT_NEAR(paper.out[1].value, .24, 1e-12);
  const PerpGradExpected code = perp_grad_of({3, 4}, {1, 2});
  EXPECT_NEAR(code.out[0].value, -1.788854, kSixDigits);
  EXPECT_NEAR(code.out[1].value, 1.341641, kSixDigits);
}

TEST(PerpGradOracle, GuardsAndZeros) {
  EXPECT_EQ(perp_grad_of({3, 4}, {6, 8}).out[0].value, 0);
  EXPECT_NEAR(perp_grad_of({0, 0}, {1, 2}).out[1].value, 2, 1e-12);
  EXPECT_EQ(perp_grad_of({3, 4}, {0, 0}).out[1].value, 0);
  EXPECT_TRUE(std::isnan(perp_grad_of({3, NAN}, {1, 2}).out[0].value));
}

TEST(CosineOracle, ByHand) {
  const std::vector<Expected> e =
      cosine_oracle(matrix(Type::kF32, {{3, 4}, {1, 1}, {1, 0}, {0, 0}, {1, NAN}}),
                    matrix(Type::kF32, {{4, 3}, {-2, -2}, {0, 5}, {1, 2}, {1, 1}}));
  EXPECT_NEAR(e[0].value, .96, 1e-12);
  EXPECT_NEAR(e[1].value, -1, 1e-12);
  EXPECT_EQ(e[2].value, 0);
  EXPECT_EQ(e[3].value, 0);
  EXPECT_TRUE(std::isnan(e[4].value));
}

// ---- gates --------------------------------------------------------------------------------------

TEST(GateOracle, LinearByHand) {
  GateCase c;
  c.kind = EXN_GATE_LINEAR;
  c.repeats = 3;  // without effect
  c.classes = 1;
  GateInputs in;
  in.features = matrix(Type::kF32, {{1, 2}});
  in.out_weight = matrix(Type::kF32, {{.5, -.25}});
  EXPECT_NEAR(gate_oracle(c, in)[0].value, .5, 1e-12);
  c.classes = 2;
  in.out_weight = matrix(Type::kF32, {{1, 0}, {0, 1}});
  EXPECT_NEAR(gate_oracle(c, in)[0].value, 1 / (1 + std::exp(-1.0)), 1e-12);
}

TEST(GateOracle, ResidualSharesItsMatrix) {
  GateCase c;
  c.kind = EXN_GATE_RESIDUAL;
  c.repeats = 2;
  GateInputs in;
  in.features = matrix(Type::kF32, {{1}});
  in.hidden_weight = matrix(Type::kF32, {{2}});
  in.hidden_bias = make_tensor(Type::kF32, {1});
  in.hidden_bias.set(0, 0, -1);
  in.out_weight = matrix(Type::kF32, {{1}});
  const auto silu = [](double x) { return x / (1 + std::exp(-x)); };
  double y = 1;
  for (int k = 0; k < 2; ++k) y += silu(2 * y - 1);
  EXPECT_NEAR(gate_oracle(c, in)[0].value, 1 / (1 + std::exp(-y)), 1e-12);
}

TEST(GateOracle, TanhLayersDiffer) {
  GateCase c;
  c.kind = EXN_GATE_TANH;
  c.repeats = 2;
  GateInputs in;
  in.features = matrix(Type::kF32, {{1}});
  in.hidden_weight = make_tensor(Type::kF32, {2, 1, 1});
  in.hidden_weight.set(0, 0, .5);
  in.hidden_weight.set(0, 1, -2);
  in.out_weight = matrix(Type::kF32, {{3}});
  EXPECT_NEAR(gate_oracle(c, in)[0].value, 1 / (1 + std::exp(-3 * std::tanh(-2 * std::tanh(.5)))),
              1e-12);
}

// ---- exit rules ---------------------------------------------------------------------------------

ExitRuleCall rule(int32_t which, float threshold) {
  ExitRuleCall call = {};
  call.rule = which;
  call.threshold = threshold;
  call.decay_horizon = 1;
  return call;
}

ExitRuleInputs scores(const std::vector<double>& values) {
  ExitRuleInputs in;
  in.score = make_tensor(Type::kF32, {static_cast<int64_t>(values.size())});
  for (size_t r = 0; r < values.size(); ++r) in.score.set(0, static_cast<int64_t>(r), values[r]);
  return in;
}

// The layer (1, 2, ...) at which a single row leaves; 0: never.
int exit_of(ExitRuleCall call, const std::vector<double>& sequence) {
  ExitRuleOracle oracle(1);
  for (size_t l = 0; l < sequence.size(); ++l) {
    call.first = l == 0 ? 1 : 0;
    oracle.step(call, scores({sequence[l]}), nullptr);
    if (oracle.mask()[0] != 0) return static_cast<int>(l) + 1;
  }
  return 0;
}

TEST(ExitRuleOracle, QuantileLeavesAtTheThirdLayer) {
  EXPECT_EQ(exit_of(rule(EXN_RULE_QUANTILE, .5f), {.1, .2, .5, .9}), 3);
}

TEST(ExitRuleOracle, SpecDecStopsAfterTheFifthToken) {
  ExitRuleCall call = rule(EXN_RULE_SPECDEC, .3f);
  call.min_steps = 2;
  call.max_steps = 20;
  EXPECT_EQ(exit_of(call, {1, .95, .90, .85, .80}), 5);
  EXPECT_EQ(exit_of(call, {0, .95, .90, .85, .80}), 5);  // the first score is not looked at
  call.max_steps = 3;
  EXPECT_EQ(exit_of(call, {1, .95, .90, .85, .80}), 3);
  call.min_steps = 4;
  call.max_steps = 0;
  EXPECT_EQ(exit_of(call, {1, .1, .1, .1, .1}), 4);
}

TEST(ExitRuleOracle, JeiByHand) {
  // p = (.3, .4, .3): the third is cut to the rest. a = (.3, .4 / .7, ...).
  EXPECT_EQ(exit_of(rule(EXN_RULE_JEI, .5f), {.3, .4, .9}), 2);
  EXPECT_EQ(exit_of(rule(EXN_RULE_JEI, .6f), {.3, .4, .9}), 3);
  EXPECT_EQ(exit_of(rule(EXN_RULE_JEI, .5f), {.1, .1, .1}), 0);
}

TEST(ExitRuleOracle, PatienceCountsAgreements) {
  ExitRuleCall call = rule(EXN_RULE_PATIENCE, 0);
  call.patience = 2;
  ExitRuleOracle oracle(1);
  const std::vector<int64_t> labels = {4, 4, 7, 7, 7, 7};
  int left = 0;
  for (size_t l = 0; l < labels.size() && left == 0; ++l) {
    ExitRuleInputs in;
    in.label = make_tensor(Type::kI32, {1});
    in.label.set_integer(0, labels[l]);
    call.first = l == 0 ? 1 : 0;
    oracle.step(call, in, nullptr);
    if (oracle.mask()[0] != 0) left = static_cast<int>(l) + 1;
  }
  EXPECT_EQ(left, 5);
  call.threshold = .25f;
  EXPECT_EQ(exit_of(call, {0, .2, .4, .5}), 3);
  call.patience = 0;
  EXPECT_EQ(exit_of(call, {0, .2, .4, .5}), 0);
}

TEST(ExitRuleOracle, CalmDecay) {
  struct Line {
    int32_t t;
    double code, paper;
  };
  for (const Line& line :
       {Line{0, .900, .910}, Line{64, .82218, .82353}, Line{128, .81165, .81183}}) {
    for (bool paper : {false, true}) {
      ExitRuleCall call = rule(EXN_RULE_THRESHOLD, .9f);
      call.decay = paper ? EXN_DECAY_CALM_PAPER : EXN_DECAY_CALM_CODE;
      call.decay_tau = 4;
      call.decay_horizon = 128;
      call.step_index = line.t;
      const double theta = paper ? line.paper : line.code;
      EXPECT_EQ(exit_of(call, {theta + 1e-5}), 1) << line.t;
      EXPECT_EQ(exit_of(call, {theta - 1e-5}), 0) << line.t;
    }
  }
}

TEST(ExitRuleOracle, ComparatorsAtTheThreshold) {
  for (int32_t comparator : {EXN_COMPARE_GE, EXN_COMPARE_GT, EXN_COMPARE_LE}) {
    ExitRuleCall call = rule(EXN_RULE_THRESHOLD, .5f);
    call.comparator = comparator;
    EXPECT_EQ(exit_of(call, {.5}), comparator == EXN_COMPARE_GT ? 0 : 1);
    EXPECT_EQ(exit_of(call, {.625}), comparator == EXN_COMPARE_LE ? 0 : 1);
    EXPECT_EQ(exit_of(call, {.375}), comparator == EXN_COMPARE_LE ? 1 : 0);
    EXPECT_EQ(exit_of(call, {NAN}), 0);
  }
}

TEST(ExitRuleOracle, Scopes) {
  ExitRuleCall call = rule(EXN_RULE_THRESHOLD, .5f);
  call.first = 1;
  call.scope = EXN_SCOPE_ALL;
  ExitRuleOracle all(3);
  all.step(call, scores({.9, .1, .9}), nullptr);
  EXPECT_EQ(all.active().size(), 3u);
  all.step(call, scores({.9, .6, .9}), nullptr);
  EXPECT_EQ(all.active().size(), 0u);
  call.scope = EXN_SCOPE_LAST;
  ExitRuleOracle last(3);
  last.step(call, scores({.9, .9, .1}), nullptr);
  EXPECT_EQ(last.active().size(), 3u);
  last.step(call, scores({.1, .1, .9}), nullptr);
  EXPECT_EQ(last.active().size(), 0u);
}

TEST(ExitRuleOracle, ForceAndValidity) {
  ExitRuleCall call = rule(EXN_RULE_THRESHOLD, .5f);
  call.first = 1;
  call.layer = 6;
  ExitRuleOracle oracle(2);
  ExitRuleInputs in = scores({.9, .9});
  in.valid = make_tensor(Type::kU8, {2});
  in.valid.set_integer(0, 1);
  in.valid.set_integer(1, 0);
  oracle.step(call, in, nullptr);
  EXPECT_EQ(oracle.mask(), (std::vector<uint8_t>{1, 0}));
  EXPECT_EQ(oracle.exit_layer(0), 6);
  EXPECT_EQ(oracle.exit_layer(1), -1);
  call.first = 0;
  call.force = 1;
  oracle.step(call, in, nullptr);
  EXPECT_EQ(oracle.mask(), (std::vector<uint8_t>{0, 1}));
}

TEST(ExitRuleOracle, TheBandFollowsWhatWasObserved) {
  ExitRuleCall call = rule(EXN_RULE_QUANTILE, .5f);
  call.first = 1;
  for (uint8_t observed : {uint8_t{0}, uint8_t{1}}) {
    ExitRuleOracle oracle(1);
    const std::vector<uint8_t> mask = {observed};
    EXPECT_TRUE(oracle.step(call, scores({.5 + 2e-7}), &mask));
    EXPECT_EQ(oracle.mask(), mask);
    EXPECT_EQ(oracle.band_hits(), 1);
  }
  ExitRuleOracle oracle(1);
  const std::vector<uint8_t> stays = {0};
  EXPECT_FALSE(oracle.step(call, scores({.6}), &stays));
}

}  // namespace
}  // namespace exn::test
