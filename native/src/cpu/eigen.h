// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace exn::cpu {

// Eigenvalues, and eigenvectors as rows, of the symmetric matrix a [n,n], which is used up: by
// Householder's reduction to three diagonals and implicit QL. The rows are orthonormal to rounding
// even where QL was given up.
void eigenvectors(std::vector<double>* a, int64_t n, std::vector<double>* values,
                  std::vector<double>* rows);

}  // namespace exn::cpu
