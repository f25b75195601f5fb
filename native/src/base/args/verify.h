// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/verify.h>

#include "../args.h"

namespace exn {

struct VerifyArgs {
  int32_t device = 0;
  int64_t sequences = 0;  // S
  int64_t most = 0;       // K
  int64_t rows = 0;       // S (K + 1)
  const int32_t* drafted = nullptr;
  const int32_t* draft_length = nullptr;
  uint8_t* active = nullptr;
  const int32_t* argmax = nullptr;  // null: sampled
  Matrix logits;
  Matrix draft;  // its data is null where there is none
  const float* uniform = nullptr;
  const int32_t* stop = nullptr;
  int64_t stops = 0;
  int32_t* accepted = nullptr;
  int32_t* token = nullptr;
  int32_t* out = nullptr;
  int32_t* out_count = nullptr;
  int32_t* last_row = nullptr;
  int32_t* outcome = nullptr;
  int32_t* length = nullptr;
  int32_t* position = nullptr;
  int64_t capacity = 0;    // 0: no bound
  int64_t vocabulary = 0;  // 0: unknown
  float temperature = 1;
  float draft_temperature = 1;
  bool probabilities = false;  // what draft holds
};

}  // namespace exn
