// SPDX-License-Identifier: Apache-2.0
#include "cross_entropy/case.h"

#include "distribution.h"
#include "maker.h"

namespace exn::test {
inline namespace cross_entropy_op {

namespace {

void read_case(const Row& row, CrossEntropyCase* c) {
  c->logits = read_matrix(row);
  c->grad_pad = row.integer("grad_pad");
  c->grad_offset = row.integer("grad_offset");
  c->label_type = row.type("label_dtype");
  c->labels = row.text("labels");
  c->ignore_index = row.integer("ignore_index");
  c->normalizer = row.choice("normalizer", {"softmax", "stablemax"});
  c->reduction = row.choice("reduction", {"none", "mean"});
  const uint32_t outputs = row.subset("outputs", {"loss", "grad"});
  c->loss = outputs & 1;
  c->grad = outputs & 2;
  c->in_place = row.flag("in_place");
}

}  // namespace

CrossEntropyInputs make_inputs(const CrossEntropyCase& c) {
  CrossEntropyInputs in;
  in.logits = make_matrix(c.logits, c.seed, 0);
  in.labels = make_tensor(c.label_type, {c.logits.rows});
  if (c.labels != "random" && c.labels != "some" && c.labels != "ignored" && c.labels != "last") {
    fail("labels: " + c.labels);
  }
  for (int64_t r = 0; r < c.logits.rows; ++r) {
    int64_t label = static_cast<int64_t>(word(c.seed, 1, static_cast<uint64_t>(r)) %
                                         static_cast<uint64_t>(c.logits.cols));
    if (c.labels == "last") label = c.logits.cols - 1;
    if (c.labels == "ignored" || (c.labels == "some" && r % 4 == 2)) label = c.ignore_index;
    in.labels.set_integer(r, label);
  }
  return in;
}

namespace {

// One row of a cross-entropy: loss and gradient before the division by the count.
template <typename Real>
struct LossRow {
  Real loss = 0;
  Real loss_bound = 0;
  std::vector<Real> grad;
  std::vector<Real> grad_bound;
};

template <typename Real>
LossRow<Real> loss_row(const std::vector<Real>& z, size_t label, int32_t normalizer, Real u) {
  LossRow<Real> row;
  row.grad.resize(z.size());
  row.grad_bound.resize(z.size());
  if (!valid_logits(z)) {
    row.loss = static_cast<Real>(kNaN);
    row.grad.assign(z.size(), static_cast<Real>(kNaN));
    return row;
  }
  const Scores<Real> s = scores_of(z, normalizer, u);
  row.loss = s.d.lse - s.x[label];
  row.loss_bound = log_bound(s, label, u);
  for (size_t j = 0; j < z.size(); ++j) {
    const Real hot = j == label ? 1 : 0;
    const Real slope = normalizer == EXN_STABLEMAX ? 1 / (1 + std::fabs(z[j])) : 1;
    row.grad[j] = slope * (s.d.p[j] - hot);
    row.grad_bound[j] = slope * (probability_bound(s, j, u) + 4 * u * (s.d.p[j] + hot));
  }
  return row;
}

template <typename Real>
CrossEntropyExpected cross_entropy_in(const CrossEntropyCase& c, const CrossEntropyInputs& in) {
  const Type type = in.logits.type;
  const Type loss_type = type == Type::kF64 ? Type::kF64 : Type::kF32;
  const Real u = static_cast<Real>(arithmetic(type));
  const bool mean = c.reduction == EXN_REDUCE_MEAN;
  const int64_t rows = in.logits.rows;
  int64_t counted = 0;
  for (int64_t r = 0; r < rows; ++r) counted += in.labels.integer_at(r) != c.ignore_index;
  const Real divisor = mean && counted > 0 ? static_cast<Real>(counted) : 1;

  CrossEntropyExpected out;
  Real total = 0, magnitude = 0, bound = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t label = in.labels.integer_at(r);
    const std::vector<Real> z = row_of<Real>(in.logits, r);
    if (label == c.ignore_index) {
      if (!mean) out.loss.push_back({0, 0});
      out.grad.insert(out.grad.end(), z.size(), Expected{0, 0});
      continue;
    }
    const LossRow<Real> row = loss_row(z, at(label), c.normalizer, u);
    total += row.loss;
    magnitude += std::fabs(row.loss);
    bound += row.loss_bound;
    if (!mean) out.loss.push_back(stored(loss_type, row.loss, row.loss_bound));
    for (size_t j = 0; j < z.size(); ++j) {
      const Real g = row.grad[j] / divisor;
      out.grad.push_back(stored(type, g, row.grad_bound[j] / divisor + 2 * u * std::fabs(g)));
    }
  }
  if (mean) {
    const Real n = static_cast<Real>(counted);
    out.loss.push_back(counted == 0 ? nan()
                                    : stored(loss_type, total / n,
                                             (bound + u * sum_error(counted) * magnitude) / n));
  }
  return out;
}

}  // namespace

CrossEntropyExpected cross_entropy_oracle(const CrossEntropyCase& c, const CrossEntropyInputs& in) {
  return in.logits.type == Type::kF64 ? cross_entropy_in<Wide>(c, in)
                                      : cross_entropy_in<double>(c, in);
}

std::unique_ptr<Instance> instantiate(const CrossEntropyCase& c, const CrossEntropyInputs& in,
                                      int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
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
}

Complaint judge(const CrossEntropyCase& c, const CrossEntropyExpected& expected,
                const Outputs& got) {
  return first_of({c.loss ? compare("loss", expected.loss, got.front()) : "",
                   c.grad ? compare("grad", expected.grad, got.back()) : ""});
}

namespace {

Case make_case(const CrossEntropyCase& c) {
  Case result;
  const auto in = lazily([c] { return make_inputs(c); });
  result.instantiate = [c, in](int32_t device_type) { return instantiate(c, in(), device_type); };
  const auto oracle = lazily([c, in] { return cross_entropy_oracle(c, in()); });
  result.judge = [c, oracle](const Outputs& got) { return judge(c, oracle(), got); };
  result.compulsory_bytes =
      (c.grad ? 2 : 1) * bytes_of(c.logits.rows * c.logits.cols, c.logits.type);
  result.description = {{"rows", text(c.logits.rows)},
                        {"cols", text(c.logits.cols)},
                        {"dtype", quoted(name_of(c.logits.type))},
                        {"normalizer", text(c.normalizer)},
                        {"grad", c.grad ? "true" : "false"}};
  return result;
}

void describe(Maker& m, exn_cross_entropy_params& p) {
  const Dim rows = m.dim("rows", 0, 4, 40), columns = m.dim("columns", 1, 40, 600);
  const TypeOf type = m.type(kFloatsAndF64);
  const Tensor* logits = m.in(FIELD(logits), type, {rows, columns}, kRows);
  m.choice(FIELD(normalizer), EXN_SOFTMAX, EXN_STABLEMAX);
  const int32_t reduction = m.choice(FIELD(reduction), EXN_REDUCE_NONE, EXN_REDUCE_MEAN);
  m.any_integer(FIELD(ignore_index), m.random().pick<int64_t>({-100, 0, INT64_MIN, INT32_MAX}));
  const TypeOf label = m.type(kLabels);
  Tensor* labels = m.in(FIELD(labels), label, {rows});
  TensorField& f = m.fields()[m.field_count() - 1];
  f.has_ids = true;
  // One value outside may be ignore_index.
  f.ids = {0, columns.size - 1, p.ignore_index == 0};
  for (int64_t r = 0; r < labels->elements && m.complete(); ++r) {
    const int64_t value = m.random().below(columns.size);
    if (label.type == Type::kI64) labels->data<int64_t>()[r] = value;
    if (label.type == Type::kI32) labels->data<int32_t>()[r] = static_cast<int32_t>(value);
  }
  TypeOf loss = kF32;  // f64 beside f64
  if (type.type == Type::kF64) loss = {Type::kF64, only(Type::kF64), 0};
  loss.symbol = type.symbol;
  const Dim losses = reduction == EXN_REDUCE_NONE ? rows : m.fixed(1);
  const bool has_grad = m.out_over(FIELD(grad), logits, type, {rows, columns}, kRows | kOptional);
  m.out(FIELD(loss), loss, {losses}, has_grad ? kOptional : kOptional | kWanted);
}

const Described kDescribed = EXN_DESCRIBED(cross_entropy);

const RegisteredOp kRegistered("cross_entropy", [] {
  return listed("cross_entropy", read_cases<CrossEntropyCase>("cross_entropy", read_case),
                make_case);
});

}  // namespace

}  // namespace cross_entropy_op
}  // namespace exn::test
