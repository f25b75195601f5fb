// SPDX-License-Identifier: Apache-2.0
#include "dense.h"

#include "blocks.h"

namespace exn::test {

const std::vector<const char*> kNorms = {"none", "rms", "layer"};
const std::vector<const char*> kRopeStyles = {"interleaved", "half"};

HostTensor make_rope_table(int64_t positions, int64_t pairs, const std::string& kind,
                           uint64_t seed) {
  HostTensor t = make_tensor(Type::kF32, {positions, pairs, 2});
  fill(&t, seed, 2, kind, kind == "normal" ? 0.5f : 1.0f, "-");
  return t;
}

Values exact_values(const HostTensor& t, int64_t row) {
  Values values(at(t.cols));
  for (int64_t c = 0; c < t.cols; ++c) values[at(c)].x = t.at(row, c);
  return values;
}

Matrix matrix_of(const HostTensor& t) {
  Matrix m;
  m.quantised = t.blocks != EXN_BLOCKS_NONE && !in_panels(t.blocks);
  for (int64_t r = 0; r < t.rows; ++r) m.rows.push_back(weight_row(t, r));
  return m;
}

std::vector<double> weight_row(const HostTensor& t, int64_t row) {
  return t.blocks == EXN_BLOCKS_NONE ? row_of<double>(t, row) : unpacked_row(t, row);
}

namespace {

constexpr size_t kTogether = 32;

}  // namespace

RoundedInput::RoundedInput(const Values& x) {
  for (size_t i = 0; i < x.size(); ++i) add(i, x[i].x, x[i].error());
}

RoundedInput::RoundedInput(const std::vector<double>& x, const std::vector<double>& error) {
  for (size_t i = 0; i < x.size(); ++i) add(i, x[i], error[i]);
}

void RoundedInput::add(size_t i, double x, double error) {
  if (i % kTogether == 0) largest_.push_back(0x1p-88);
  largest_.back() = std::max(largest_.back(), std::fabs(x) + error);
  finite_ = finite_ && std::isfinite(x);
}

void RoundedInput::meet(const std::vector<double>& w, double* product, double* error,
                        double share) const {
  if (!finite_ || !all_finite(w)) *product = kNaN;
  for (size_t first = 0; first < w.size(); first += kTogether) {
    double sum = 0;
    for (size_t i = first; i < first + kTogether; ++i) sum += std::fabs(w[i]);
    *error += (share + 0x1p-22) * largest_[first / kTogether] * sum;
  }
}

Values rounded_to_int8(Values x) {
  for (size_t first = 0; first < x.size(); first += kTogether) {
    float largest = 0x1p-88f;
    double error = 0;
    for (size_t i = first; i < first + kTogether; ++i) {
      largest = std::max(largest, static_cast<float>(std::fabs(x[i].x)));
      error = std::max(error, x[i].error());
    }
    const float scale = largest / 127, inverse = 127 / largest;
    for (size_t i = first; i < first + kTogether; ++i) {
      Approximate& v = x[i];
      if (!std::isfinite(v.x)) continue;
      const double steps = static_cast<double>(static_cast<float>(v.x) * inverse);
      const double whole = std::nearbyint(steps), step = static_cast<double>(scale);
      v = {whole * step, 0, 0};
      if (error == 0) continue;
      // Of the element itself, of the scale, and of what is computed in f32.
      const double off = (2 * error + 4 * kUnit * static_cast<double>(largest)) / step;
      v.own = step * (std::nearbyint(steps + off) - std::nearbyint(steps - off));
      v.shared = std::fabs(whole) * (error / 127 + 4 * kUnit * step);
    }
  }
  return x;
}

HostTensor without_infinities(const std::vector<Expected>& expected, HostTensor got) {
  for (int64_t r = 0; r < got.rows; ++r) {
    for (int64_t i = 0; i < got.cols; ++i) {
      const bool none = std::isnan(expected[at(r * got.cols + i)].value);
      if (none && std::isinf(got.at(r, i))) got.set(r, i, kNaN);
    }
  }
  return got;
}

// What the scale and the mean are off is shared by all elements.
void normalise(Values* row, int32_t norm, float eps, const HostTensor& weight,
               const HostTensor& bias) {
  if (norm == EXN_NORM_NONE) return;
  const int64_t n = static_cast<int64_t>(row->size());
  const double count = static_cast<double>(n);
  double mean = 0, mean_error = 0;
  if (norm == EXN_NORM_LAYER) {
    double magnitude = 0;
    for (const Approximate& v : *row) {
      mean += v.x / count;
      magnitude += std::fabs(v.x) / count;
    }
    mean_error = kUnit * (sum_error(n) * magnitude + std::fabs(mean));
  }
  double square = 0, square_error = mean_error * mean_error;
  for (const Approximate& v : *row) {
    const double d = v.x - mean;
    square += d * d / count;
    square_error += kUnit * 2 * std::fabs(d) * (std::fabs(v.x) + std::fabs(mean)) / count;
  }
  const double scale = 1 / std::sqrt(square + static_cast<double>(eps));
  const double scale_error =
      scale * (0.5 * scale * scale * (square_error + kUnit * sum_error(n) * square) + 4 * kUnit);
  for (int64_t i = 0; i < n; ++i) {
    Approximate& v = (*row)[at(i)];
    const double w = weight.at(0, i), d = v.x - mean;
    const double scaled = d * scale * w;
    v.own =
        (norm == EXN_NORM_LAYER ? kUnit * (std::fabs(v.x) + std::fabs(mean)) * scale * std::fabs(w)
                                : 0) +
        4 * kUnit * std::fabs(scaled);
    v.shared = scale_error * std::fabs(d * w) + mean_error * scale * std::fabs(w);
    v.x = scaled;
    v = plus(v, bias.given() ? bias.at(0, i) : 0);
  }
}

Approximate plus(Approximate v, double term) {
  v.x += term;
  v.own += kUnit * std::fabs(v.x);
  return v;
}

namespace {

// <w, x> in f32.
Approximate dot(const std::vector<double>& w, const Values& x) {
  Approximate sum;
  double magnitude = 0, independent = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    const double term = w[i] * x[i].x;
    sum.x += term;
    magnitude += std::fabs(term);
    independent += w[i] * w[i] * x[i].own * x[i].own;
    sum.shared += std::fabs(w[i]) * x[i].shared;
  }
  sum.own = kUnit * sum_error(static_cast<int64_t>(w.size())) * magnitude +
            kIndependent * std::sqrt(independent);
  return sum;
}

}  // namespace

Values projected(const Matrix& weight, const HostTensor& bias, const Values& x, int32_t rounding) {
  const bool int8 = rounding == EXN_INPUT_INT8;
  const Values met = int8 ? rounded_to_int8(x) : x;
  const RoundedInput rounded(weight.quantised ? met : Values());
  Values y(weight.rows.size());
  for (size_t i = 0; i < y.size(); ++i) {
    y[i] = dot(weight.rows[i], met);
    if (weight.quantised) rounded.meet(weight.rows[i], &y[i].x, &y[i].own, int8 ? 0 : 0x1p-15);
    if (bias.given()) y[i] = plus(y[i], bias.at(0, static_cast<int64_t>(i)));
  }
  return y;
}

void rotate(Approximate* head, const HostTensor& table, int64_t pairs, int64_t position,
            int32_t style) {
  for (int64_t i = 0; i < pairs; ++i) {
    Approximate& a = head[style == EXN_ROPE_HALF ? i : 2 * i];
    Approximate& b = head[style == EXN_ROPE_HALF ? i + pairs : 2 * i + 1];
    const double cosine = table.at(0, (position * pairs + i) * 2),
                 sine = table.at(0, (position * pairs + i) * 2 + 1);
    const auto turned = [](const Approximate& p, double u, const Approximate& q, double v) {
      Approximate out;
      out.x = p.x * u + q.x * v;
      out.own = p.own * std::fabs(u) + q.own * std::fabs(v) +
                2 * kUnit * (std::fabs(p.x * u) + std::fabs(q.x * v) + std::fabs(out.x));
      out.shared = p.shared * std::fabs(u) + q.shared * std::fabs(v);
      return out;
    };
    const Approximate first = turned(a, cosine, b, -sine), second = turned(b, cosine, a, sine);
    a = first;
    b = second;
  }
}

Expected stored(Type type, const Approximate& v, bool exact) {
  return exact ? Expected{rounded_to(type, v.x), 0} : stored(type, v.x, v.error());
}

}  // namespace exn::test
