// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/kv_compact.h>

#include "../args.h"

namespace exn {

struct KvCompactArgs {
  int32_t device = 0;
  KvCache source;
  KvCache destination;
  const int32_t* list = nullptr;
  int64_t list_size = 0;              // M, or lists * list_stride
  const int32_t* offsets = nullptr;   // [lists + 1]; null: padded lists, list_stride apart
  const int32_t* count = nullptr;     // [lists], with list_stride
  int64_t list_stride = 0;            // K
  const int32_t* sequence = nullptr;  // [sequences]
  const int32_t* length = nullptr;    // [sequences]
  int32_t* new_length = nullptr;      // [lists]
  int32_t* freed = nullptr;
  int64_t freed_capacity = 0;  // F
  int32_t* freed_count = nullptr;
  int64_t sequences = 0;  // B
  int64_t lists = 0;
  bool per_head = false;
  bool in_place = false;
};

}  // namespace exn
