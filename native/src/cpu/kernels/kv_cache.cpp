// SPDX-License-Identifier: Apache-2.0
// kv_append, kv_copy and kv_length on the CPU.
#include "../ids.h"
#include "base/args/kv_cache.h"
#include "kv.h"

namespace exn::cpu::EXN_ISA {
namespace {

template <class From, class To>
EXN_SIMD void convert(const From* from, To* to, int64_t n) {
  if constexpr (std::is_same_v<From, To>) {
    std::memcpy(to, from, static_cast<size_t>(n) * sizeof(To));
  } else {
    for_vectors(n, [&](int64_t i, int lanes)
                       EXN_FLAT {
      store_part(to + i, load_part(from + i, lanes, 0.0f), lanes);
    });
  }
}

template <class From, class To>
void append(const KvAppendArgs& args) {
  const KvAppendArgs a = args;  // a copy that no store can alias
  const KvCache& c = a.cache;
  const int64_t bytes = c.dim * static_cast<int64_t>(sizeof(From) + sizeof(To));
  for_entries_by_heads(
      a.k.rows, c.heads, bytes,
      [&](int64_t row, int64_t k, int64_t k_end, int64_t v, int64_t v_end) {
        if (a.slot[row] < 0) return;
        const int64_t to = kv_offset(c, sequence_of(a.sequence, row), 0, a.slot[row]);
        const From* from_k = static_cast<const From*>(a.k.data) + row * a.k.stride;
        const From* from_v = static_cast<const From*>(a.v.data) + row * a.v.stride;
        for (; k < k_end; ++k)
          convert(from_k + k * c.dim, static_cast<To*>(c.k) + to + k * c.head_stride, c.dim);
        for (; v < v_end; ++v)
          convert(from_v + v * c.dim, static_cast<To*>(c.v) + to + v * c.head_stride, c.dim);
      });
}

void copy_head(const void* from_base, int64_t from, void* to_base, int64_t to, int64_t bytes) {
  const char* source = static_cast<const char*>(from_base) + from;
  char* target = static_cast<char*>(to_base) + to;
  if (source != target) std::memcpy(target, source, static_cast<size_t>(bytes));
}

// length[s] + 1 for one row after another. `rows` past the first that does not fit are not counted:
// returns that row, or rows.
int64_t advance(const KvLengthArgs& args, int32_t* length, int32_t* slot, int32_t* visible) {
  const KvLengthArgs a = args;  // a copy that no store can alias
  for (int64_t row = 0; row < a.rows; ++row) {
    int32_t& now = length[sequence_of(a.sequence, row)];
    const bool active = a.active == nullptr || a.active[row] != 0;
    if (active && now >= a.capacity) return row;
    if (slot != nullptr) slot[row] = active ? now : -1;
    now += active ? 1 : 0;
    if (visible != nullptr) visible[row] = now;
  }
  return a.rows;
}

// Whether all rows fit, even if they are all of the longest sequence.
bool certainly_fits(const KvLengthArgs& a) {
  int32_t longest = 0;
  for (int64_t s = 0; s < a.lengths; ++s) longest = a.length[s] > longest ? a.length[s] : longest;
  return longest + a.rows <= a.capacity;
}

// Runs on a copy of the lengths first: a run that fails writes nothing.
exn_status try_advance(const KvLengthArgs& a, int32_t* trial) {
  std::memcpy(trial, a.length, static_cast<size_t>(a.lengths) * sizeof(int32_t));
  const int64_t over = advance(a, trial, nullptr, nullptr);
  if (over == a.rows) return EXN_OK;
  const int64_t sequence = sequence_of(a.sequence, over);
  return fail(
      EXN_INVALID_ARGUMENT,
      "exn_kv_length: row %lld finds sequence %lld full: its length is %lld, the capacity %lld",
      static_cast<long long>(over), static_cast<long long>(sequence),
      static_cast<long long>(trial[sequence]), static_cast<long long>(a.capacity));
}

exn_status crop(const KvLengthArgs& args) {
  const KvLengthArgs a = args;  // a copy that no store can alias
  const int64_t limits = a.one_limit ? 1 : a.lengths;
  const exn_status status = check_ids("exn_kv_length", "limit", a.limit, limits, 0, INT32_MAX);
  if (status != EXN_OK) return status;
  for (int64_t i = 0; i < a.lengths; ++i) {
    const int32_t limit = a.limit[a.one_limit ? 0 : i];
    if (a.length[i] > limit) a.length[i] = limit;
  }
  return EXN_OK;
}

}  // namespace

exn_status kv_append(const KvAppendArgs& a, Workspace& ws) {
  if (ws.counting()) return EXN_OK;
  const exn_status status =
      check_slots("exn_kv_append", a.cache, "sequence", a.sequence, "slot", a.slot, a.k.rows, true);
  if (status != EXN_OK) return status;
  ran(EXN_CPU_PATH(ws, "kv_append"));
  with_float_type(a.k.dtype, [&](auto from) {
    with_float_type(a.cache.dtype, [&](auto to) { append<EXN_TYPE_OF(from), EXN_TYPE_OF(to)>(a); });
  });
  return EXN_OK;
}

exn_status kv_copy(const KvCopyArgs& args, Workspace& ws) {
  if (ws.counting()) return EXN_OK;
  const KvCopyArgs a = args;  // a copy that no store can alias
  exn_status status = check_slots("exn_kv_copy", a.source, "from_sequence", a.from_sequence,
                                  "from_slot", a.from_slot, a.count, false, a.to_slot);
  if (status == EXN_OK) {
    status = check_slots("exn_kv_copy", a.destination, "to_sequence", a.to_sequence, "to_slot",
                         a.to_slot, a.count, true, a.from_slot);
  }
  if (status != EXN_OK) return status;
  ran(EXN_CPU_PATH(ws, "kv_copy"));
  const int64_t size = size_of(a.source.dtype), bytes = a.source.dim * size;
  const int64_t from_head = a.source.head_stride * size, to_head = a.destination.head_stride * size;
  for_entries_by_heads(
      a.count, a.source.heads, 2 * bytes,
      [&](int64_t i, int64_t k, int64_t k_end, int64_t v, int64_t v_end) {
        if (a.from_slot[i] < 0 || a.to_slot[i] < 0) return;
        const int64_t from =
            kv_offset(a.source, sequence_of(a.from_sequence, i), 0, a.from_slot[i]) * size;
        const int64_t to =
            kv_offset(a.destination, sequence_of(a.to_sequence, i), 0, a.to_slot[i]) * size;
        for (; k < k_end; ++k)
          copy_head(a.source.k, from + k * from_head, a.destination.k, to + k * to_head, bytes);
        for (; v < v_end; ++v)
          copy_head(a.source.v, from + v * from_head, a.destination.v, to + v * to_head, bytes);
      });
  return EXN_OK;
}

exn_status kv_length(const KvLengthArgs& a, Workspace& ws) {
  const bool advances = a.action == EXN_KV_ADVANCE;
  int32_t* trial = ws.take<int32_t>(advances ? a.lengths : 0);
  if (ws.counting()) return EXN_OK;
  exn_status status = check_ids("exn_kv_length", "length", a.length, a.lengths, 0, INT32_MAX);
  if (status == EXN_OK && !advances) status = crop(a);
  if (status == EXN_OK && advances) {
    status = check_ids("exn_kv_length", "sequence", a.sequence, a.rows, 0, a.lengths - 1);
  }
  if (status != EXN_OK) return status;
  if (advances && a.rows > 0) {
    if (a.lengths == 0)
      return fail(EXN_INVALID_ARGUMENT, "exn_kv_length: length has 0 elements, but slot has some");
    if (!certainly_fits(a)) status = try_advance(a, trial);
    if (status != EXN_OK) return status;
    advance(a, a.length, a.slot, a.visible);
  }
  ran(EXN_CPU_PATH(ws, "kv_length"));
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
