// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/draft_lookup.h>

#include "../args.h"

namespace exn {

struct DraftLookupArgs {
  int32_t device = 0;
  int64_t sequences = 0;  // S
  int64_t capacity = 0;   // T
  int64_t stride = 0;     // elements between texts
  int64_t width = 0;      // A
  int64_t most = 0;       // K
  int32_t* context = nullptr;
  int32_t* length = nullptr;
  const int32_t* append = nullptr;
  const int32_t* append_count = nullptr;
  const uint8_t* active = nullptr;
  const int32_t* limit = nullptr;
  int32_t* drafted = nullptr;
  int32_t* draft_length = nullptr;
  int32_t* matched = nullptr;
  int32_t min_ngram = 1;
  int32_t max_ngram = 1;
  int32_t most_matched = 1;
};

}  // namespace exn
