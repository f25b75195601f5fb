// SPDX-License-Identifier: Apache-2.0
#include "hired_budget/case.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "maker.h"
#include "reals.h"

namespace exn::test {
inline namespace hired_budget_op {

namespace {

double f64_in(const Row& row, const char* column) {
  const std::string& text = row.text(column);
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0') fail(std::string(column) + ": '" + text + "' is no number");
  return value;
}

void read_case(const Row& row, HiredBudgetCase* c) {
  c->patch_rows = row.integer("patch_rows");
  c->patch_cols = row.integer("patch_cols");
  c->attention = {row.integer("images"), c->patches(),          Type::kF32,
                  row.integer("pad"),    row.integer("offset"), row.text("fill"),
                  row.number("scale"),   row.text("special")};
  c->rate = f64_in(row, "rate");
  c->alpha = f64_in(row, "alpha");
  c->grid_rows = row.integer("grid_rows");
  c->grid_cols = row.integer("grid_cols");
  c->score = row.choice("score", {"sum", "top_count"});
  c->region = row.choice("region", {"grid", "strip"});
  c->remainder = row.choice("remainder", {"truncate", "largest"});
  c->outputs = row.text("outputs") == "-" ? 0 : row.subset("outputs", {"marks", "valid"});
}

// ---- the oracle ---------------------------------------------------------------------------------

using Real = long double;

float to_f32(Real x) { return static_cast<float>(static_cast<double>(x)); }

int64_t truncated(double x) { return static_cast<int64_t>(x); }

class HiredImage {
 public:
  HiredImage(const HiredBudgetCase& c, const HostTensor& attention, int64_t image)
      : marks(at(c.patches()), 0), c_(c) {
    const int64_t patches = c.patches(), parts = c.parts();
    for (int64_t t = 0; t < patches; ++t) attention_.push_back(attention.at(image, t));
    valid = std::all_of(attention_.begin(), attention_.end(),
                        [](double a) { return std::isfinite(a); });
    budget.assign(at(1 + parts), static_cast<int32_t>(patches));
    if (!valid) return;
    const int64_t total = truncated(static_cast<double>((1 + parts) * patches) * c.rate);
    const int64_t full = std::min(truncated(static_cast<double>(total) * c.alpha), patches);
    budget[0] = static_cast<int32_t>(full);
    if (c.score == EXN_HIRED_TOP_COUNT) mark();
    share(std::min(total - full, parts * patches));
  }

  bool valid = false;
  bool uncertain = false;
  std::vector<int32_t> budget;
  std::vector<uint8_t> marks;

 private:
  void mark() {
    std::vector<size_t> order(attention_.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return attention_[a] > attention_[b]; });
    const int64_t count = truncated(static_cast<double>(c_.patches()) * (1 - c_.alpha));
    for (int64_t i = 0; i < count; ++i) marks[order[at(i)]] = 1;
  }

  int64_t region_of(int64_t token) const {
    if (c_.region == EXN_HIRED_STRIP) return token / (c_.patches() / c_.parts());
    const int64_t row = token / c_.patch_cols / (c_.patch_rows / c_.grid_rows);
    return row * c_.grid_cols + token % c_.patch_cols / (c_.patch_cols / c_.grid_cols);
  }

  void share(int64_t sub_budget) {
    if (c_.parts() == 0) return;
    const bool counts = c_.score == EXN_HIRED_TOP_COUNT;
    std::vector<Real> score(at(c_.parts()), 0), size = score;
    for (int64_t t = 0; t < c_.patches(); ++t) {
      const Real a = static_cast<Real>(attention_[at(t)]);
      score[at(region_of(t))] += counts ? static_cast<Real>(marks[at(t)]) : a;
      size[at(region_of(t))] += std::fabs(a);
    }
    const Real sum = std::accumulate(score.begin(), score.end(), Real{0});
    // What summing in double, in whatever order, may make of it; counts are exact.
    const Real unit = counts ? 0 : 0x1p-53L * static_cast<Real>(2 * c_.patches());
    const Real sum_error = unit * std::accumulate(size.begin(), size.end(), Real{0});
    const bool positive = sum > 0;
    if (sum != 0 && std::fabs(sum) <= sum_error) uncertain = true;
    if (!positive) std::fill(score.begin(), score.end(), 1);
    const Real whole = positive ? sum : static_cast<Real>(c_.parts());
    std::vector<float> quota;
    for (size_t i = 0; i < score.size(); ++i) {
      const Real part = score[i] / whole, relative = sum_error / whole + 0x1p-52L;
      const Real error = positive ? unit * size[i] / whole + relative * std::fabs(part) : 0;
      if (to_f32(part - error) != to_f32(part + error)) uncertain = true;
      const double exact = static_cast<double>(score[i]) / static_cast<double>(whole);
      quota.push_back(static_cast<float>(exact) * static_cast<float>(sub_budget));
    }
    deal(quota, sub_budget);
  }

  void deal(const std::vector<float>& quota, int64_t sub_budget) {
    const float most = static_cast<float>(c_.patches());
    std::vector<float> fraction;
    int64_t left = sub_budget;
    for (size_t i = 0; i < quota.size(); ++i) {
      const float q = quota[i] > 0 ? std::min(quota[i], most) : 0.0f;
      budget[i + 1] = static_cast<int32_t>(q);
      fraction.push_back(q - std::floor(q));
      left -= budget[i + 1];
    }
    if (c_.remainder == EXN_HIRED_TRUNCATE) return;
    std::vector<size_t> order(quota.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return fraction[a] > fraction[b]; });
    while (left > 0) {
      for (size_t i : order) {
        if (left == 0 || budget[i + 1] == c_.patches()) continue;
        ++budget[i + 1];
        --left;
      }
    }
  }

  const HiredBudgetCase& c_;
  std::vector<double> attention_;
};

}  // namespace

std::vector<HiredBudgetCase> hired_budget_cases() {
  return read_cases<HiredBudgetCase>("hired_budget", read_case);
}

HostTensor make_attention(const HiredBudgetCase& c) {
  if (c.attention.fill != "unit") return make_matrix(c.attention, c.seed, 0);
  MatrixSpec zeros = c.attention;
  zeros.fill = "zero";
  HostTensor attention = make_matrix(zeros, c.seed, 0);
  for (int64_t i = 0; i < attention.size(); ++i) {
    const int64_t row = i / c.patches(), column = i % c.patches();
    const float share = unit(word(c.seed, 0, static_cast<uint64_t>(i))) * c.attention.scale;
    const bool special = attention.at(row, column) != 0;
    if (!special) attention.set(row, column, static_cast<double>(share));
  }
  return attention;
}

HiredBudgetExpected hired_budget_oracle(const HiredBudgetCase& c, const HostTensor& attention) {
  HiredBudgetExpected e;
  for (int64_t image = 0; image < c.attention.rows; ++image) {
    const HiredImage one(c, attention, image);
    e.budget.insert(e.budget.end(), one.budget.begin(), one.budget.end());
    e.marks.insert(e.marks.end(), one.marks.begin(), one.marks.end());
    e.valid.push_back(one.valid ? 1 : 0);
    e.uncertain.push_back(one.uncertain);
  }
  return e;
}

namespace {

Case make_case(const HiredBudgetCase& c) {
  Case result;
  const int64_t images = c.attention.rows;
  const bool marks = (c.outputs >> kHiredMarks & 1) != 0;
  const bool valid = (c.outputs >> kHiredValid & 1) != 0;
  result.instantiate = [c, images, marks, valid](int32_t device_type) {
    auto instance = std::make_unique<Instance>(device_type);
    exn_hired_budget_params params = {};
    params.struct_size = sizeof params;
    params.attention = instance->input(make_attention(c));
    params.budget = instance->output("budget", Type::kI32, {images, 1 + c.parts()});
    if (marks) params.marks = instance->output("marks", Type::kU8, {images, c.patches()});
    if (valid) params.valid = instance->output("valid", Type::kU8, {images});
    params.rate = c.rate;
    params.alpha = c.alpha;
    params.patch_rows = c.patch_rows;
    params.patch_cols = c.patch_cols;
    params.grid_rows = c.grid_rows;
    params.grid_cols = c.grid_cols;
    params.score = c.score;
    params.region = c.region;
    params.remainder = c.remainder;
    instance->call(EXN_TEST_OP(hired_budget), params);
    return instance;
  };
  const auto oracle = lazily([c] { return hired_budget_oracle(c, make_attention(c)); });
  result.judge = [c, marks, valid, oracle](const Outputs& got) {
    std::vector<int64_t> budget = widened(oracle().budget);
    for (size_t i = 0; i < budget.size(); ++i) {  // where rounding decides, it may
      const size_t image = i / static_cast<size_t>(1 + c.parts());
      if (oracle().uncertain[image]) budget[i] = got[0].integer_at(static_cast<int64_t>(i));
    }
    return first_of({compare_integers("budget", budget, got[0]),
                     marks ? compare_integers("marks", widened(oracle().marks), got[1]) : "",
                     valid ? compare_integers("valid", widened(oracle().valid), got.back()) : ""});
  };
  const int64_t bytes =
      4 * c.patches() + 4 * (1 + c.parts()) + (marks ? c.patches() : 0) + (valid ? 1 : 0);
  result.compulsory_bytes = static_cast<double>(images * bytes);
  result.description = {{"images", text(images)},
                        {"cols", text(c.patches())},
                        {"patch_rows", text(c.patch_rows)},
                        {"patch_cols", text(c.patch_cols)},
                        {"grid_rows", text(c.grid_rows)},
                        {"grid_cols", text(c.grid_cols)},
                        {"counts", text(c.score == EXN_HIRED_TOP_COUNT)},
                        {"grid", text(c.region == EXN_HIRED_GRID)},
                        {"rate", std::to_string(c.rate)},
                        {"alpha", std::to_string(c.alpha)}};
  return result;
}

void describe(Maker& m, exn_hired_budget_params& p) {
  const int64_t grid_rows = m.one_of("grid_rows", 0, 3);
  const int64_t grid_cols = grid_rows == 0 ? 0 : m.one_of("grid_cols", 1, 3);
  const int64_t patch_rows =
      m.size("patch_rows", std::max<int64_t>(grid_rows, 1) * m.random().between(1, 4));
  const int64_t patch_cols =
      m.size("patch_cols", std::max<int64_t>(grid_cols, 1) * m.random().between(1, 4));
  const Dim images = m.dim("images", 0, 3, 9), patches = m.fixed(times(patch_rows, patch_cols));
  m.in(FIELD(attention), kF32, {images, patches}, kRows);
  m.out(FIELD(budget), kI32, {images, m.fixed(1 + grid_rows * grid_cols)});
  const int32_t score = m.choice(FIELD(score), EXN_HIRED_SUM, EXN_HIRED_TOP_COUNT);
  score == EXN_HIRED_TOP_COUNT ? (void)m.out(FIELD(marks), kU8, {images, patches}, kOptional)
                               : m.none(FIELD(marks));
  m.out(FIELD(valid), kU8, {images}, kOptional);
  m.real(FIELD(rate), Domain::kShare);
  m.real(FIELD(alpha), Domain::kShare);
  m.integer(FIELD(patch_rows), patch_rows, patch_rows, patch_rows);
  m.integer(FIELD(patch_cols), patch_cols, patch_cols, patch_cols);
  m.integer(FIELD(grid_rows), grid_rows, grid_rows, grid_rows);
  m.integer(FIELD(grid_cols), grid_cols, grid_cols, grid_cols);
  m.choice(FIELD(region), EXN_HIRED_GRID, EXN_HIRED_STRIP);
  m.choice(FIELD(remainder), EXN_HIRED_TRUNCATE, EXN_HIRED_LARGEST_REMAINDER);
  m.zero(FIELD(reserved));
}

const Described kDescribed = EXN_DESCRIBED(hired_budget);

const RegisteredOp kRegistered("hired_budget", [] {
  return listed("hired_budget", hired_budget_cases(), make_case);
});

}  // namespace

}  // namespace hired_budget_op
}  // namespace exn::test
