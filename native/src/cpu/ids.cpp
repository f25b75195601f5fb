// SPDX-License-Identifier: Apache-2.0
#include "ids.h"

#include <cstring>

#include "base/status.h"

namespace exn::cpu {
namespace {

long long wide(int64_t x) { return static_cast<long long>(x); }

exn_status check_page(const char* op, const KvCache& cache, int64_t sequence, int64_t block) {
  const int32_t page = cache.blocks[sequence * cache.block_count + block];
  if (page >= 0 && page < cache.pages) return EXN_OK;
  return fail(EXN_INVALID_ARGUMENT, "%s: block_table[%lld,%lld] is %d, expected 0..%lld", op,
              wide(sequence), wide(block), page, wide(cache.pages - 1));
}

#if !defined(NDEBUG)
// Where a slot lies among all of a cache: in one place for two sequences that share its page.
int64_t place_of(const KvCache& cache, int64_t sequence, int32_t slot) {
  if (cache.blocks == nullptr) return sequence * cache.slots + slot;
  const int64_t page = cache.blocks[sequence * cache.block_count + slot / cache.page];
  return page * cache.page + slot % cache.page;
}
#endif

// As check_ids, of the entries that are on.
template <class On>
exn_status check_some_ids(const char* op, const char* name, const int32_t* ids, int64_t count,
                          int64_t first, int64_t last, On&& on) {
  if (ids == nullptr) return EXN_OK;
  // A sound list passes without a branch for each entry, compared in the 32 bits of an id.
  const int32_t least = static_cast<int32_t>(first);
  const int32_t most = last < INT32_MAX ? static_cast<int32_t>(last) : INT32_MAX;
  int32_t outside = 0;
  for (int64_t i = 0; i < count; ++i) outside |= (ids[i] < least) | (ids[i] > most);
  if (outside == 0) return EXN_OK;
  for (int64_t i = 0; i < count; ++i) {
    if (!on(i) || (ids[i] >= first && ids[i] <= last)) continue;
    return fail(EXN_INVALID_ARGUMENT, "%s: %s[%lld] is %d, expected %lld..%lld", op, name, wide(i),
                ids[i], wide(first), wide(last));
  }
  return EXN_OK;
}

// The first entry that an earlier one equals; `count` if there is none. A bit for each of kMarks
// ids: a pass over the list for those, and the next ones in another. Not inlined, as below, so that
// the arrays are not on the stack together.
constexpr int64_t kMarks = 65536;

[[gnu::noinline]] int64_t find_second_by_marks(const int32_t* ids, int64_t count, int64_t last) {
  uint64_t seen[kMarks / 64];
  int64_t second = count;
  for (int64_t first = 0; first <= last && second > 1; first += kMarks) {
    std::memset(seen, 0, sizeof seen);
    for (int64_t i = 0; i < second; ++i) {
      const int64_t at = ids[i] - first;
      if (at < 0 || at >= kMarks) continue;
      const uint64_t mark = uint64_t{1} << at % 64;
      if ((seen[at / 64] & mark) != 0) second = i;
      seen[at / 64] |= mark;
    }
  }
  return second;
}

// The same for few ids among many: a hash table of kEntries of them, past which all others go.
constexpr int64_t kEntries = 1024;

[[gnu::noinline]] int64_t find_second(const int32_t* ids, int64_t count) {
  constexpr uint32_t kSlots = 2 * kEntries;
  int32_t table[kSlots];
  // Where an id is, or would be.
  const auto place = [&](int32_t id) {
    uint32_t slot = static_cast<uint32_t>(id) * 0x9e3779b1u >> 21;
    while (table[slot] >= 0 && table[slot] != id) slot = (slot + 1) % kSlots;
    return &table[slot];
  };
  int64_t second = count;
  for (int64_t begin = 0; begin < second; begin += kEntries) {
    std::memset(table, 0xff, sizeof table);
    for (int64_t i = begin; i < second; ++i) {
      int32_t* const at = place(ids[i]);
      if (*at == ids[i]) {
        second = i;
      } else if (i < begin + kEntries) {
        *at = ids[i];
      }
    }
  }
  return second;
}

}  // namespace

exn_status check_ids(const char* op, const char* name, const int32_t* ids, int64_t count,
                     int64_t first, int64_t last) {
  return check_some_ids(op, name, ids, count, first, last, [](int64_t) { return true; });
}

exn_status check_ids_of_rows(const char* op, const char* name, const int32_t* ids,
                             const int32_t* switches, int64_t count, int64_t first, int64_t last) {
  return check_some_ids(op, name, ids, count, first, last,
                        [&](int64_t row) { return switches[row] >= 0; });
}

exn_status check_distinct_ids(const char* op, const char* name, const int32_t* ids, int64_t count,
                              int64_t last) {
  const exn_status status = check_ids(op, name, ids, count, 0, last);
  if (status != EXN_OK) return status;
  // Whatever takes fewer passes over the list.
  const bool marks = last / kMarks <= (count - 1) / kEntries;
  const int64_t second = marks ? find_second_by_marks(ids, count, last) : find_second(ids, count);
  for (int64_t i = 0; i < second && second < count; ++i) {
    if (ids[i] != ids[second]) continue;
    return fail(EXN_INVALID_ARGUMENT, "%s: %s[%lld] is %d, which %s[%lld] is too", op, name,
                wide(second), ids[second], name, wide(i));
  }
  return EXN_OK;
}

exn_status check_slots(const char* op, const KvCache& cache, const char* sequence_name,
                       const int32_t* sequence, const char* slot_name, const int32_t* slot,
                       int64_t count, bool written, const int32_t* other) {
  const auto sequence_of = [&](int64_t row) { return sequence != nullptr ? sequence[row] : 0; };
  const auto on = [&](int64_t row) {
    return slot[row] != -1 && (other == nullptr || other[row] != -1);
  };
  exn_status status =
      check_some_ids(op, sequence_name, sequence, count, 0, cache.sequences - 1, on);
  if (status == EXN_OK)
    status = check_some_ids(op, slot_name, slot, count, -1, cache.slots - 1, on);
  for (int64_t row = 0; status == EXN_OK && row < count && cache.sequences == 0; ++row) {
    if (!on(row)) continue;
    status = fail(EXN_INVALID_ARGUMENT, "%s: %s[%lld] is %d, but the cache has 0 sequences", op,
                  slot_name, wide(row), slot[row]);
  }
  for (int64_t row = 0; status == EXN_OK && row < count && cache.blocks != nullptr; ++row) {
    if (on(row)) status = check_page(op, cache, sequence_of(row), slot[row] / cache.page);
  }
#if !defined(NDEBUG)
  for (int64_t row = 0; status == EXN_OK && written && row < count; ++row) {
    const int64_t place = on(row) ? place_of(cache, sequence_of(row), slot[row]) : 0;
    for (int64_t before = 0; on(row) && before < row; ++before) {
      if (!on(before) || place_of(cache, sequence_of(before), slot[before]) != place) continue;
      return fail(EXN_INVALID_ARGUMENT,
                  "%s: %s[%lld] is %d, of sequence %lld, the place where row %lld writes too", op,
                  slot_name, wide(row), slot[row], wide(sequence_of(row)), wide(before));
    }
  }
#else
  static_cast<void>(written);
#endif
  return status;
}

exn_status check_visible_pages(const char* op, const KvCache& cache, const int32_t* sequence,
                               const int32_t* visible, int64_t rows) {
  exn_status status = EXN_OK;
  if (cache.blocks == nullptr) return status;
  for (int64_t row = 0; status == EXN_OK && row < rows; ++row) {
    const int64_t blocks = (visible[row] + cache.page - 1) / cache.page;
    const int64_t of = sequence != nullptr ? sequence[row] : 0;
    for (int64_t block = 0; status == EXN_OK && block < blocks; ++block)
      status = check_page(op, cache, of, block);
  }
  return status;
}

exn_status check_prompt_pages(const char* op, const KvCache& cache, const int32_t* sequence,
                              const int32_t* visible, int64_t prompts, int64_t window) {
  exn_status status = EXN_OK;
  for (int64_t s = 0; status == EXN_OK && s < prompts; ++s) {
    const int32_t of = sequence != nullptr ? sequence[s] : static_cast<int32_t>(s);
    for (int64_t i = 0; status == EXN_OK && i < window; ++i)
      status = check_visible_pages(op, cache, &of, visible + s * window + i, 1);
  }
  return status;
}

namespace {

exn_status check_ranges(const char* op, const char* name, const int32_t* ranges, int64_t count,
                        int64_t columns) {
  for (int64_t m = 0; m < count; ++m) {
    const int32_t begin = ranges[2 * m], end = ranges[2 * m + 1];
    if (begin >= 0 && begin <= end && end <= columns) continue;
    return fail(EXN_INVALID_ARGUMENT, "%s: %s[%lld] is %d..%d, expected a rising range in 0..%lld",
                op, name, wide(m), begin, end, wide(columns));
  }
  return EXN_OK;
}

}  // namespace

exn_status check_selection(const char* op, const Selection& selection, int64_t rows,
                           int64_t columns) {
  const Selection& s = selection;
  const int64_t budgets = s.budget != nullptr ? rows * s.segment_count : 0;
  exn_status status = check_ids(op, "selection.budget", s.budget, budgets, 0, INT32_MAX);
  for (int64_t g = 0; status == EXN_OK && s.segments != nullptr && g <= s.segment_count; ++g) {
    const int32_t least = g == 0 ? 0 : s.segments[g - 1];
    if (s.segments[g] >= least && s.segments[g] <= columns) continue;
    status = fail(EXN_INVALID_ARGUMENT, "%s: selection.segments[%lld] is %d, expected %d..%lld", op,
                  wide(g), s.segments[g], least, wide(columns));
  }
  const int64_t kept = s.keep_count * (s.keep_stride == 0 ? 1 : rows);
  const int64_t dropped = s.drop_count * (s.drop_stride == 0 ? 1 : rows);
  if (status == EXN_OK) status = check_ranges(op, "selection.keep", s.keep, kept, columns);
  if (status == EXN_OK) status = check_ranges(op, "selection.drop", s.drop, dropped, columns);
  return status;
}

}  // namespace exn::cpu
