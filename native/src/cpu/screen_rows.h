// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "rotated_rows.h"
#include "screen_draft.h"

namespace exn::cpu {

// Writes the rows of the head into the image, each as a product with every mean and as blocks in
// the directions, and keeps the norms of what the blocks lost, rounded up, in draft->norms. The
// worst of the errors that some of the states meet goes into the header.
exn_status write_rows(ScreenDraft* draft, RotatedRows* rows);

}  // namespace exn::cpu
