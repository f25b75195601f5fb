// SPDX-License-Identifier: Apache-2.0
#include "harness.h"

namespace exn::test {
namespace {

const Op<exn_exit_rule_params> kOp = {"exit_rule", exn_exit_rule_supported,
                                      exn_exit_rule_workspace_size, exn_exit_rule};

constexpr int32_t kBefore = 77;  // exit_layer before the first call, which must overwrite it

ExitRuleCall call_of(const ExitRuleCase& c, int64_t token, int64_t layer) {
  ExitRuleCall call = {};
  call.rule = c.rule;
  call.comparator = c.comparator;
  call.decay = c.decay;
  call.scope = c.scope;
  call.threshold = c.threshold;
  call.tau = c.tau;
  call.horizon = c.horizon;
  call.step_index = static_cast<int32_t>(8 * token);
  call.patience = c.patience;
  call.min_steps = c.min_steps;
  call.max_steps = c.max_steps;
  call.layer = static_cast<int32_t>(layer);
  call.first = layer == 0;
  call.force = c.force && layer + 1 == c.layers;
  return call;
}

exn_exit_rule_params params_of(const ExitRuleCall& call) {
  exn_exit_rule_params p = {};
  p.struct_size = sizeof p;
  p.rule = call.rule;
  p.comparator = call.comparator;
  p.decay = call.decay;
  p.scope = call.scope;
  p.threshold = call.threshold;
  p.decay_tau = call.tau;
  p.decay_horizon = call.horizon;
  p.step_index = call.step_index;
  p.patience = call.patience;
  p.min_steps = call.min_steps;
  p.max_steps = call.max_steps;
  p.layer = call.layer;
  p.first = call.first;
  p.force = call.force;
  return p;
}

std::vector<uint8_t> mask_of(const HostTensor& t) {
  return std::vector<uint8_t>(t.bytes.begin(), t.bytes.end());
}

std::vector<int32_t> integers_of(const HostTensor& t) {
  std::vector<int32_t> values;
  for (int64_t i = 0; i < t.cols; ++i) values.push_back(static_cast<int32_t>(t.integer_at(i)));
  return values;
}

// Filled with `value`: 0x55 bytes for a state that the first call has to forget.
HostTensor filled(Type type, std::vector<int64_t> shape, int32_t value) {
  HostTensor t = make_tensor(type, std::move(shape));
  for (int64_t i = 0; i < t.size(); ++i) t.set_integer(i, value);
  return t;
}

// Plays the whole case on one target. State and exit_layer are in-out: each call starts
// from what the last one left.
class Sequence {
 public:
  Sequence(const ExitRuleCase& c, const Target& target)
      : c_(c),
        target_(target),
        oracle_(c.rows),
        state_(filled(Type::kI32, {c.rows, EXN_EXIT_STATE_WORDS}, 0x55555555)),
        exit_layer_(filled(Type::kI32, {c.rows}, kBefore)) {}

  void play() {
    for (int64_t t = 0; t < c_.tokens; ++t) {
      for (int64_t l = 0; l < c_.layers; ++l) {
        SCOPED_TRACE("token " + std::to_string(t) + ", layer " + std::to_string(l));
        call(t, l);
        if (::testing::Test::HasFailure()) return;
      }
    }
    count_band("exit_rule", oracle_.band_hits(), oracle_.decisions());
  }

 private:
  bool asked(ExitOutput output) const { return (c_.outputs >> output & 1) != 0; }

  void call(int64_t token, int64_t layer) {
    const ExitRuleInputs in = make_inputs(c_, token, layer);
    Placed score(target_, in.score), label(target_, in.label), valid(target_, in.valid),
        step(target_, in.step);
    Placed state(target_, state_);
    Placed mask(target_, asked(kExitMask) ? poisoned(Type::kU8, {c_.rows}) : HostTensor{});
    Placed list(target_, asked(kActiveList) ? poisoned(Type::kI32, {c_.rows}) : HostTensor{});
    Placed count(target_, asked(kActiveCount) ? poisoned(Type::kI32, {1}) : HostTensor{});
    Placed exit_layer(target_, asked(kExitLayer) ? exit_layer_ : HostTensor{});
    const ExitRuleCall options = call_of(c_, token, layer);
    exn_exit_rule_params p = params_of(options);
    p.score = score.dl();
    p.label = label.dl();
    p.valid = valid.dl();
    p.step = step.dl();
    p.state = state.dl();
    p.exit_mask = mask.dl();
    p.active_list = list.dl();
    p.active_count = count.dl();
    p.exit_layer = exit_layer.dl();
    // The full protocol for the first token; later ones only play on.
    if (token == 0) {
      exercise(target_, kOp, p, {&score, &label, &valid, &step},
               {&state, &mask, &list, &count, &exit_layer});
    } else {
      ASSERT_EQ(run_once(target_, kOp, p), EXN_OK) << exn_last_error();
    }
    if (::testing::Test::HasFatalFailure()) return;
    judge(options, in, state, mask, list, count, exit_layer);
  }

  void judge(const ExitRuleCall& options, const ExitRuleInputs& in, const Placed& state,
             const Placed& mask, const Placed& list, const Placed& count,
             const Placed& exit_layer) {
    const std::vector<int32_t> flags = flags_of(state.read());
    // Who leaves is seen in the state even if no mask was asked for.
    std::vector<uint8_t> left_now(flags.size());
    for (size_t r = 0; r < flags.size(); ++r) {
      const bool before = !options.first && oracle_.left(static_cast<int64_t>(r));
      left_now[r] = (flags[r] & 1) != 0 && !before ? 1 : 0;
    }
    EXPECT_TRUE(oracle_.step(options, in, &left_now)) << describe(left_now, oracle_.mask());
    for (size_t r = 0; r < flags.size(); ++r) {
      EXPECT_EQ((flags[r] & 1) != 0, oracle_.left(static_cast<int64_t>(r))) << "state of row " << r;
    }
    std::vector<int32_t> active = oracle_.active();
    const int32_t active_count = static_cast<int32_t>(active.size());
    active.resize(flags.size(), -1);
    if (asked(kExitMask)) {
      EXPECT_EQ(mask_of(mask.read()), oracle_.mask());
    }
    if (asked(kActiveList)) {
      EXPECT_EQ(integers_of(list.read()), active);
    }
    if (asked(kActiveCount)) {
      EXPECT_EQ(count.read().integer_at(0), active_count);
    }
    if (asked(kExitLayer)) {
      exit_layer_ = exit_layer.read();
      for (int64_t r = 0; r < c_.rows; ++r) {
        EXPECT_EQ(exit_layer_.integer_at(r), oracle_.exit_layer(r)) << "row " << r;
      }
    }
    state_ = state.read();
  }

  static std::vector<int32_t> flags_of(const HostTensor& state) {
    std::vector<int32_t> flags;
    for (int64_t r = 0; r < state.rows; ++r) {
      flags.push_back(static_cast<int32_t>(
          state.integer_at(r * EXN_EXIT_STATE_WORDS + EXN_EXIT_STATE_WORDS - 1)));
    }
    return flags;
  }

  static std::string describe(const std::vector<uint8_t>& got,
                              const std::vector<uint8_t>& expected) {
    std::string text = "rows that differ (row: got, expected):";
    for (size_t r = 0; r < got.size(); ++r) {
      if (got[r] != expected[r]) {
        text += " " + std::to_string(r) + ": " + std::to_string(got[r]) + ", " +
                std::to_string(expected[r]) + ";";
      }
    }
    return text;
  }

  const ExitRuleCase& c_;
  const Target& target_;
  ExitRuleOracle oracle_;
  HostTensor state_;
  HostTensor exit_layer_;
};

class ExitRule : public ::testing::TestWithParam<ExitRuleCase> {};

TEST_P(ExitRule, MatchesStateMachine) {
  for (const Target& target : targets()) {
    if (!wanted(GetParam(), target)) continue;
    SCOPED_TRACE(target.name());
    Sequence(GetParam(), target).play();
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, ExitRule,
                         ::testing::ValuesIn(wanted_cases(exit_rule_cases())),
                         CaseName());

}  // namespace
}  // namespace exn::test
