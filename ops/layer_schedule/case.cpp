// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "judge.h"
#include "maker.h"
#include "reals.h"

namespace exn::test {
inline namespace layer_schedule_op {

namespace {

enum ScheduleOutput { kExitTest, kThreshold };

struct LayerScheduleCase : CaseBase {
  int64_t positions = 0;
  int64_t layers = 1;
  // All but the tensors.
  exn_layer_schedule_params options = {};
  std::vector<int32_t> order;
  uint32_t outputs = 0;

  bool asks_for(ScheduleOutput output) const { return (outputs >> output & 1) != 0; }
};

void read_case(const Row& row, LayerScheduleCase* c) {
  const auto integer = [&](const char* column) {
    return static_cast<int32_t>(row.integer(column));
  };
  c->positions = row.integer("positions");
  c->layers = row.integer("layers");
  c->options.struct_size = sizeof c->options;
  c->options.kind = row.choice("kind", {"skipdecode", "calm", "fixed", "unified"});
  c->options.prompt = integer("prompt");
  c->options.horizon = integer("horizon");
  c->options.most = integer("most");
  c->options.least = integer("least");
  c->options.warm_up = integer("warm_up");
  c->options.first_exit = integer("first_exit");
  c->options.min_exit = integer("min_exit");
  c->options.interval = integer("interval");
  c->options.decay = row.choice("decay", {"none", "calm_code", "calm_paper"});
  c->options.start_threshold = row.number("start_threshold");
  c->options.tau = row.number("tau");
  if (row.text("order") != "-") {
    for (int64_t layer : read_list(row.text("order"), ','))
      c->order.push_back(static_cast<int32_t>(layer));
  }
  c->outputs = row.text("outputs") == "-" ? 0 : row.subset("outputs", {"exit_test", "threshold"});
}

// ---- oracle -------------------------------------------------------------------------------------

struct ScheduleExpected {
  std::vector<int32_t> layers;      // [T,L]
  std::vector<int32_t> count;       // [T]
  std::vector<int32_t> exit_test;   // [T,L]
  std::vector<Expected> threshold;  // [T], CALM
};

// Quotient of non-negative numbers, rounded to the nearest, halves up: the middles between whole
// numbers, (2 q - 1) / 2, are counted that the quotient has reached.
int64_t nearest_quotient(int64_t numerator, int64_t denominator) {
  int64_t reached = 0;
  while ((2 * reached + 1) * denominator <= 2 * numerator) ++reached;
  return reached;
}

std::vector<int32_t> all_layers(int64_t layers) {
  std::vector<int32_t> list;
  for (int64_t l = 0; l < layers; ++l) list.push_back(static_cast<int32_t>(l));
  return list;
}

std::vector<int32_t> skip_decode_layers(const LayerScheduleCase& c, int64_t position) {
  const auto& o = c.options;
  const int64_t decay = o.horizon - o.prompt;
  const int64_t passed = std::min(std::max<int64_t>(position - o.prompt, 0), decay);
  const int64_t active = nearest_quotient(o.most * decay - (o.most - o.least) * passed, decay);
  std::vector<int32_t> list;
  for (int32_t l = 0; l < c.layers; ++l) {
    if (l < o.warm_up || l >= c.layers - (active - o.warm_up)) list.push_back(l);
  }
  return list;
}

std::vector<int32_t> unified_layers(const LayerScheduleCase& c, int64_t position) {
  const int64_t least = c.options.least;
  if (position < c.options.prompt) return all_layers(c.layers);
  if (least == 1) return {static_cast<int32_t>(c.layers - 1)};
  std::vector<int32_t> list;
  for (int64_t i = 0; i < least; ++i)
    list.push_back(static_cast<int32_t>(nearest_quotient(i * (c.layers - 1), least - 1)));
  return list;
}

std::vector<int32_t> layers_at(const LayerScheduleCase& c, int64_t position) {
  switch (c.options.kind) {
    case EXN_SCHEDULE_SKIPDECODE:
      return skip_decode_layers(c, position);
    case EXN_SCHEDULE_FIXED:
      return c.order;
    case EXN_SCHEDULE_UNIFIED:
      return unified_layers(c, position);
    default:
      return all_layers(c.layers);
  }
}

// Not for any kind but CALM, for which it is the same at every position.
bool asks_to_exit(const LayerScheduleCase& c, int64_t layer) {
  const auto& o = c.options;
  if (o.kind != EXN_SCHEDULE_CALM || layer >= c.layers - 1 || layer < o.min_exit ||
      layer < o.first_exit)
    return false;
  return (layer - o.first_exit) % o.interval == 0;
}

// Five roundings and an exp of at most 2 units; positions of the prompt count as step 0.
Expected threshold_at(const LayerScheduleCase& c, int64_t position) {
  const auto& o = c.options;
  const double base = static_cast<double>(o.start_threshold);
  if (o.decay == EXN_DECAY_NONE) return {base, 0};
  const double step = static_cast<double>(std::max<int64_t>(position - o.prompt, 0));
  const double exponent = static_cast<double>(o.tau) * step / static_cast<double>(o.horizon);
  const double fade = std::exp(-exponent);
  const double moving = o.decay == EXN_DECAY_CALM_CODE ? .1 * base * fade : .1 * fade;
  double theta = .9 * base + moving;
  if (o.decay == EXN_DECAY_CALM_PAPER) theta = std::min(1.0, std::max(0.0, theta));
  const double error = kUnit * (4 * std::fabs(.9 * base) + (6 + 2 * exponent) * std::fabs(moving));
  return {theta, error + smallest(Type::kF32)};
}

ScheduleExpected oracle(const LayerScheduleCase& c) {
  ScheduleExpected e;
  for (int64_t t = 0; t < c.positions; ++t) {
    std::vector<int32_t> layers = layers_at(c, t);
    e.count.push_back(static_cast<int32_t>(layers.size()));
    layers.resize(at(c.layers), -1);
    e.layers.insert(e.layers.end(), layers.begin(), layers.end());
    for (int64_t l = 0; l < c.layers; ++l) e.exit_test.push_back(asks_to_exit(c, l) ? 1 : 0);
    e.threshold.push_back(threshold_at(c, t));
  }
  return e;
}

// SkipDecode's promise: a layer that runs at a position has run at every earlier one, so that
// whatever K and V it attends to are there.
Complaint judge_keys(const LayerScheduleCase& c, const HostTensor& layers,
                     const HostTensor& count) {
  if (c.options.kind != EXN_SCHEDULE_SKIPDECODE) return "";
  std::vector<bool> ran(at(c.layers), true);
  for (int64_t t = 0; t < c.positions; ++t) {
    std::vector<bool> runs(at(c.layers), false);
    for (int64_t i = 0; i < count.integer_at(t); ++i) {
      const int64_t layer = layers.integer_at(t * c.layers + i);
      if (!ran[at(layer)])
        return "position " + text(t) + ": layer " + text(layer) + " lacks earlier keys";
      runs[at(layer)] = true;
    }
    if (!runs.back() && count.integer_at(t) != c.options.warm_up)
      return "position " + text(t) + ": the last layer does not run";
    ran = runs;
  }
  return "";
}

// ---- case ---------------------------------------------------------------------------------------

std::unique_ptr<Instance> instantiate(const LayerScheduleCase& c, int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  exn_layer_schedule_params params = c.options;
  params.layers = instance->output("layers", Type::kI32, {c.positions, c.layers});
  params.count = instance->output("count", Type::kI32, {c.positions});
  if (c.asks_for(kExitTest))
    params.exit_test = instance->output("exit_test", Type::kU8, {c.positions, c.layers});
  if (c.asks_for(kThreshold))
    params.threshold = instance->output("threshold", Type::kF32, {c.positions});
  HostTensor order;
  if (!c.order.empty()) order = make_integers(widened(c.order));
  params.order = instance->input(order);
  instance->call(EXN_TEST_OP(layer_schedule), params);
  return instance;
}

Complaint judge(const LayerScheduleCase& c, const Outputs& got) {
  const ScheduleExpected e = oracle(c);
  Complaint complaint = first_of({compare_integers("layers", widened(e.layers), got[0]),
                                  compare_integers("count", widened(e.count), got[1])});
  if (complaint.empty()) complaint = judge_keys(c, got[0], got[1]);
  if (complaint.empty() && c.asks_for(kExitTest))
    complaint = compare_integers("exit_test", widened(e.exit_test), got[2]);
  if (complaint.empty() && c.asks_for(kThreshold))
    complaint = compare("threshold", e.threshold, got.back());
  return complaint;
}

Case make_case(const LayerScheduleCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) { return instantiate(c, device_type); };
  result.judge = [c](const Outputs& got) { return judge(c, got); };
  const int64_t position =
      (c.asks_for(kExitTest) ? 5 : 4) * c.layers + 4 + (c.asks_for(kThreshold) ? 4 : 0);
  result.compulsory_bytes = static_cast<double>(c.positions * position);
  result.description = {
      {"positions", text(c.positions)}, {"layers", text(c.layers)}, {"kind", text(c.options.kind)}};
  return result;
}

void describe(Maker& m, exn_layer_schedule_params& p) {
  const Dim positions = m.dim("positions", 0, 9, 100), layers = m.dim("layers", 1, 9, 60);
  m.out(FIELD(layers), kI32, {positions, layers});
  m.out(FIELD(count), kI32, {positions});
  m.out(FIELD(exit_test), kU8, {positions, layers}, kOptional);
  const int32_t kind = m.choice(FIELD(kind), EXN_SCHEDULE_SKIPDECODE, EXN_SCHEDULE_UNIFIED);
  const bool calm = kind == EXN_SCHEDULE_CALM, falls = kind == EXN_SCHEDULE_SKIPDECODE;
  calm ? (void)m.out(FIELD(threshold), kF32, {positions}, kOptional) : m.none(FIELD(threshold));
  if (kind == EXN_SCHEDULE_FIXED) {
    const Dim listed = m.derived(m.within("listed", 1, layers.size));
    int32_t* order = m.ids(FIELD(order), {listed}, {0, layers.size - 1, true});
    for (int64_t i = 0; i < listed.size && m.complete(); ++i)
      order[i] = static_cast<int32_t>(layers.size - 1 - i);
  } else {
    m.none(FIELD(order));
  }
  const int64_t least = m.random().between(1, layers.size);
  m.integer(FIELD(prompt), m.random().below(9), 0, falls ? 19 : INT64_MAX);
  m.integer(FIELD(horizon), 20, falls || calm ? 1 : kAny64, INT64_MAX);
  m.integer(FIELD(most), m.random().between(least, layers.size), falls ? least : kAny64,
            falls ? layers.size : INT64_MAX);
  const bool needs_least = falls || kind == EXN_SCHEDULE_UNIFIED;
  m.integer(FIELD(least), least, needs_least ? 1 : kAny64, needs_least ? layers.size : INT64_MAX);
  m.integer(FIELD(warm_up), m.random().between(0, least), falls ? 0 : kAny64,
            falls ? least : INT64_MAX);
  m.integer(FIELD(first_exit), m.random().below(5), calm ? 0 : kAny64, INT64_MAX);
  m.integer(FIELD(min_exit), m.random().below(5), calm ? 0 : kAny64, INT64_MAX);
  m.integer(FIELD(interval), m.random().between(1, 4), calm ? 1 : kAny64, INT64_MAX);
  m.integer(FIELD(decay), m.random().below(3), calm ? 0 : kAny64,
            calm ? int64_t{EXN_DECAY_CALM_PAPER} : INT64_MAX);
  calm ? m.real(FIELD(start_threshold), Domain::kFinite) : m.unused(FIELD(start_threshold));
  calm ? m.real(FIELD(tau), Domain::kNotNegative) : m.unused(FIELD(tau));
}

const Described kDescribed = EXN_DESCRIBED(layer_schedule);

const RegisteredOp kRegistered("layer_schedule", [] {
  auto all = listed("layer_schedule", read_cases<LayerScheduleCase>("layer_schedule", read_case),
                    make_case);
  for (ListedCase& c : all) c.host_only = true;
  return all;
});

}  // namespace

}  // namespace layer_schedule_op
}  // namespace exn::test
