// SPDX-License-Identifier: Apache-2.0
#include "screen_rotation.h"

#include <algorithm>
#include <cmath>

#include "eigen.h"
#include "pool.h"

namespace exn::cpu {
namespace {

// Of the states around the means of their levels; the trace is returned.
double covariance_of(const ScreenDraft& d, std::vector<double>* covariance) {
  const int64_t count = d.a.states.rows, dim = d.dim;
  covariance->resize(size(dim * dim));
  {
    std::vector<float> centred(size(count * dim));
    for (int64_t n = 0; n < count; ++n) {
      for (int64_t i = 0; i < dim; ++i)
        centred[size(n * dim + i)] = d.state(n)[i] - d.means[size(d.level(n) * dim + i)];
    }
    parallel_for(dim, 8, [&](int64_t begin, int64_t end) {
      for (int64_t n = 0; n < count; ++n) {
        const float* const x = centred.data() + n * dim;
        for (int64_t i = begin; i < end; ++i) {
          double* const to = covariance->data() + i * dim;
          const double factor = static_cast<double>(x[i]);
          for (int64_t j = 0; j <= i; ++j) to[j] += factor * static_cast<double>(x[j]);
        }
      }
    });
  }
  double trace = 0;
  for (int64_t i = 0; i < dim; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      (*covariance)[size(i * dim + j)] /= static_cast<double>(count);
      (*covariance)[size(j * dim + i)] = (*covariance)[size(i * dim + j)];
    }
    trace += (*covariance)[size(i * dim + i)];
  }
  return trace;
}

// Of so many rows from all over the head, the sum of squares of each column in the directions.
exn_status sum_squares(const ScreenDraft& d, int64_t sample, RotatedRows* rows,
                       std::vector<double>* squares) {
  const std::vector<float> rotation(d.directions.begin(), d.directions.end());
  const int64_t step = d.vocabulary / sample;
  for (int64_t done = 0; done < sample; done += RotatedRows::kAtOnce) {
    const int64_t count = std::min(sample - done, RotatedRows::kAtOnce);
    rows->read(done * step, count, step);
    const exn_status status = rows->rotate(rotation.data(), count);
    if (status != EXN_OK) return status;
    for (int64_t r = 0; r < count; ++r) {
      for (int64_t i = 0; i < d.dim; ++i) {
        const double w = static_cast<double>(rows->rotated(r)[i]);
        (*squares)[size(i)] += w * w;
      }
    }
  }
  return EXN_OK;
}

// |I - P^T P|_F of P as it is stored; `space` [D, D].
double residual_of(const float* rotation, int64_t dim, double* space) {
  std::vector<double> off(size(dim));
  parallel_for(dim, 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      double* const row = space + i * dim;
      std::fill_n(row, dim, 0.0);
      for (int64_t k = 0; k < dim; ++k) {
        const double factor = static_cast<double>(rotation[k * dim + i]);
        for (int64_t j = 0; j < dim; ++j)
          row[j] += factor * static_cast<double>(rotation[k * dim + j]);
      }
      row[i] -= 1;
      for (int64_t j = 0; j < dim; ++j) off[size(i)] += row[j] * row[j];
    }
  });
  double residual = 0;
  for (const double o : off) residual += o;
  return std::sqrt(residual);
}

}  // namespace

void find_directions(ScreenDraft* draft) {
  ScreenDraft& d = *draft;
  std::vector<double> covariance, values;
  const double trace = covariance_of(d, &covariance);
  if (std::isfinite(trace)) {
    eigenvectors(&covariance, d.dim, &values, &d.directions);
  }
  d.sigma.resize(size(d.columns));
  const double mean = trace / static_cast<double>(d.dim);
  for (int64_t i = 0; i < d.dim; ++i) {
    const double s =
        std::isfinite(trace) ? std::sqrt(std::fmax(values[size(i)], 0) + mean / 100) : 0;
    const auto narrow = static_cast<float>(s);
    d.sigma[size(i)] = narrow > 0 && std::isfinite(narrow) ? narrow : 1;
  }
  bool sound = std::isfinite(trace);
  for (const double r : d.directions) sound = sound && std::isfinite(r);
  if (!sound) {  // of states beyond all measure: any directions will do
    d.directions.assign(size(d.dim * d.dim), 0);
    for (int64_t i = 0; i < d.dim; ++i) d.directions[size(i * d.dim + i)] = 1;
  }
}

exn_status order_columns(ScreenDraft* draft, RotatedRows* rows) {
  ScreenDraft& d = *draft;
  const int64_t sample = std::min<int64_t>(d.vocabulary, 4 * RotatedRows::kAtOnce);
  std::vector<double> squares(size(d.dim));
  const exn_status status = sum_squares(d, sample, rows, &squares);
  if (status != EXN_OK) return status;
  std::vector<int64_t> order(size(d.dim));
  std::vector<double> worth(size(d.dim));
  for (int64_t i = 0; i < d.dim; ++i) {
    order[size(i)] = i;
    const double s = static_cast<double>(d.sigma[size(i)]);
    worth[size(i)] = s * s * squares[size(i)] / static_cast<double>(sample);
    if (!std::isfinite(worth[size(i)])) worth[size(i)] = HUGE_VAL;
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return worth[size(a)] > worth[size(b)]; });
  const std::vector<double> directions = d.directions;
  const std::vector<float> sigma = d.sigma;
  d.worth.assign(size(d.columns), 0);
  for (int64_t i = 0; i < d.dim; ++i) {
    const int64_t from = order[size(i)];
    d.sigma[size(i)] = sigma[size(from)];
    d.worth[size(i)] = worth[size(from)];
    std::copy_n(directions.begin() + from * d.dim, d.dim, d.directions.begin() + i * d.dim);
  }
  for (int64_t i = d.dim; i < d.columns; ++i) d.sigma[size(i)] = d.sigma[size(d.dim - 1)];
  return EXN_OK;
}

void write_directions(ScreenDraft* draft) {
  ScreenDraft& d = *draft;
  const int64_t dim = d.dim;
  std::memcpy(d.floats(d.at.means), d.means.data(), d.means.size() * sizeof(float));
  float* const rotation = d.floats(d.at.rotation);
  for (int64_t i = 0; i < dim * dim; ++i) rotation[i] = static_cast<float>(d.directions[size(i)]);
  std::memcpy(d.floats(d.at.sigma), d.sigma.data(), d.sigma.size() * sizeof(float));
  const double residual = residual_of(rotation, dim, d.directions.data());
  double whole = 0;
  d.lengths.assign(size(d.h.groups), 0);
  int32_t g = 0;
  for (int64_t i = 0; i < dim; ++i) {
    while (i / 32 >= d.h.ends[g]) ++g;
    double square = 0;
    for (int64_t j = 0; j < dim; ++j) {
      const double p = static_cast<double>(rotation[i * dim + j]);
      square += p * p;
    }
    whole += square;
    const double s = static_cast<double>(d.sigma[size(i)]);
    d.lengths[size(g)] += s * s * square;
  }
  for (double& length : d.lengths) length = std::sqrt(length) * kUp;
  // Sums of D terms of at most 1 + R each lose that much at most.
  const double lost = static_cast<double>(dim) * static_cast<double>(dim) * 0x1p-52;
  d.h.residual = float_up((residual + 2 * lost) * kUp);
  d.h.frobenius = float_up(std::sqrt(whole) * kUp);
}

}  // namespace exn::cpu
