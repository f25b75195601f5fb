// SPDX-License-Identifier: Apache-2.0
// Where a described KV cache keeps what.
#pragma once

#include "elements.h"

namespace exn::cpu::EXN_ISA {

// Elements from the start of K (or V) to the first element of a head in a slot. The slot is in
// range and its page exists.
static EXN_SIMD int64_t kv_offset(const KvCache& c, int64_t sequence, int64_t head, int64_t slot) {
  if (c.blocks == nullptr)
    return sequence * c.sequence_stride + head * c.head_stride + slot * c.slot_stride;
  const int64_t page = c.blocks[sequence * c.block_count + slot / c.page];
  return page * c.page_stride + slot % c.page * c.slot_stride + head * c.head_stride;
}

static EXN_SIMD int64_t sequence_of(const int32_t* sequence, int64_t row) {
  return sequence != nullptr ? sequence[row] : 0;
}

// Calls f(entry, k_begin, k_end, v_begin, v_end) for every entry in [0, count): heads of K and
// heads of V to move, `bytes` each. The threads share the heads, not the entries: each passes
// through the list in its order, so of two entries that write one slot the last one stays, and an
// entry may read what an earlier one wrote.
template <class F>
static EXN_SIMD void for_entries_by_heads(int64_t count, int64_t heads, int64_t bytes, F&& f) {
  constexpr int64_t kWorthSharing = int64_t{128} << 10;
  const int64_t units = 2 * heads;
  const int64_t chunk = kWorthSharing / (count * bytes + 1) + 1;
  const int64_t least = (heads + 1) / 2;  // neighbours stay together: they share lines and pages
  parallel_for(units, chunk < least ? least : chunk, [&](int64_t begin, int64_t end) {
    const int64_t k_end = end < heads ? end : heads;
    const int64_t v_begin = begin < heads ? 0 : begin - heads;
    for (int64_t entry = 0; entry < count; ++entry) f(entry, begin, k_end, v_begin, end - heads);
  });
}

}  // namespace exn::cpu::EXN_ISA
