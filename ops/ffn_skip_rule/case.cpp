// SPDX-License-Identifier: Apache-2.0
#include "judge.h"
#include "maker.h"
#include "reals.h"

namespace exn::test {
inline namespace ffn_skip_rule_op {

namespace {

// For each token one call per l = -1, 0, ... layers - 2, with `layer` = l.
struct FfnSkipRuleCase : CaseBase {
  int64_t rows = 0;
  int32_t layers = 1;
  int64_t tokens = 1;
  int32_t cold_start = 0;
  int32_t cold_end = 0;
  int32_t warm_up = 0;
  int32_t budget = -1;
  float threshold = 0;
  bool token_tensor = false;
  std::string cosines;
  bool nan = false;
};

void read_case(const Row& row, FfnSkipRuleCase* c) {
  const auto integer = [&](const char* column) {
    return static_cast<int32_t>(row.integer(column));
  };
  c->rows = row.integer("rows");
  c->layers = integer("layers");
  c->tokens = row.integer("tokens");
  c->cold_start = integer("cold_start");
  c->cold_end = integer("cold_end");
  c->warm_up = integer("warm_up");
  c->budget = integer("budget");
  c->threshold = row.number("threshold");
  c->token_tensor = row.choice("token", {"index", "tensor"}) == 1;
  c->cosines = row.text("cosines");
  c->nan = row.choice("special", {"-", "nan"}) == 1;
}

// ---- inputs -------------------------------------------------------------------------------------

struct Inputs {
  HostTensor cosine, token;
};

float cosine_of(const std::string& kind, uint64_t w, int32_t layer) {
  if (kind == "unit") return 2 * unit(w) - 1;
  if (kind == "high") return 1 - unit(w) * 0.125f;
  if (kind == "grid") return static_cast<float>((w >> 32) % 11) * 0.1f;
  if (kind == "eighths") return static_cast<float>((w >> 32) % 9) * 0.125f;
  if (kind == "rising") return static_cast<float>(layer) * 0.03125f + unit(w) * 0.25f;
  fail("cosines: unknown word '" + kind + "'");
}

// The call after `layer`, which ran under the mask `skipped`: a row that skipped has no cosine.
Inputs make_inputs(const FfnSkipRuleCase& c, int64_t token, int32_t layer,
                   const HostTensor& skipped) {
  Inputs in;
  if (layer >= 0) in.cosine = make_tensor(Type::kF32, {c.rows});
  if (c.token_tensor) in.token = make_tensor(Type::kI32, {c.rows});
  for (int64_t r = 0; r < c.rows; ++r) {
    if (in.token.given()) in.token.set_integer(r, token + r % 4);
    if (!in.cosine.given()) continue;
    const uint64_t i = static_cast<uint64_t>((token * c.layers + layer) * c.rows + r);
    const bool nan = skipped.integer_at(r) != 0 || (c.nan && word(c.seed, 1, i) % 7 == 0);
    in.cosine.set(
        0, r, nan ? kNaN : static_cast<double>(cosine_of(c.cosines, word(c.seed, 0, i), layer)));
  }
  return in;
}

HostTensor initial_state(const FfnSkipRuleCase& c) {
  HostTensor state = make_tensor(Type::kI32, {c.rows, EXN_FFN_SKIP_STATE_WORDS});
  for (int64_t i = 0; i < state.size(); ++i) state.set_integer(i, 0x55555555);
  return state;
}

// ---- oracle -------------------------------------------------------------------------------------

// The state machine of all rows. A row begins to skip whether or not its token is past warm_up,
// which only keeps the mask at 0.
void step(const FfnSkipRuleCase& c, int64_t token, int32_t layer, const Inputs& in,
          HostTensor* state, HostTensor* skip) {
  const auto cold = [&](int32_t l) { return l >= c.cold_start && l < c.cold_end; };
  for (int64_t r = 0; r < c.rows; ++r) {
    int64_t skips = layer < 0 ? 0 : state->integer_at(r * EXN_FFN_SKIP_STATE_WORDS);
    int64_t skipped = layer < 0 ? 0 : state->integer_at(r * EXN_FFN_SKIP_STATE_WORDS + 1);
    const double threshold = static_cast<double>(c.threshold);
    if (layer >= 0 && cold(layer) && threshold < 1 && in.cosine.at(0, r) >= threshold) skips = 1;
    const bool warm = id_or(in.token, r, token) >= c.warm_up;
    const bool affordable = c.budget < 0 || skipped < c.budget;
    const bool now = skips == 1 && cold(layer + 1) && warm && affordable;
    skip->set_integer(r, now);
    state->set_integer(r * EXN_FFN_SKIP_STATE_WORDS, skips);
    state->set_integer(r * EXN_FFN_SKIP_STATE_WORDS + 1, skipped + now);
  }
}

// Plays all calls: visit(token, layer, inputs) for each.
template <class Visit>
ExactOutputs play(const FfnSkipRuleCase& c, Visit visit) {
  ExactOutputs outputs = {{"state", initial_state(c)}};
  for (int64_t token = 0; token < c.tokens; ++token) {
    for (int32_t layer = -1; layer < c.layers - 1; ++layer) {
      const Inputs in = make_inputs(c, token, layer, outputs.back().second);
      visit(token, layer, in);
      HostTensor skip = make_tensor(Type::kU8, {c.rows});
      step(c, token, layer, in, &outputs[0].second, &skip);
      outputs.emplace_back("token " + text(token) + " layer " + text(layer) + " skip", skip);
    }
  }
  return outputs;
}

// ---- case ---------------------------------------------------------------------------------------

std::unique_ptr<Instance> instantiate(const FfnSkipRuleCase& c, int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  const DLTensor* state = instance->in_out("state", initial_state(c));
  play(c, [&](int64_t token, int32_t layer, const Inputs& in) {
    exn_ffn_skip_rule_params params = {};
    params.struct_size = sizeof params;
    params.cosine = instance->input(in.cosine);
    params.token = instance->input(in.token);
    params.state = state;
    params.skip = instance->output("skip", Type::kU8, {c.rows});
    params.layer = layer;
    params.model_layers = c.layers;
    params.cold_start = c.cold_start;
    params.cold_end = c.cold_end;
    params.warm_up = c.warm_up;
    params.token_index = static_cast<int32_t>(token);
    params.budget = c.budget;
    params.threshold = c.threshold;
    instance->call(EXN_TEST_OP(ffn_skip_rule), params);
  });
  return instance;
}

Case make_case(const FfnSkipRuleCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) { return instantiate(c, device_type); };
  result.judge = [c](const Outputs& got) { return compare_bytes(play(c, [](auto&&...) {}), got); };
  result.compulsory_bytes = 21.0 * static_cast<double>(c.rows * c.layers * c.tokens);
  result.description = {{"rows", text(c.rows)}, {"calls", text(c.layers * c.tokens)}};
  return result;
}

void describe(Maker& m, exn_ffn_skip_rule_params& p) {
  const Dim rows = m.dim("rows", 0, 5, 100);
  const int64_t layers = m.random().between(2, 9);
  m.integer(FIELD(model_layers), layers, 1, INT64_MAX);
  const int64_t layer = m.random().between(-1, layers - 2);
  const int64_t start = m.random().between(0, layers), end = m.random().between(start, layers);
  m.integer(FIELD(layer), layer, -1, layers - 2);
  m.integer(FIELD(cold_start), start, 0, end);
  m.integer(FIELD(cold_end), end, start, layers);
  m.integer(FIELD(warm_up), m.random().below(5), 0, INT64_MAX);
  m.integer(FIELD(token_index), m.random().below(9), 0, INT64_MAX);
  m.integer(FIELD(budget), m.random().between(-1, 4), -1, INT64_MAX);
  m.real(FIELD(threshold), Domain::kNotNan);
  m.in(FIELD(cosine), kF32, {rows}, layer >= 0 ? kPlain : kOptional);
  m.in(FIELD(token), kI32, {rows}, kOptional);
  m.in_out(FIELD(state), kI32, {rows, m.fixed(EXN_FFN_SKIP_STATE_WORDS)});
  m.out(FIELD(skip), kU8, {rows});
}

const Described kDescribed = EXN_DESCRIBED(ffn_skip_rule);

const RegisteredOp kRegistered("ffn_skip_rule", [] {
  return listed("ffn_skip_rule", read_cases<FfnSkipRuleCase>("ffn_skip_rule", read_case),
                make_case);
});

}  // namespace

}  // namespace ffn_skip_rule_op
}  // namespace exn::test
