// SPDX-License-Identifier: Apache-2.0
#include "elr/case.h"

#include "distribution.h"
#include "maker.h"

namespace exn::test {
inline namespace elr_op {

namespace {

void read_case(const Row& row, ElrCase* c) {
  c->logits = read_matrix(row);
  c->grad_pad = row.integer("grad_pad");
  c->grad_offset = row.integer("grad_offset");
  c->label_type = row.type("label_dtype");
  c->labels = row.text("labels");
  c->ignore_index = row.integer("ignore_index");
  c->samples = row.integer("samples");
  c->index = row.text("index");
  c->targets = row.text("targets");
  c->target_pad = row.integer("target_pad");
  c->target_offset = row.integer("target_offset");
  c->beta = row.number("beta");
  c->lambda = row.number("lambda");
  c->reduction = row.choice("reduction", {"none", "mean"});
  const uint32_t outputs = row.text("outputs") == "-" ? 0 : row.subset("outputs", {"loss", "grad"});
  c->loss = outputs & 1;
  c->grad = outputs & 2;
  c->in_place = row.flag("in_place");
}

// Of a network that has an opinion: a softmax whose sum is 1, or 0.9 in odd rows.
void warm(HostTensor* targets, uint64_t seed) {
  for (int64_t n = 0; n < targets->rows; ++n) {
    std::vector<double> e(at(targets->cols));
    double sum = 0;
    for (int64_t j = 0; j < targets->cols; ++j) {
      const uint64_t i = static_cast<uint64_t>(n * targets->cols + j);
      sum += e[at(j)] = std::exp(2 * static_cast<double>(bell(word(seed, 2, i))));
    }
    for (int64_t j = 0; j < targets->cols; ++j)
      targets->set(n, j, e[at(j)] / sum * (n % 2 == 0 ? 1 : 0.9));
  }
}

}  // namespace

ElrInputs make_inputs(const ElrCase& c) {
  ElrInputs in;
  const int64_t rows = c.logits.rows, columns = c.logits.cols;
  in.logits = make_matrix(c.logits, c.seed, 0);
  in.labels = make_tensor(c.label_type, {rows});
  for (int64_t r = 0; r < rows; ++r) {
    int64_t label = pick(c.seed, 1, r, columns);
    if (c.labels == "last") label = columns - 1;
    if (c.labels == "ignored" || (c.labels == "some" && r % 4 == 2)) label = c.ignore_index;
    in.labels.set_integer(r, label);
  }
  in.index = make_tensor(Type::kI32, {rows});
  const std::vector<int64_t> order = shuffled(c.samples, c.seed, 3);
  for (int64_t r = 0; r < rows; ++r)
    in.index.set_integer(r, c.index == "shuffled" ? order[at(r)] : c.samples - rows + r);
  in.targets = make_tensor(Type::kF32, {c.samples, columns}, c.target_pad, c.target_offset);
  if (c.targets == "warm") {
    warm(&in.targets, c.seed);
  } else {
    fill(&in.targets, c.seed, 2, c.targets, 1, "-");
  }
  return in;
}

// ---- oracle -------------------------------------------------------------------------------------

namespace {

constexpr double kLeast = 1e-4, kMost = 1 - 1e-4;

struct ElrRow {
  double loss = 0;
  double loss_bound = 0;
  std::vector<double> grad;
  std::vector<double> grad_bound;
};

// A probability and what the clamp makes of it.
struct Clamped {
  double p, p_bound;
  double c, c_bound;
  bool free;
  bool close;  // to the edge of the clamp: it may hold p or not
};

Clamped clamped(double p, double p_bound) {
  Clamped r = {p, p_bound, std::min(std::max(p, kLeast), kMost), 0, false, false};
  r.free = p >= kLeast && p <= kMost;
  const double reach = p_bound + 2 * kUnit * r.c;
  r.close = std::fabs(p - kLeast) <= reach || std::fabs(p - kMost) <= reach;
  r.c_bound = (r.free || r.close ? p_bound : 0) + 2 * kUnit * r.c;
  return r;
}

// Moves the target of a valid row.
ElrRow elr_row(const std::vector<double>& z, size_t label, double beta, double lambda,
               std::vector<Expected>::iterator target) {
  const Scores<double> s = scores_of(z, EXN_SOFTMAX, kUnit);
  const int64_t columns = static_cast<int64_t>(z.size());
  std::vector<Clamped> of(z.size());
  double sum = 0, sum_bound = 0;
  for (size_t j = 0; j < z.size(); ++j) {
    of[j] = clamped(s.d.p[j], probability_bound(s, j, kUnit) + 2 * kUnit * s.d.p[j]);
    sum += of[j].c;
    sum_bound += of[j].c_bound;
  }
  sum_bound += kUnit * sum_error(columns) * sum;
  double seen = 0, seen_bound = 0, passed = 0, passed_bound = 0;
  std::vector<double> t(z.size()), t_bound(z.size());
  for (size_t j = 0; j < z.size(); ++j) {
    const Clamped& x = of[j];
    const double kept = beta * target[static_cast<int64_t>(j)].value;
    const double taken = (1 - beta) * x.c / sum;
    t[j] = kept + taken;
    t_bound[j] = (1 - beta) * (x.c_bound + x.c * sum_bound / sum) / sum +
                 4 * kUnit * (std::fabs(kept) + taken);
    target[static_cast<int64_t>(j)] = stored(Type::kF32, t[j], t_bound[j]);
    seen += t[j] * x.c;
    seen_bound += t_bound[j] * x.c + std::fabs(t[j]) * x.c_bound;
    if (x.free) passed += t[j] * x.p;
    if (x.free || x.close) passed_bound += t_bound[j] * x.p + std::fabs(t[j]) * x.p_bound;
    if (x.close) passed_bound += std::fabs(t[j]) * x.p;
  }
  seen_bound += kUnit * sum_error(columns) * std::fabs(seen);
  passed_bound += kUnit * sum_error(columns) * std::fabs(passed);
  const double rest = 1 - seen, rest_bound = seen_bound + kUnit;
  ElrRow row;
  row.loss = s.d.lse - s.x[label] + lambda * std::log(rest);
  row.loss_bound = log_bound(s, label, kUnit) + lambda * -std::log1p(-rest_bound / rest) +
                   4 * kUnit * (std::fabs(row.loss) + lambda * std::fabs(std::log(rest)));
  for (size_t j = 0; j < z.size(); ++j) {
    const Clamped& x = of[j];
    const double hot = j == label ? 1 : 0;
    const double pull = passed - (x.free ? t[j] : 0);
    const double pull_bound =
        passed_bound + (x.free || x.close ? t_bound[j] : 0) + (x.close ? std::fabs(t[j]) : 0);
    const double moved = lambda * x.p * pull / rest;
    row.grad.push_back(x.p - hot + moved);
    row.grad_bound.push_back(x.p_bound + 4 * kUnit * (x.p + hot) +
                             lambda / rest * (x.p_bound * std::fabs(pull) + x.p * pull_bound) +
                             std::fabs(moved) * (rest_bound / (rest - rest_bound)) +
                             8 * kUnit * lambda * x.p * (std::fabs(passed) + std::fabs(t[j])) /
                                 rest);
  }
  return row;
}

bool can_be(const ElrCase& c, const ElrInputs& in, int64_t row) {
  const int64_t label = in.labels.integer_at(row), sample = in.index.integer_at(row);
  if (label < 0 || label >= c.logits.cols || sample < 0 || sample >= c.samples) return false;
  for (int64_t before = 0; before < row; ++before) {
    if (in.index.integer_at(before) == sample) return false;
  }
  return true;
}

}  // namespace

ElrExpected elr_oracle(const ElrCase& c, const ElrInputs& in) {
  const int64_t rows = c.logits.rows, columns = c.logits.cols;
  const bool mean = c.reduction == EXN_REDUCE_MEAN;
  int64_t counted = 0;
  for (int64_t r = 0; r < rows; ++r) counted += in.labels.integer_at(r) != c.ignore_index;
  const double divisor = mean && counted > 0 ? static_cast<double>(counted) : 1;
  ElrExpected out;
  for (int64_t n = 0; n < c.samples; ++n) {
    for (int64_t j = 0; j < columns; ++j) out.targets.push_back({in.targets.at(n, j), 0});
  }
  double total = 0, magnitude = 0, bound = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t label = in.labels.integer_at(r);
    const std::vector<double> z = row_of<double>(in.logits, r);
    if (label == c.ignore_index) {
      if (!mean) out.loss.push_back({0, 0});
      out.grad.insert(out.grad.end(), z.size(), Expected{0, 0});
      continue;
    }
    if (!can_be(c, in, r) || !valid_logits(z)) {
      total = kNaN;
      if (!mean) out.loss.push_back(nan());
      out.grad.insert(out.grad.end(), z.size(), nan());
      continue;
    }
    const int64_t first = in.index.integer_at(r) * columns;
    const ElrRow row = elr_row(z, at(label), static_cast<double>(c.beta),
                               static_cast<double>(c.lambda), out.targets.begin() + first);
    total += row.loss;
    magnitude += std::fabs(row.loss);
    bound += row.loss_bound;
    if (!mean) out.loss.push_back(stored(Type::kF32, row.loss, row.loss_bound));
    for (size_t j = 0; j < z.size(); ++j) {
      const double g = row.grad[j] / divisor;
      out.grad.push_back(
          stored(in.logits.type, g, row.grad_bound[j] / divisor + 2 * kUnit * std::fabs(g)));
    }
  }
  if (mean) {
    const double n = static_cast<double>(counted);
    const double mean_bound = (bound + kUnit * sum_error(counted) * magnitude) / n;
    out.loss.push_back(counted == 0 ? nan() : stored(Type::kF32, total / n, mean_bound));
  }
  return out;
}

// ---- case ---------------------------------------------------------------------------------------

std::unique_ptr<Instance> instantiate(const ElrCase& c, const ElrInputs& in, int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  exn_elr_params params = {};
  params.struct_size = sizeof params;
  params.targets = instance->in_out("targets", in.targets);
  params.labels = instance->input(in.labels);
  params.index = instance->input(in.index);
  if (c.loss) {
    const int64_t losses = c.reduction == EXN_REDUCE_MEAN ? 1 : c.logits.rows;
    params.loss = instance->output("loss", Type::kF32, {losses});
  }
  params.logits = c.in_place ? instance->in_out("grad", in.logits) : instance->input(in.logits);
  if (c.in_place) {
    params.grad = params.logits;
  } else if (c.grad) {
    params.grad =
        instance->output("grad", in.logits.type, in.logits.shape, c.grad_pad, c.grad_offset);
  }
  params.ignore_index = c.ignore_index;
  params.beta = c.beta;
  params.lambda = c.lambda;
  params.reduction = c.reduction;
  instance->call(EXN_TEST_OP(elr), params);
  return instance;
}

Complaint judge(const ElrCase& c, const ElrExpected& expected, const Outputs& got) {
  return first_of({compare("targets", expected.targets, got.front()),
                   c.loss ? compare("loss", expected.loss, got[1]) : "",
                   c.grad ? compare("grad", expected.grad, got.back()) : ""});
}

namespace {

Case make_case(const ElrCase& c) {
  Case result;
  const auto in = lazily([c] { return make_inputs(c); });
  result.instantiate = [c, in](int32_t device_type) { return instantiate(c, in(), device_type); };
  const auto oracle = lazily([c, in] { return elr_oracle(c, in()); });
  result.judge = [c, oracle](const Outputs& got) { return judge(c, oracle(), got); };
  const int64_t elements = c.logits.rows * c.logits.cols;
  result.compulsory_bytes =
      bytes_of((c.grad ? 2 : 1) * elements, c.logits.type) + bytes_of(2 * elements, Type::kF32) +
      bytes_of(c.logits.rows, c.label_type) + bytes_of(c.logits.rows, Type::kI32);
  result.description = {{"rows", text(c.logits.rows)},
                        {"cols", text(c.logits.cols)},
                        {"dtype", quoted(name_of(c.logits.type))},
                        {"grad", c.grad ? "true" : "false"}};
  return result;
}

// Ids that `field`'s tensor holds, with what is sound.
void ids_of(Maker& m, Ids ids) {
  TensorField& f = m.fields()[m.field_count() - 1];
  f.has_ids = true;
  f.ids = ids;
}

void describe(Maker& m, exn_elr_params& p) {
  m.zero(FIELD(reserved));
  const Dim rows = m.dim("rows", 0, 4, 40), columns = m.dim("columns", 1, 40, 600);
  const Dim samples = m.derived(plus(rows.size, m.within("spare", 1, 9)));
  const TypeOf type = m.type(kFloats);
  const Tensor* logits = m.in(FIELD(logits), type, {rows, columns}, kRows);
  const int32_t reduction = m.choice(FIELD(reduction), EXN_REDUCE_NONE, EXN_REDUCE_MEAN);
  m.any_integer(FIELD(ignore_index), m.random().pick<int64_t>({-100, 0, INT64_MIN, INT32_MAX}));
  const TypeOf label = m.type(kLabels);
  Tensor* labels = m.in(FIELD(labels), label, {rows});
  // One value outside may be ignore_index.
  ids_of(m, {0, columns.size - 1, p.ignore_index == 0});
  for (int64_t r = 0; r < labels->elements && m.complete(); ++r) {
    const int64_t value = m.random().below(columns.size);
    if (label.type == Type::kI64) labels->data<int64_t>()[r] = value;
    if (label.type == Type::kI32) labels->data<int32_t>()[r] = static_cast<int32_t>(value);
  }
  int32_t* index = m.integers(FIELD(index), Role::kIn, {rows});
  ids_of(m, {0, samples.size - 1, true});
  for (int64_t r = 0; r < rows.size && m.complete(); ++r)
    index[r] = static_cast<int32_t>(samples.size - 1 - r);
  m.in_out(FIELD(targets), kF32, {samples, columns}, kRows);
  const Dim losses = reduction == EXN_REDUCE_NONE ? rows : m.fixed(1);
  m.out_over(FIELD(grad), logits, type, {rows, columns}, kRows | kOptional);
  m.out(FIELD(loss), kF32, {losses}, kOptional);
  m.real(FIELD(beta), Domain::kShare);
  m.real(FIELD(lambda), Domain::kNotNegative);
}

const Described kDescribed = EXN_DESCRIBED(elr);

const RegisteredOp kRegistered("elr", [] {
  return listed("elr", read_cases<ElrCase>("elr", read_case), make_case);
});

}  // namespace

}  // namespace elr_op
}  // namespace exn::test
