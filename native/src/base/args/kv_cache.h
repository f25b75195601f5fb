// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/kv_cache.h>

#include "../args.h"

namespace exn {

struct KvAppendArgs {
  int32_t device = 0;
  KvCache cache;
  Heads k;
  Heads v;
  const int32_t* sequence = nullptr;
  const int32_t* slot = nullptr;
};

struct KvCopyArgs {
  int32_t device = 0;
  KvCache source;
  KvCache destination;
  int64_t count = 0;
  const int32_t* from_sequence = nullptr;
  const int32_t* from_slot = nullptr;
  const int32_t* to_sequence = nullptr;
  const int32_t* to_slot = nullptr;
};

struct KvLengthArgs {
  int32_t device = 0;
  int32_t* length = nullptr;
  int64_t lengths = 0;
  int64_t rows = 0;
  const int32_t* sequence = nullptr;
  const uint8_t* active = nullptr;
  int32_t* slot = nullptr;
  int32_t* visible = nullptr;
  const int32_t* limit = nullptr;
  bool one_limit = false;
  int64_t capacity = 0;
  int32_t action = 0;
};

}  // namespace exn
