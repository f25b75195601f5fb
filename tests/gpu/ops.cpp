// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "judge.h"
#include "oracle.h"

namespace exn::test {

namespace {

constexpr unsigned char kPoison = 0xCD;

Case make_case(const RowStatsCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) {
    auto instance = std::make_unique<Instance>(device_type);
    const DLTensor* logits = instance->input(make_inputs(c).logits);
    const exn_stats out = add_stats(instance.get(), c.outputs, c.logits.rows);
    const exn_row_stats_params params = {sizeof params, logits, c.normalizer, c.temperature,
                                         c.softcap,     0,      out};
    instance->call(EXN_TEST_OP(row_stats), params);
    return instance;
  };
  const auto oracle = lazily([c] { return row_stats_oracle(c, make_inputs(c)); });
  result.judge = [c, oracle](const Outputs& got) { return judge_stats(c.outputs, oracle(), got); };
  result.compulsory_bytes = bytes_of(c.logits.rows * c.logits.cols, c.logits.type);
  // Both choose among the stored logits, before a soft-cap or a temperature makes some of them
  // equal, and multiply by the inverse of the temperature.
  result.same_as_cpu = {"argmax", "valid"};
  if (c.softcap == 0) result.same_as_cpu.push_back("max_logit");
  result.description = {{"rows", std::to_string(c.logits.rows)},
                        {"cols", std::to_string(c.logits.cols)},
                        {"dtype", quoted(name_of(c.logits.type))},
                        {"normalizer", std::to_string(c.normalizer)},
                        {"outputs", stat_names(c.outputs)}};
  return result;
}

Case make_case(const ExitHeadCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) {
    auto instance = std::make_unique<Instance>(device_type);
    const ExitHeadInputs in = make_inputs(c);
    exn_exit_head_params params = {};
    params.struct_size = sizeof params;
    params.hidden = instance->input(in.hidden);
    params.weight = instance->input(in.weight);
    params.bias = instance->input(in.bias);
    params.norm_weight = instance->input(in.norm_weight);
    params.norm_bias = instance->input(in.norm_bias);
    params.translator_weight = instance->input(in.translator);
    params.translator_bias = instance->input(in.translator_bias);
    params.shortlist = instance->input(in.shortlist);
    params.norm = c.norm;
    params.norm_eps = c.norm_eps;
    params.translate = c.translate;
    params.normalizer = c.normalizer;
    params.temperature = c.temperature;
    params.softcap = c.softcap;
    params.out = add_stats(instance.get(), c.outputs, c.hidden.rows);
    instance->call(EXN_TEST_OP(exit_head), params);
    return instance;
  };
  const auto oracle = lazily([c] { return exit_head_oracle(c, make_inputs(c)); });
  result.judge = [c, oracle](const Outputs& got) { return judge_stats(c.outputs, oracle(), got); };
  const int64_t vocabulary = c.shortlist > 0 ? c.shortlist : c.weight.rows;
  const double passes = passes_over_weights(c.hidden.rows);
  result.compulsory_bytes = passes * bytes_of(vocabulary * c.weight.cols, c.weight.type) +
                            bytes_of(c.hidden.rows * c.hidden.cols, c.hidden.type);
  if (c.translator) {
    result.compulsory_bytes += passes * bytes_of(c.hidden.cols * c.hidden.cols, c.translator_type);
  }
  result.description = {{"rows", std::to_string(c.hidden.rows)},
                        {"dim", std::to_string(c.hidden.cols)},
                        {"vocab", std::to_string(c.weight.rows)},
                        {"dtype", quoted(name_of(c.hidden.type))},
                        {"weight_dtype", quoted(name_of(c.weight.type))},
                        {"norm", std::to_string(c.norm)},
                        {"shortlist", std::to_string(c.shortlist)},
                        {"normalizer", std::to_string(c.normalizer)},
                        {"outputs", stat_names(c.outputs)}};
  return result;
}

// ---- rows to rows -------------------------------------------------------------------------------

Case make_case(const StableMaxCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) {
    auto instance = std::make_unique<Instance>(device_type);
    const HostTensor logits = make_inputs(c).logits;
    const DLTensor* in = c.in_place ? instance->in_out("out", logits) : instance->input(logits);
    const DLTensor* out =
        c.in_place ? in
                   : instance->output("out", logits.type, logits.shape, c.out_pad, c.out_offset);
    const exn_stablemax_params params = {sizeof params, in, out, c.normalizer, c.log};
    instance->call(EXN_TEST_OP(stablemax), params);
    return instance;
  };
  const auto oracle = lazily([c] { return stablemax_oracle(c, make_inputs(c)); });
  result.judge = [oracle](const Outputs& got) { return compare("out", oracle(), got[0]); };
  result.compulsory_bytes = 2 * bytes_of(c.logits.rows * c.logits.cols, c.logits.type);
  result.description = {{"rows", std::to_string(c.logits.rows)},
                        {"cols", std::to_string(c.logits.cols)},
                        {"dtype", quoted(name_of(c.logits.type))},
                        {"normalizer", std::to_string(c.normalizer)},
                        {"log", std::to_string(c.log)}};
  return result;
}

Case make_case(const CrossEntropyCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) {
    auto instance = std::make_unique<Instance>(device_type);
    const CrossEntropyInputs in = make_inputs(c);
    const Type loss_type = c.logits.type == Type::kF64 ? Type::kF64 : Type::kF32;
    const DLTensor* labels = instance->input(in.labels);
    const DLTensor* loss = nullptr;
    if (c.loss)
      loss =
          instance->output("loss", loss_type, {c.reduction == EXN_REDUCE_MEAN ? 1 : c.logits.rows});
    const DLTensor* logits =
        c.in_place ? instance->in_out("grad", in.logits) : instance->input(in.logits);
    const DLTensor* grad = nullptr;
    if (c.in_place) {
      grad = logits;
    } else if (c.grad) {
      grad = instance->output("grad", in.logits.type, in.logits.shape, c.grad_pad, c.grad_offset);
    }
    const exn_cross_entropy_params params = {sizeof params,  logits,       labels,     loss, grad,
                                             c.ignore_index, c.normalizer, c.reduction};
    instance->call(EXN_TEST_OP(cross_entropy), params);
    return instance;
  };
  const auto oracle = lazily([c] { return cross_entropy_oracle(c, make_inputs(c)); });
  result.judge = [c, oracle](const Outputs& got) {
    return first_of({c.loss ? compare("loss", oracle().loss, got.front()) : "",
                     c.grad ? compare("grad", oracle().grad, got.back()) : ""});
  };
  result.compulsory_bytes =
      (c.grad ? 2 : 1) * bytes_of(c.logits.rows * c.logits.cols, c.logits.type);
  result.description = {{"rows", std::to_string(c.logits.rows)},
                        {"cols", std::to_string(c.logits.cols)},
                        {"dtype", quoted(name_of(c.logits.type))},
                        {"normalizer", std::to_string(c.normalizer)},
                        {"grad", c.grad ? "true" : "false"}};
  return result;
}

Complaint judge_perp_grad(const PerpGradExpected& expected, const HostTensor& got) {
  if (!expected.noise) return compare("out", expected.out, got);
  double square = 0;
  for (int64_t i = 0; i < got.cols; ++i) square += got.at(0, i) * got.at(0, i);
  return std::sqrt(square) <= 1.02 * expected.norm ? "" : "out: longer than the gradient";
}

Case make_case(const PerpGradCase& c) {
  Case result;
  int64_t elements = 1;
  for (const int64_t extent : c.shape) elements *= extent;
  result.instantiate = [c](int32_t device_type) {
    auto instance = std::make_unique<Instance>(device_type);
    const PerpGradInputs in = make_inputs(c);
    const DLTensor* weight = instance->input(in.weight);
    const DLTensor* grad = c.in_place ? instance->in_out("out", in.grad) : instance->input(in.grad);
    HostTensor poison = in.grad;
    std::fill(poison.bytes.begin(), poison.bytes.end(), kPoison);
    const DLTensor* out = c.in_place ? grad : instance->in_out("out", poison);
    const exn_perp_grad_params params = {sizeof params, weight, grad, out, c.form, 0};
    instance->call(EXN_TEST_OP(perp_grad), params);
    return instance;
  };
  const auto oracle = lazily([c] { return perp_grad_oracle(c, make_inputs(c)); });
  result.judge = [oracle](const Outputs& got) { return judge_perp_grad(oracle(), got[0]); };
  result.compulsory_bytes = 5 * bytes_of(elements, c.type);
  result.description = {{"elements", std::to_string(elements)},
                        {"dtype", quoted(name_of(c.type))},
                        {"form", std::to_string(c.form)}};
  return result;
}

Case make_case(const GateCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) {
    auto instance = std::make_unique<Instance>(device_type);
    const GateInputs in = make_inputs(c);
    const DLTensor* features = instance->input(in.features);
    const DLTensor* hidden_weight = instance->input(in.hidden_weight);
    const DLTensor* hidden_bias = instance->input(in.hidden_bias);
    const DLTensor* out_weight = instance->input(in.out_weight);
    const DLTensor* out_bias = instance->input(in.out_bias);
    const DLTensor* prob = instance->output("prob", Type::kF32, {c.features.rows});
    const exn_gate_params params = {sizeof params, features, hidden_weight, hidden_bias, out_weight,
                                    out_bias,      prob,     c.kind,        c.repeats};
    instance->call(EXN_TEST_OP(gate), params);
    return instance;
  };
  const auto oracle = lazily([c] { return gate_oracle(c, make_inputs(c)); });
  result.judge = [oracle](const Outputs& got) { return compare("prob", oracle(), got[0]); };
  const int64_t dim = c.features.cols;
  const int64_t hidden = c.kind == EXN_GATE_LINEAR || c.repeats == 0 ? 0
                         : c.kind == EXN_GATE_TANH                   ? c.repeats * dim * dim
                                                                     : dim * dim;
  result.compulsory_bytes =
      passes_over_weights(c.features.rows) * bytes_of(hidden + c.classes * dim, c.weight_type) +
      bytes_of(c.features.rows * dim, c.features.type) + bytes_of(c.features.rows, Type::kF32);
  result.description = {{"rows", std::to_string(c.features.rows)},
                        {"dim", std::to_string(dim)},
                        {"dtype", quoted(name_of(c.features.type))},
                        {"kind", std::to_string(c.kind)},
                        {"weight_dtype", quoted(name_of(c.weight_type))},
                        {"repeats", std::to_string(c.repeats)},
                        {"classes", std::to_string(c.classes)}};
  return result;
}

// ---- exit rules: the whole sequence of calls is one instance ------------------------------------

bool asks_for(const ExitRuleCase& c, ExitOutput output) { return (c.outputs >> output & 1) != 0; }

exn_exit_rule_params exit_rule_options(const ExitRuleCase& c, int64_t token, int64_t layer) {
  exn_exit_rule_params params = {};
  params.struct_size = sizeof params;
  params.rule = c.rule;
  params.comparator = c.comparator;
  params.decay = c.decay;
  params.scope = c.scope;
  params.threshold = c.threshold;
  params.decay_tau = c.tau;
  params.decay_horizon = c.horizon;
  params.step_index = static_cast<int32_t>(8 * token);
  params.patience = c.patience;
  params.min_steps = c.min_steps;
  params.max_steps = c.max_steps;
  params.layer = static_cast<int32_t>(layer);
  params.first = layer == 0 ? 1 : 0;
  params.force = c.force && layer + 1 == c.layers ? 1 : 0;
  return params;
}

std::unique_ptr<Instance> instantiate(const ExitRuleCase& c, int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  HostTensor old_state = make_tensor(Type::kI32, {c.rows, EXN_EXIT_STATE_WORDS});
  std::fill(old_state.bytes.begin(), old_state.bytes.end(), static_cast<unsigned char>(0x55));
  const DLTensor* state = instance->in_out("state", old_state);
  const DLTensor* exit_layer = nullptr;
  if (asks_for(c, kExitLayer)) exit_layer = instance->output("exit_layer", Type::kI32, {c.rows});
  for (int64_t token = 0; token < c.tokens; ++token) {
    for (int64_t layer = 0; layer < c.layers; ++layer) {
      const ExitRuleInputs in = make_inputs(c, token, layer);
      exn_exit_rule_params params = exit_rule_options(c, token, layer);
      params.score = instance->input(in.score);
      params.label = instance->input(in.label);
      params.valid = instance->input(in.valid);
      params.step = instance->input(in.step);
      params.state = state;
      params.exit_layer = exit_layer;
      // The mask is always asked for: the oracle follows it where rounding may tip a decision.
      params.exit_mask = instance->output("exit_mask", Type::kU8, {c.rows});
      if (asks_for(c, kActiveList))
        params.active_list = instance->output("active_list", Type::kI32, {c.rows});
      if (asks_for(c, kActiveCount))
        params.active_count = instance->output("active_count", Type::kI32, {1});
      instance->call(EXN_TEST_OP(exit_rule), params);
    }
  }
  return instance;
}

ExitRuleCall oracle_call(const exn_exit_rule_params& p) {
  ExitRuleCall call = {};
  call.rule = p.rule;
  call.comparator = p.comparator;
  call.decay = p.decay;
  call.scope = p.scope;
  call.threshold = p.threshold;
  call.tau = p.decay_tau;
  call.horizon = p.decay_horizon;
  call.step_index = p.step_index;
  call.patience = p.patience;
  call.min_steps = p.min_steps;
  call.max_steps = p.max_steps;
  call.layer = p.layer;
  call.first = p.first != 0;
  call.force = p.force != 0;
  return call;
}

Complaint judge(const ExitRuleCase& c, const Outputs& got) {
  ExitRuleOracle oracle(c.rows);
  size_t next = asks_for(c, kExitLayer) ? 2 : 1;  // after the state
  for (int64_t token = 0; token < c.tokens; ++token) {
    for (int64_t layer = 0; layer < c.layers; ++layer) {
      const std::string where =
          "token " + std::to_string(token) + " layer " + std::to_string(layer) + " ";
      const HostTensor& mask = got[next++];
      const std::vector<uint8_t> observed(mask.bytes.begin(), mask.bytes.end());
      const ExitRuleCall call = oracle_call(exit_rule_options(c, token, layer));
      if (!oracle.step(call, make_inputs(c, token, layer), &observed))
        return where + "exit_mask: a wrong decision";
      const std::vector<int32_t> active = oracle.active();
      if (asks_for(c, kActiveList)) {
        std::vector<int64_t> expected(active.begin(), active.end());
        expected.resize(static_cast<size_t>(c.rows), -1);
        const Complaint complaint = compare_integers(where + "active_list", expected, got[next++]);
        if (!complaint.empty()) return complaint;
      }
      if (asks_for(c, kActiveCount)) {
        const Complaint complaint = compare_integers(
            where + "active_count", {static_cast<int64_t>(active.size())}, got[next++]);
        if (!complaint.empty()) return complaint;
      }
    }
  }
  if (!asks_for(c, kExitLayer)) return "";
  std::vector<int64_t> expected;
  for (int64_t row = 0; row < c.rows; ++row) expected.push_back(oracle.exit_layer(row));
  return compare_integers("exit_layer", expected, got[1]);
}

Case make_case(const ExitRuleCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) { return instantiate(c, device_type); };
  result.judge = [c](const Outputs& got) { return judge(c, got); };
  result.compulsory_bytes = 40.0 * static_cast<double>(c.rows * c.layers * c.tokens);
  result.description = {{"rows", std::to_string(c.rows)},
                        {"calls", std::to_string(c.layers * c.tokens)}};
  return result;
}

const Room kRowStats("row_stats", [] { return listed("row_stats", row_stats_cases(), make_case); });
const Room kExitHead("exit_head", [] { return listed("exit_head", exit_head_cases(), make_case); });
const Room kStablemax("stablemax", [] { return listed("stablemax", stablemax_cases(), make_case); });
const Room kCrossEntropy("cross_entropy", [] { return listed("cross_entropy", cross_entropy_cases(), make_case); });
const Room kPerpGrad("perp_grad", [] { return listed("perp_grad", perp_grad_cases(), make_case); });
const Room kGate("gate", [] { return listed("gate", gate_cases(), make_case); });
const Room kExitRule("exit_rule", [] { return listed("exit_rule", exit_rule_cases(), make_case); });

}  // namespace

}  // namespace exn::test
