// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/gather.h>

#include "../args.h"

namespace exn {

// A tensor seen as [outer, entries, bytes of an entry]. Strides in bytes.
struct GatherItem {
  const char* input = nullptr;
  char* out = nullptr;
  bool in_place = false;  // input and out are one
  int64_t element = 1;    // bytes of an element: the alignment that may be counted on
  int64_t outer = 1;
  int64_t bytes = 0;  // of an entry
  int64_t input_outer_stride = 0;
  int64_t input_stride = 0;  // between entries
  int64_t out_outer_stride = 0;
  int64_t out_stride = 0;
};

struct GatherArgs {
  int32_t device = 0;
  const int32_t* list = nullptr;
  int64_t listed = 0;  // K
  const int32_t* count = nullptr;
  const int32_t* position = nullptr;
  int32_t* position_out = nullptr;
  int32_t* moved = nullptr;
  int64_t rows = 0;  // N
  int32_t item_count = 0;
  int32_t positions = 0;
  int32_t first_position = 0;
  bool positions_in_place = false;
  bool in_place = false;  // of at least one tensor, or the positions
  GatherItem items[EXN_GATHER_MAX_TENSORS];
};

}  // namespace exn
