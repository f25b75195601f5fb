// SPDX-License-Identifier: Apache-2.0
// The memory of a call's tensors: outputs must lie apart from each other and from what is read.
#include "check.h"

#include <algorithm>
#include <cstdio>

namespace exn {
namespace {

// Bytes of a row.
uintptr_t width_of(const Range& range) {
  const uintptr_t bytes = range.end - range.begin;
  return range.pitch == 0 ? bytes : bytes % range.pitch;
}

// Whether two ranges share no byte though each begins before the other ends: the rows of one lie in
// the gaps of the other. If the rows of both are equally far apart, or one is a single row, that is
// so exactly if their places within a pitch are apart. Of two pitches that differ, places within
// what divides both are compared, and some that are apart are taken for overlapping.
bool interleave(const Range& a, const Range& b) {
  uintptr_t step = a.pitch, rest = b.pitch;  // becomes what divides both
  while (rest != 0) {
    const uintptr_t next = step % rest;
    step = rest;
    rest = next;
  }
  if (step == 0) return false;
  const uintptr_t from_a_to_b = (b.begin % step + step - a.begin % step) % step;
  const uintptr_t width_a = width_of(a), width_b = width_of(b);
  return width_b <= step && from_a_to_b >= width_a && from_a_to_b <= step - width_b;
}

}  // namespace

void Check::note(const char* name, const void* begin, int64_t bytes, Role role, int64_t pitch) {
  if (bytes == 0) return;
  const uintptr_t at = reinterpret_cast<uintptr_t>(begin);
  uintptr_t end;
  if (__builtin_add_overflow(at, static_cast<uintptr_t>(bytes), &end))
    return ends_beyond(name, begin, bytes);
  const Range range = {name,
                       at,
                       end,
                       pitch <= UINT32_MAX ? static_cast<uint32_t>(pitch) : 0,
                       static_cast<int16_t>(item_),
                       role != Role::kIn};
  if (noting_ != Noting::kAll) return note_apart(range);
  if (range_count_ == most_ranges_) return finds_no_room(name);
  add(range);
}

// kOutputs: one of them; kAgainstOutputs: what must not overlap them, which lie in address order,
// apart from each other.
void Check::note_apart(const Range& range) {
  if (!ok() || range.written != (noting_ == Noting::kOutputs) || noting_ == Noting::kNothing)
    return;
  if (noting_ == Noting::kOutputs) {
    if (range_count_ == most_ranges_) return finds_no_room(range.name);
    ranges_[range_count_++] = range;
    return;
  }
  const Range* const last = ranges_ + range_count_;
  const Range* at = std::partition_point(ranges_, ranges_ + range_count_, [&](const Range& output) {
    return output.end <= range.begin;
  });
  for (; at != last && at->begin < range.end; ++at) {
    if (overlaps(*at, range)) return;
  }
}

void Check::outputs_apart() {
  std::sort(ranges_, ranges_ + range_count_,
            [](const Range& a, const Range& b) { return a.begin < b.begin; });
  for (int i = 1; i < range_count_; ++i) {
    if (overlaps(ranges_[i - 1], ranges_[i])) return;
  }
  noting_ = Noting::kAgainstOutputs;
}

void Check::ends_beyond(const char* name, const void* begin, int64_t bytes) {
  fail_argument("%s at %p has %lld bytes, which go beyond the last address", name, begin,
                wide(bytes));
}

void Check::finds_no_room(const char* name) {
  fail_argument("%s is one tensor more than the %d that were expected", name, most_ranges_);
}
void Check::may_alias(const char* out, const char* in) { aliases_[alias_count_++] = {out, in}; }

bool Check::are_one(const Range& a, const Range& b) const {
  if (a.begin != b.begin || a.end != b.end || a.pitch != b.pitch) return false;
  for (int i = 0; i < alias_count_; ++i) {
    const Alias& allowed = aliases_[i];
    if (a.name == allowed.out && b.name == allowed.in) return true;
    if (b.name == allowed.out && a.name == allowed.in) return true;
  }
  return false;
}

void Check::write_name(const Range& range, char (&text)[96]) const {
  if (range.item < 0) {
    std::snprintf(text, sizeof text, "%s", range.name);
  } else {
    std::snprintf(text, sizeof text, "%s[%d].%s", list_, range.item, range.name);
  }
}

bool Check::overlaps(const Range& a, const Range& b) {
  if (!(a.written || b.written) || a.end <= b.begin || b.end <= a.begin) return false;
  if (are_one(a, b) || interleave(a, b)) return false;
  const Range& out = a.written ? a : b;
  const Range& other = a.written ? b : a;
  char name[96], other_name[96];
  write_name(out, name);
  write_name(other, other_name);
  item_ = -1;  // both names say where they belong
  fail_argument("%s at %p..%p overlaps %s at %p..%p", name, reinterpret_cast<void*>(out.begin),
                reinterpret_cast<void*>(out.end), other_name, reinterpret_cast<void*>(other.begin),
                reinterpret_cast<void*>(other.end));
  return true;
}

// Without a branch for each of the pairs, of which there may be a hundred.
bool Check::some_overlap() const {
  bool any = false;
  for (uint32_t rest = between_; rest != 0; rest &= rest - 1) {
    const int i = __builtin_ctz(rest);
    const Range& a = ranges_[i];
    for (int j = 0; j < i; ++j) {
      const Range& b = ranges_[j];
      any |= (a.written | b.written) & (a.begin < b.end) & (b.begin < a.end);
    }
  }
  return any;
}

void Check::no_overlap() {
  if (!ok() || between_ == 0 || !some_overlap()) return;
  for (int i = 0; i < range_count_; ++i) {
    for (int j = 0; j < i; ++j) {
      if (overlaps(ranges_[i], ranges_[j])) return;
    }
  }
}

}  // namespace exn
