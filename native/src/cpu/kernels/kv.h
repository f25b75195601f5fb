// SPDX-License-Identifier: Apache-2.0
// Where a described KV cache keeps what.
#pragma once

#include "elements.h"

namespace exn::cpu::EXN_ISA {

// Elements from the start of K (or V) to the first element of a head in a slot. The slot is in range and its page exists.
static EXN_SIMD int64_t kv_offset(const KvCache& c, int64_t sequence, int64_t head, int64_t slot) {
  if (c.blocks == nullptr) return sequence * c.sequence_stride + head * c.head_stride + slot * c.slot_stride;
  const int64_t page = c.blocks[sequence * c.block_count + slot / c.page];
  return page * c.page_stride + slot % c.page * c.slot_stride + head * c.head_stride;
}

static EXN_SIMD int64_t sequence_of(const int32_t* sequence, int64_t row) {
  return sequence != nullptr ? sequence[row] : 0;
}

}  // namespace exn::cpu::EXN_ISA
