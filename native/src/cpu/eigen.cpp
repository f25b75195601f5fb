// SPDX-License-Identifier: Apache-2.0
#include "eigen.h"

#include <cmath>
#include <limits>

#include "pool.h"

namespace exn::cpu {
namespace {

double dot(const double* a, const double* b, int64_t n) {
  double sum[4] = {};
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    for (int k = 0; k < 4; ++k) sum[k] += a[i + k] * b[i + k];
  }
  for (; i < n; ++i) sum[0] += a[i] * b[i];
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

void add_scaled(double factor, const double* x, double* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] += factor * x[i];
}

// Leaves the diagonals in d and e (e[k] beside d[k] and d[k + 1]), and in row k of v, from column
// k + 1 on, the vector of the k-th reflection 1 - v v^T; zeros where there was none to do.
void reduce(std::vector<double>* matrix, int64_t n, std::vector<double>* d, std::vector<double>* e,
            std::vector<double>* v) {
  double* const a = matrix->data();
  std::vector<double> p(static_cast<size_t>(n));
  for (int64_t k = 0; k + 1 < n; ++k) {
    const int64_t first = k + 1, m = n - first;
    double* const x = v->data() + k * n;
    for (int64_t i = first; i < n; ++i) x[i] = a[k * n + i];
    (*d)[static_cast<size_t>(k)] = a[k * n + k];
    double most = 0;
    for (int64_t i = first; i < n; ++i) most = std::fmax(most, std::fabs(x[i]));
    if (most == 0 || m == 1) {
      (*e)[static_cast<size_t>(k)] = x[first];
      for (int64_t i = first; i < n; ++i) x[i] = 0;
      continue;
    }
    for (int64_t i = first; i < n; ++i) x[i] /= most;
    const double size = std::sqrt(dot(x + first, x + first, m));
    const double alpha = x[first] > 0 ? -size : size;
    (*e)[static_cast<size_t>(k)] = alpha * most;
    // |x - alpha e|^2 = 2 size (size + |x_first|); scaled so that the reflection is 1 - v v^T.
    const double scale = 1 / std::sqrt(size * (size + std::fabs(x[first])));
    x[first] -= alpha;
    for (int64_t i = first; i < n; ++i) x[i] *= scale;
    parallel_for(m, 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        p[static_cast<size_t>(first + i)] = dot(a + (first + i) * n + first, x + first, m);
    });
    const double half = dot(p.data() + first, x + first, m) / 2;
    add_scaled(-half, x + first, p.data() + first, m);
    parallel_for(m, 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = first + begin; i < first + end; ++i) {
        add_scaled(-x[i], p.data() + first, a + i * n + first, m);
        add_scaled(-p[static_cast<size_t>(i)], x + first, a + i * n + first, m);
      }
    });
  }
  (*d)[static_cast<size_t>(n - 1)] = a[n * n - 1];
}

// Implicit QL with shifts; z starts as 1 and takes the rotations as those of its rows.
void diagonalise(double* d, double* e, int64_t n, double* z) {
  constexpr int kMostSweeps = 60;
  constexpr double kEpsilon = std::numeric_limits<double>::epsilon();
  e[n - 1] = 0;
  for (int64_t l = 0; l < n; ++l) {
    for (int sweep = 0; sweep < kMostSweeps; ++sweep) {
      int64_t m = l;
      while (m + 1 < n && std::fabs(e[m]) > kEpsilon * (std::fabs(d[m]) + std::fabs(d[m + 1]))) ++m;
      if (m == l) break;
      double g = (d[l + 1] - d[l]) / (2 * e[l]);
      g = d[m] - d[l] + e[l] / (g + std::copysign(std::hypot(g, 1.0), g));
      double s = 1, c = 1, p = 0;
      int64_t i = m - 1;
      for (; i >= l; --i) {
        double f = s * e[i];
        const double b = c * e[i];
        double r = std::hypot(f, g);
        e[i + 1] = r;
        if (r == 0) {
          d[i + 1] -= p;
          e[m] = 0;
          break;
        }
        s = f / r;
        c = g / r;
        g = d[i + 1] - p;
        r = (d[i] - g) * s + 2 * c * b;
        p = s * r;
        d[i + 1] = g + p;
        g = c * r - b;
        double* const low = z + i * n;
        double* const high = low + n;
        for (int64_t k = 0; k < n; ++k) {
          f = high[k];
          high[k] = s * low[k] + c * f;
          low[k] = c * low[k] - s * f;
        }
      }
      if (i >= l) continue;
      d[l] -= p;
      e[l] = g;
      e[m] = 0;
    }
  }
}

}  // namespace

void eigenvectors(std::vector<double>* a, int64_t n, std::vector<double>* values,
                  std::vector<double>* rows) {
  const auto size = static_cast<size_t>(n);
  std::vector<double> e(size), v(size * size);
  values->assign(size, 0);
  rows->assign(size * size, 0);
  reduce(a, n, values, &e, &v);
  double* const z = rows->data();
  for (int64_t i = 0; i < n; ++i) z[i * n + i] = 1;
  diagonalise(values->data(), e.data(), n, z);
  // Back through the reflections, the last one first.
  parallel_for(n, 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t k = n - 1; k-- > 0;) {
        const double* const x = v.data() + k * n + k + 1;
        double* const y = z + row * n + k + 1;
        const int64_t m = n - k - 1;
        add_scaled(-dot(x, y, m), x, y, m);
      }
    }
  });
}

}  // namespace exn::cpu
