// SPDX-License-Identifier: Apache-2.0
// What the losses over rows of logits with a label each have in common.
#pragma once

#include <cstring>

#include "elements.h"

namespace exn::cpu::EXN_ISA {

static EXN_SIMD double element(const Matrix& m, int64_t row, int64_t column) {
  if (m.dtype == DType::kF64) return row_of<double>(m, row)[column];
  double value = 0;
  with_float_type(m.dtype, [&](auto type) {
    value = static_cast<double>(to_float(row_of<EXN_TYPE_OF(type)>(m, row)[column]));
  });
  return value;
}

static EXN_SIMD void set_element(const Matrix& m, int64_t row, int64_t column, double value) {
  if (m.dtype == DType::kF64) {
    static_cast<double*>(m.data)[row * m.stride + column] = value;
    return;
  }
  with_float_type(m.dtype, [&](auto type) {
    using T = EXN_TYPE_OF(type);
    from_float(static_cast<T*>(m.data) + row * m.stride + column, static_cast<float>(value));
  });
}

static EXN_SIMD void clear_row(const Matrix& m, int64_t row) {
  const int64_t size = size_of(m.dtype);
  std::memset(static_cast<char*>(m.data) + row * m.stride * size, 0,
              static_cast<size_t>(m.cols * size));
}

static EXN_SIMD int64_t label_at(const Vector& labels, int64_t row) {
  return labels.dtype == DType::kI64 ? static_cast<const int64_t*>(labels.data)[row]
                                     : static_cast<const int32_t*>(labels.data)[row];
}

// Every label names a column or is ignored; counts those that are not.
static EXN_SIMD exn_status check_labels(const char* op, const Vector& labels, int64_t columns,
                                        int64_t ignore_index, int64_t* counted) {
  for (int64_t row = 0; row < labels.size; ++row) {
    const int64_t label = label_at(labels, row);
    if (label == ignore_index) continue;
    if (label < 0 || label >= columns) {
      return fail(EXN_INVALID_ARGUMENT,
                  "%s: labels[%lld] is %lld, expected 0..%lld or ignore_index %lld", op,
                  static_cast<long long>(row), static_cast<long long>(label),
                  static_cast<long long>(columns - 1), static_cast<long long>(ignore_index));
    }
    ++*counted;
  }
  return EXN_OK;
}

// The losses of rows, or the mean of those that count; nowhere if that was left out.
static EXN_SIMD void put_losses(const double* losses, int64_t rows, int64_t counted, bool mean,
                                const Vector& loss) {
  if (loss.data == nullptr) return;
  const auto put = [&](int64_t i, double value) {
    if (loss.dtype == DType::kF64) {
      static_cast<double*>(loss.data)[i] = value;
    } else {
      static_cast<float*>(loss.data)[i] = static_cast<float>(value);
    }
  };
  double total = 0;
  for (int64_t row = 0; row < rows; ++row) {
    total += losses[row];
    if (!mean) put(row, losses[row]);
  }
  if (mean) put(0, counted > 0 ? total / static_cast<double>(counted) : __builtin_nan(""));
}

}  // namespace exn::cpu::EXN_ISA
