// SPDX-License-Identifier: Apache-2.0
#include "ssm_step/case.h"

#include <algorithm>
#include <functional>
#include <iterator>

#include "cache.h"
#include "dense.h"
#include "judge.h"
#include "maker.h"

namespace exn::test {
inline namespace ssm_step_op {

namespace {

void read_case(const Row& row, SsmStepCase* c) {
  c->x = read_matrix(row, "x", "rows", "channels", "special");
  c->stage = row.choice("stage", {"conv", "scan"});
  c->states = row.integer("states");
  c->width = row.integer("width");
  c->weight = row.text("weight");
  c->weight_offset = row.integer("weight_offset");
  const bool scans = c->stage == EXN_SSM_SCAN;
  const auto type = [&](const char* column, Type* to) {
    const bool given = row.text(column) != "-";
    if (given) *to = row.type(column);
    return given;
  };
  if (type("dt", &c->dt_type) != scans || type("bc", &c->bc_type) != scans)
    fail("dt and bc are of the scan");
  c->dt_scale = row.number("dt_scale");
  c->gated = type("z", &c->z_type);
  c->pad = row.integer("pad");
  c->bias = row.flag("bias");
  c->skip = row.flag("skip");
  c->has_out = type("out", &c->out_type);
  c->out_pad = row.integer("out_pad");
  c->out_offset = row.integer("out_offset");
  c->in_place = row.flag("in_place");
  if (c->in_place && (!c->has_out || c->out_type != c->x.type))
    fail("in_place, but out has another dtype");
  c->sequence = row.text("sequence");
  c->active = row.text("active");
}

HostTensor make_weight(const SsmStepCase& c) {
  HostTensor t = make_tensor(Type::kF32, {c.x.cols, c.width}, 0, c.weight_offset);
  for (int64_t i = 0; i < t.size(); ++i) {
    const double v = static_cast<double>(bell(word(c.seed, 2, static_cast<uint64_t>(i))));
    double value = v;
    if (c.weight == "mamba") {
      value = -static_cast<double>(i % c.width + 1);
    } else if (c.weight == "random") {
      value = -std::exp(v);
    } else if (c.weight == "growing") {
      value = v / 8;
    } else if (c.weight != "normal") {
      fail("weight: unknown word '" + c.weight + "'");
    }
    t.set(i / c.width, i % c.width, value);
  }
  return t;
}

HostTensor make_active(const SsmStepCase& c) {
  if (c.active == "-") return {};
  HostTensor t = make_tensor(Type::kU8, {c.x.rows});
  for (int64_t r = 0; r < c.x.rows; ++r) {
    const bool on = c.active == "some" && word(c.seed, 11, static_cast<uint64_t>(r)) % 3 != 0;
    t.set_integer(r, on ? 1 + r % 2 * 6 : 0);
  }
  return t;
}

}  // namespace

SsmStepInputs make_inputs(const SsmStepCase& c) {
  SsmStepInputs in;
  const int64_t rows = c.x.rows, channels = c.x.cols;
  in.x = make_matrix(c.x, c.seed, 0);
  in.state = make_bell(Type::kF32, {c.states, channels, c.width}, c.seed, 1, 0.5f);
  in.weight = make_weight(c);
  if (c.bias) in.bias = make_bell(Type::kF32, {channels}, c.seed, 3, 0.5f);
  if (c.stage == EXN_SSM_SCAN) {
    const auto make = [&](Type type, int64_t cols, uint64_t stream, float scale) {
      HostTensor t = make_tensor(type, {rows, cols}, c.pad, stream % 2 != 0 ? 1 : 0);
      fill(&t, c.seed, stream, "normal", scale, "-");
      return t;
    };
    in.dt = make(c.dt_type, channels, 4, c.dt_scale);
    in.b = make(c.bc_type, c.width, 5, 0.5f);
    in.c = make(c.bc_type, c.width, 6, 0.5f);
    if (c.skip) in.skip = make_bell(Type::kF32, {channels}, c.seed, 7, 0.25f, 1);
    if (c.gated) in.z = make(c.z_type, channels, 8, 2);
  }
  in.sequence = make_sequences(c.sequence, rows, c.states, c.seed, 9);
  in.active = make_active(c);
  // Of rows that are off nothing is read.
  for (int64_t r = 0; r < rows && c.active != "-"; ++r) {
    if (in.active.integer_at(r) != 0) continue;
    for (HostTensor* t : {&in.x, &in.dt, &in.b, &in.c, &in.z}) {
      for (int64_t i = 0; t->given() && i < t->cols; ++i) t->set(r, i, kNaN);
    }
  }
  return in;
}

// ---- oracle -------------------------------------------------------------------------------------

namespace {

// A value and how far one in f32 may be from it.
struct Near {
  double x = 0;
  double error = 0;
};

Near sum(Near a, Near b) {
  const double x = a.x + b.x;
  return {x, a.error + b.error + kUnit * std::fabs(x)};
}
Near product(Near a, Near b) {
  const double x = a.x * b.x;
  return {x, std::fabs(a.x) * b.error + std::fabs(b.x) * a.error + a.error * b.error +
                 kUnit * std::fabs(x) + smallest(Type::kF32)};
}

// Relative, as the header says.
double exp_error(double x) { return x <= 0 ? 5e-7 + 2e-8 * std::fabs(x) : 2 * (5e-7 + 2e-8 * x); }

Near exp_of(Near x) {
  const double e = std::exp(x.x);
  return {e, e * (exp_error(x.x) + 1.01 * x.error) + 2 * smallest(Type::kF32)};
}

// softplus' <= 1.
Near softplus_of(Near v) {
  const double t = std::max(v.x, 0.0) + std::log1p(std::exp(-std::fabs(v.x)));
  return {v.x > 20 ? v.x : t,
          v.error + t * (exp_error(-std::fabs(v.x)) + 4 * kUnit) + 2 * smallest(Type::kF32)};
}

// |SiLU'| < 1.1. What is nearly 0 may be 0.
Near silu_of(Near v) {
  const double y = v.x / (1 + std::exp(-v.x));
  const double flushed = v.x < -87 ? std::fabs(y) : 0;
  return {y, 1.1 * v.error + std::fabs(y) * (exp_error(-std::fabs(v.x)) + 4 * kUnit) + flushed};
}

Near at_or(const HostTensor& t, int64_t i) { return {t.given() ? t.at(0, i) : 0, 0}; }

using States = std::vector<Near>;

Near conv_channel(const SsmStepInputs& in, int64_t row, int64_t d, int64_t width, Near* state) {
  Near y;
  double magnitude = 0;
  for (int64_t k = 0; k < width; ++k) {
    state[k] = k + 1 < width ? state[k + 1] : Near{in.x.at(row, d), 0};
    const Near term = product(state[k], {in.weight.at(d, k), 0});
    y.x += term.x;
    y.error += term.error;
    magnitude += std::fabs(term.x);
  }
  y.error += kUnit * sum_error(width) * (magnitude + std::fabs(at_or(in.bias, d).x));
  return silu_of(sum(y, at_or(in.bias, d)));
}

Near scan_channel(const SsmStepInputs& in, int64_t row, int64_t d, int64_t width, Near* state) {
  const Near x = {in.x.at(row, d), 0};
  const Near dt = softplus_of(sum({in.dt.at(row, d), 0}, at_or(in.bias, d)));
  const Near dt_x = product(dt, x);
  Near y;
  double magnitude = 0;
  for (int64_t i = 0; i < width; ++i) {
    const Near decay = exp_of(product(dt, {in.weight.at(d, i), 0}));
    state[i] = sum(product(state[i], decay), product(dt_x, {in.b.at(row, i), 0}));
    const Near term = product(state[i], {in.c.at(row, i), 0});
    y.x += term.x;
    y.error += term.error;
    magnitude += std::fabs(term.x);
  }
  y.error += kUnit * sum_error(width) * magnitude;
  if (in.skip.given()) y = sum(y, product({in.skip.at(0, d), 0}, x));
  if (in.z.given()) y = product(y, silu_of({in.z.at(row, d), 0}));
  return y;
}

}  // namespace

SsmStepExpected ssm_step_oracle(const SsmStepCase& c, const SsmStepInputs& in) {
  const int64_t channels = c.x.cols;
  States state(at(c.states * channels * c.width));
  for (size_t i = 0; i < state.size(); ++i) state[i].x = in.state.at(0, static_cast<int64_t>(i));
  SsmStepExpected expected;
  for (int64_t row = 0; row < c.x.rows; ++row) {
    const int64_t s = id_or(in.sequence, row, 0);
    const bool on = s >= 0 && s < c.states && id_or(in.active, row, 1) != 0;
    for (int64_t d = 0; d < channels; ++d) {
      if (!on) {
        expected.out.push_back({0, 0});
        continue;
      }
      Near* of = &state[at((s * channels + d) * c.width)];
      const Near y = c.stage == EXN_SSM_SCAN ? scan_channel(in, row, d, c.width, of)
                                             : conv_channel(in, row, d, c.width, of);
      expected.out.push_back(stored(c.out_type, y.x, y.error));
    }
  }
  for (const Near& h : state) {
    // Inputs of the convolution are kept as they are.
    const bool exact = c.stage == EXN_SSM_CONV || h.error == 0;
    expected.state.push_back(exact ? Expected{h.x, 0} : stored(Type::kF32, h.x, h.error));
  }
  return expected;
}

// ---- case ---------------------------------------------------------------------------------------

namespace {

std::unique_ptr<Instance> instantiate(const SsmStepCase& c, const SsmStepInputs& in,
                                      int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  exn_ssm_step_params params = {};
  params.struct_size = sizeof params;
  params.state = instance->in_out("state", in.state);
  params.x = c.in_place ? instance->in_out("out", in.x) : instance->input(in.x);
  params.weight = instance->input(in.weight);
  params.bias = instance->input(in.bias);
  params.dt = instance->input(in.dt);
  params.b = instance->input(in.b);
  params.c = instance->input(in.c);
  params.skip = instance->input(in.skip);
  params.z = instance->input(in.z);
  if (c.in_place) {
    params.out = params.x;
  } else if (c.has_out) {
    params.out = instance->output("out", c.out_type, in.x.shape, c.out_pad, c.out_offset);
  }
  params.sequence = instance->input(in.sequence);
  params.active = instance->input(in.active);
  params.stage = c.stage;
  instance->call(EXN_TEST_OP(ssm_step), params);
  return instance;
}

double compulsory_bytes(const SsmStepCase& c, const SsmStepInputs& in) {
  std::vector<bool> moves(at(c.states));
  int64_t on = 0;
  for (int64_t r = 0; r < c.x.rows; ++r) {
    const int64_t s = id_or(in.sequence, r, 0);
    if (s < 0 || s >= c.states || id_or(in.active, r, 1) == 0) continue;
    moves[at(s)] = true;
    ++on;
  }
  const int64_t sequences = std::count(moves.begin(), moves.end(), true);
  const int64_t states = c.x.cols * c.width;
  const int64_t coefficients = ((c.bias ? 1 : 0) + (c.skip ? 1 : 0)) * c.x.cols;
  double bytes = bytes_of((2 * sequences + 1) * states + coefficients, Type::kF32);
  bytes += bytes_of(on * c.x.cols, c.x.type);
  if (c.has_out) bytes += bytes_of(c.x.rows * c.x.cols, c.out_type);
  if (c.stage == EXN_SSM_CONV) return bytes;
  bytes += bytes_of(on * c.x.cols, c.dt_type) + bytes_of(2 * on * c.width, c.bc_type);
  return bytes + (c.gated ? bytes_of(on * c.x.cols, c.z_type) : 0);
}

Case make_case(const SsmStepCase& c, const std::function<SsmStepInputs()>& make) {
  Case result;
  const auto inputs = lazily(make);
  result.instantiate = [c, inputs](int32_t device_type) {
    return instantiate(c, inputs(), device_type);
  };
  const auto oracle = lazily([c, inputs] { return ssm_step_oracle(c, inputs()); });
  result.judge = [c, oracle](const Outputs& got) {
    return first_of({compare("state", oracle().state, got[0]),
                     c.has_out ? compare("out", oracle().out, got[1]) : ""});
  };
  result.compulsory_bytes = compulsory_bytes(c, inputs());
  result.description = {{"stage", text(c.stage)},   {"rows", text(c.x.rows)},
                        {"states", text(c.states)}, {"channels", text(c.x.cols)},
                        {"width", text(c.width)},   {"dtype", quoted(name_of(c.x.type))}};
  return result;
}

Case make_sound(const SsmStepCase& c) {
  return make_case(c, [c] { return make_inputs(c); });
}

Case make_spoiled(const SsmStepCase& c) {
  return make_case(c, [c] {
    SsmStepInputs in = make_inputs(c);
    if (!in.sequence.given()) in.sequence = make_sequences("mod", c.x.rows, c.states, c.seed, 9);
    in.sequence = with_strays(in.sequence, -1, c.states);
    return in;
  });
}

void describe(Maker& m, exn_ssm_step_params& p) {
  m.zero(FIELD(reserved));
  const int32_t stage = m.mode(FIELD(stage), EXN_SSM_CONV, EXN_SSM_SCAN);
  const bool scans = stage == EXN_SSM_SCAN;
  const Dim rows = m.dim("rows", 0, 4, 40), channels = m.dim("channels", 1, 40, 300),
            width = m.dim("width", 1, 16, EXN_SSM_MOST_STATES), states = m.dim("states", 1, 3, 9);
  const Tensor* x = m.in(FIELD(x), m.type(kFloats), {rows, channels}, kRows);
  m.in_out(FIELD(state), kF32, {states, channels, width});
  m.in(FIELD(weight), kF32, {channels, width});
  m.in(FIELD(bias), kF32, {channels}, kOptional);
  if (scans) {
    m.in(FIELD(dt), m.type(kFloats), {rows, channels}, kRows);
    m.in(FIELD(b), m.type(kFloats), {rows, width}, kRows);
    m.in(FIELD(c), m.type(kFloats), {rows, width}, kRows);
    m.in(FIELD(skip), kF32, {channels}, kOptional);
    m.in(FIELD(z), m.type(kFloats), {rows, channels}, kRows | kOptional);
  } else {
    m.none(FIELD(dt));
    m.none(FIELD(b));
    m.none(FIELD(c));
    m.none(FIELD(skip));
    m.none(FIELD(z));
  }
  m.out_over(FIELD(out), x, m.type(kFloats), {rows, channels}, scans ? kRows | kOptional : kRows);
  m.ids(FIELD(sequence), {rows}, {0, states.size - 1, true}, kOptional);
  m.in(FIELD(active), kU8, {rows}, kOptional);
}

const Described kDescribed = EXN_DESCRIBED(ssm_step);

const RegisteredOp kRegistered("ssm_step", [] {
  const std::vector<SsmStepCase> cases = read_cases<SsmStepCase>("ssm_step", read_case);
  std::vector<ListedCase> all = listed("ssm_step", cases, make_sound);
  std::vector<SsmStepCase> several;  // of one row none is spoilt
  std::copy_if(cases.begin(), cases.end(), std::back_inserter(several),
               [](const SsmStepCase& c) { return c.x.rows > 1; });
  append_spoiled(&all, "ssm_step", several, make_spoiled);
  return all;
});

}  // namespace

}  // namespace ssm_step_op
}  // namespace exn::test
