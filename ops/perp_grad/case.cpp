// SPDX-License-Identifier: Apache-2.0
#include "perp_grad/case.h"

#include "judge.h"
#include "maker.h"
#include "reals.h"

namespace exn::test {
inline namespace perp_grad_op {

namespace {

struct PerpGradCase : CaseBase {
  std::vector<int64_t> shape;
  Type type = Type::kF32;
  int64_t offset = 0;
  std::string weight_fill;
  float weight_scale = 1;
  std::string grad_fill;
  float grad_scale = 1;
  std::string special;
  int32_t form = EXN_PERP_CODE;
  bool in_place = false;
};

void read_case(const Row& row, PerpGradCase* c) {
  std::stringstream shape(row.text("shape"));
  for (std::string extent; std::getline(shape, extent, 'x');) {
    c->shape.push_back(std::stoll(extent));
  }
  c->type = row.type("dtype");
  c->offset = row.integer("offset");
  c->weight_fill = row.text("weight_fill");
  c->weight_scale = row.number("weight_scale");
  c->grad_fill = row.text("grad_fill");
  c->grad_scale = row.number("grad_scale");
  c->special = row.text("special");
  c->form = row.choice("form", {"code", "paper"});
  c->in_place = row.flag("in_place");
}

struct Inputs {
  HostTensor weight, grad;
};

Inputs make_inputs(const PerpGradCase& c) {
  Inputs in;
  in.weight = make_tensor(c.type, c.shape, 0, c.offset);
  in.grad = make_tensor(c.type, c.shape, 0, c.offset);
  for (HostTensor* t : {&in.weight, &in.grad}) {
    t->cols = t->size();
    t->rows = 1;
    t->stride = t->cols;
  }
  fill(&in.weight, c.seed, 0, c.weight_fill, c.weight_scale, "-");
  if (!derive(in.weight, c.grad_fill, c.seed, c.grad_scale, &in.grad)) {
    fill(&in.grad, c.seed, 1, c.grad_fill, c.grad_scale, "-");
  }
  if (c.special.rfind("weight_", 0) == 0) fill_special(&in.weight, c.seed, 0, c.special.substr(7));
  if (c.special.rfind("grad_", 0) == 0) fill_special(&in.grad, c.seed, 1, c.special.substr(5));
  return in;
}

template <typename Real>
PerpGradExpected perp_grad_in(const HostTensor& weight, const HostTensor& grad, int32_t form) {
  const Type type = weight.type;
  const Real u = static_cast<Real>(arithmetic(type));
  const std::vector<Real> w = row_of<Real>(weight, 0);
  const std::vector<Real> g = row_of<Real>(grad, 0);
  const size_t n = w.size();
  PerpGradExpected out;
  if (!all_finite(w) || !all_finite(g)) {
    out.out.assign(n, nan());
    return out;
  }
  Real wg = 0, ww = 0, gg = 0, wg_magnitude = 0;
  for (size_t i = 0; i < n; ++i) {
    wg += w[i] * g[i];
    wg_magnitude += std::fabs(w[i] * g[i]);
    ww += w[i] * w[i];
    gg += g[i] * g[i];
  }
  const Real divisor = ww + static_cast<Real>(1e-30L);
  const Real alpha = wg / divisor;
  const Real sum_bound = u * static_cast<Real>(sum_error(static_cast<int64_t>(n)));
  const Real alpha_error = sum_bound * (wg_magnitude / divisor + std::fabs(alpha));
  std::vector<Real> perp(n), error(n);
  Real pp = 0, cross = 0;
  for (size_t i = 0; i < n; ++i) {
    perp[i] = g[i] - alpha * w[i];
    const Real rounding_error = 2 * u * (std::fabs(g[i]) + std::fabs(alpha * w[i]));
    error[i] = rounding_error + alpha_error * std::fabs(w[i]);
    pp += perp[i] * perp[i];
    cross += perp[i] * perp[i] * rounding_error * rounding_error;
  }
  const Real length = std::sqrt(pp), full = std::sqrt(gg);
  const Real guard = static_cast<Real>(rounding(type)) * (type == Type::kF64 ? 8 : 1) * full;
  out.norm = as_double(form == EXN_PERP_CODE ? full : 8 * guard);
  if (length <= guard / 8) {
    out.out.assign(n, Expected{0, 0});
    return out;
  }
  out.noise = length <= guard * 8;
  Real scale = 1, scale_error = 0;
  if (form == EXN_PERP_CODE) {
    scale = full / (length + static_cast<Real>(1e-30L));
    scale_error =
        sum_bound + kIndependent * std::sqrt(cross) / pp + alpha_error * alpha_error * ww / pp;
  }
  for (size_t i = 0; i < n; ++i) {
    const Real v = perp[i] * scale;
    out.out.push_back(stored(type, v, error[i] * scale + (scale_error + 3 * u) * std::fabs(v)));
  }
  return out;
}

}  // namespace

PerpGradExpected perp_grad_oracle(const HostTensor& weight, const HostTensor& grad, int32_t form) {
  return weight.type == Type::kF64 ? perp_grad_in<Wide>(weight, grad, form)
                                   : perp_grad_in<double>(weight, grad, form);
}

namespace {

Complaint judge(const PerpGradExpected& expected, const HostTensor& got) {
  if (!expected.noise) return compare("out", expected.out, got);
  double square = 0;
  for (int64_t row = 0; row < got.rows; ++row) {
    for (int64_t col = 0; col < got.cols; ++col) square += got.at(row, col) * got.at(row, col);
  }
  return std::sqrt(square) <= 1.02 * expected.norm ? "" : "out: longer than the gradient";
}

Case make_case(const PerpGradCase& c) {
  Case result;
  int64_t elements = 1;
  for (const int64_t extent : c.shape) elements *= extent;
  const auto inputs = lazily([c] { return make_inputs(c); });
  result.instantiate = [c, inputs](int32_t device_type) {
    auto instance = std::make_unique<Instance>(device_type);
    const Inputs& in = inputs();
    const DLTensor* weight = instance->input(in.weight);
    const DLTensor* grad = c.in_place ? instance->in_out("out", in.grad) : instance->input(in.grad);
    const DLTensor* out = c.in_place ? grad : instance->output("out", c.type, c.shape, 0, c.offset);
    const exn_perp_grad_params params = {sizeof params, weight, grad, out, c.form, 0};
    instance->call(EXN_TEST_OP(perp_grad), params);
    return instance;
  };
  const auto oracle = lazily([c, inputs] {
    const Inputs& in = inputs();
    return perp_grad_oracle(in.weight, in.grad, c.form);
  });
  result.judge = [oracle](const Outputs& got) { return judge(oracle(), got[0]); };
  result.compulsory_bytes = 5 * bytes_of(elements, c.type);
  result.description = {
      {"elements", text(elements)}, {"dtype", quoted(name_of(c.type))}, {"form", text(c.form)}};
  return result;
}

void describe(Maker& m, exn_perp_grad_params& p) {
  const Dim a = m.dim("a", 0, 5, 60), b = m.dim("b", 0, 20, 300), c = m.dim("c", 0, 3, 5);
  const TypeOf type = m.type(kFloatsAndF64);
  const auto made = [&](std::initializer_list<Dim> dims) {
    m.in(FIELD(weight), type, dims, kAnyRank);
    const Tensor* grad = m.in(FIELD(grad), type, dims, kAnyRank);
    m.out_over(FIELD(out), grad, type, dims, kAnyRank);
  };
  switch (m.one_of("rank", 0, 3)) {
    case 0:
      made({});
      break;
    case 1:
      made({b});
      break;
    case 2:
      made({a, b});
      break;
    default:
      made({a, b, c});
  }
  m.choice(FIELD(form), EXN_PERP_CODE, EXN_PERP_PAPER);
  m.zero(FIELD(reserved));
}

const Described kDescribed = EXN_DESCRIBED(perp_grad);

const RegisteredOp kRegistered("perp_grad", [] {
  return listed("perp_grad", read_cases<PerpGradCase>("perp_grad", read_case), make_case);
});

}  // namespace

}  // namespace perp_grad_op
}  // namespace exn::test
