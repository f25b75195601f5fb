// SPDX-License-Identifier: Apache-2.0
// The rotation of a screen: orthonormal directions in which states vary most first.
#pragma once

#include "rotated_rows.h"
#include "screen_draft.h"

namespace exn::cpu {

// Eigenvectors of the states' covariance around their means, and sigma, the deviation along each.
void find_directions(ScreenDraft* draft);

// Sorts the directions by what their columns of the head contribute to logits: `worth`.
exn_status order_columns(ScreenDraft* draft, RotatedRows* rows);

// Writes means, rotation and sigma into the image. Finds how far the rotation, as it is stored, is
// from an orthonormal one (residual, frobenius), and `lengths`. Uses up the directions.
void write_directions(ScreenDraft* draft);

}  // namespace exn::cpu
