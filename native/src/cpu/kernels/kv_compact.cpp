// SPDX-License-Identifier: Apache-2.0
// kv_compact on the CPU. Sequences, lists and pages are read and checked before anything is
// written; then one parallel loop takes K and V of all sequences and heads.
#include "../ids.h"
#include "base/args/kv_compact.h"
#include "kv.h"
#include "moves.h"

namespace exn::cpu::EXN_ISA {
namespace {

constexpr const char* kOp = "exn_kv_compact";

long long wide(int64_t x) { return static_cast<long long>(x); }

// ---- what the tensors say -----------------------------------------------------------------------

struct List {
  const int32_t* slots;
  int64_t first;  // in the tensor
  int64_t size;
};

List list_of(const KvCompactArgs& a, int64_t g) {
  const bool packed = a.offsets != nullptr;
  const int64_t first = packed ? a.offsets[g] : g * a.list_stride;
  return {a.list + first, first, packed ? a.offsets[g + 1] - first : a.count[g]};
}

int64_t lists_per_sequence(const KvCompactArgs& a) { return a.per_head ? a.destination.heads : 1; }

int64_t sequence_at(const KvCompactArgs& a, int64_t b) {
  return a.sequence != nullptr ? a.sequence[b] : b;
}

int64_t length_at(const KvCompactArgs& a, int64_t b) {
  return a.length != nullptr ? a.length[b] : a.source.slots;
}

int64_t longest_of(const KvCompactArgs& a, int64_t b) {
  const int64_t lists = lists_per_sequence(a);
  int64_t longest = 0;
  for (int64_t g = b * lists; g < (b + 1) * lists; ++g) {
    const int64_t size = list_of(a, g).size;
    if (size > longest) longest = size;
  }
  return longest;
}

// ---- checks -------------------------------------------------------------------------------------

exn_status check_sequences(const KvCompactArgs& a, uint8_t* named) {
  exn_status status =
      check_ids(kOp, "sequence", a.sequence, a.sequences, 0, a.source.sequences - 1);
  if (status == EXN_OK) status = check_ids(kOp, "length", a.length, a.sequences, 0, a.source.slots);
  if (status != EXN_OK || a.sequence == nullptr) return status;
  std::memset(named, 0, static_cast<size_t>(a.source.sequences));
  for (int64_t b = 0; b < a.sequences; ++b) {
    if (named[a.sequence[b]]++ == 0) continue;
    return fail(EXN_INVALID_ARGUMENT, "%s: sequence[%lld] is %d, which an earlier entry is too",
                kOp, wide(b), a.sequence[b]);
  }
  return EXN_OK;
}

// Where the lists begin and end.
exn_status check_sizes(const KvCompactArgs& a) {
  if (a.offsets != nullptr) {
    exn_status status = check_ids(kOp, "offsets", a.offsets, a.lists + 1, 0, a.list_size);
    if (status != EXN_OK) return status;
  } else {
    exn_status status = check_ids(kOp, "count", a.count, a.lists, 0, a.list_stride);
    if (status != EXN_OK) return status;
  }
  for (int64_t g = 0; g < a.lists; ++g) {
    const List list = list_of(a, g);
    if (list.size < 0) {
      return fail(EXN_INVALID_ARGUMENT, "%s: offsets[%lld] is %d, which is below the %d before it",
                  kOp, wide(g + 1), a.offsets[g + 1], a.offsets[g]);
    }
    if (list.size > a.destination.slots) {
      return fail(EXN_INVALID_ARGUMENT,
                  "%s: list %lld has %lld entries, but a sequence of destination has %lld slots",
                  kOp, wide(g), wide(list.size), wide(a.destination.slots));
    }
  }
  return EXN_OK;
}

exn_status check_list(const KvCompactArgs& a, const List& list, int64_t length) {
  // As unsigned numbers negative slots are above all others. Without a branch: vectors.
  const uint32_t limit = static_cast<uint32_t>(length);
  const auto outside = [&](int32_t slot) { return static_cast<uint32_t>(slot) >= limit; };
  uint32_t wrong = 0;
  for (int64_t i = 0; i < list.size; ++i) wrong |= outside(list.slots[i]) ? 1u : 0u;
  for (int64_t i = 1; a.in_place && i < list.size; ++i)
    wrong |= list.slots[i - 1] >= list.slots[i] ? 1u : 0u;
  if (wrong == 0) return EXN_OK;
  for (int64_t i = 0; i < list.size; ++i) {
    if (!outside(list.slots[i])) continue;
    return fail(EXN_INVALID_ARGUMENT, "%s: list[%lld] is %d, expected 0..%lld", kOp,
                wide(list.first + i), list.slots[i], wide(length - 1));
  }
  int64_t i = 1;
  while (list.slots[i - 1] < list.slots[i]) ++i;
  return fail(EXN_INVALID_ARGUMENT,
              "%s: list[%lld] is %d and list[%lld] is %d: a list must ascend where destination is "
              "source",
              kOp, wide(list.first + i - 1), list.slots[i - 1], wide(list.first + i),
              list.slots[i]);
}

exn_status check_lists(const KvCompactArgs& a) {
  exn_status status = check_sizes(a);
  const int64_t per_sequence = lists_per_sequence(a);
  for (int64_t g = 0; status == EXN_OK && g < a.lists; ++g)
    status = check_list(a, list_of(a, g), length_at(a, g / per_sequence));
  return status;
}

// Pages of one cache and the block that has each: sequence * blocks + block, or -1.
class Pages {
 public:
  Pages(const KvCache& cache, const char* name, int64_t* owner)
      : cache_(cache), name_(name), owner_(owner) {
    for (int64_t page = 0; owner != nullptr && page < cache.pages; ++page) owner[page] = -1;
  }

  exn_status exists(int64_t sequence, int64_t block) const {
    const int32_t page = cache_.blocks[sequence * cache_.block_count + block];
    if (page >= 0 && page < cache_.pages) return EXN_OK;
    return fail(EXN_INVALID_ARGUMENT, "%s: %s.block_table[%lld,%lld] is %d, expected 0..%lld", kOp,
                name_, wide(sequence), wide(block), page, wide(cache_.pages - 1));
  }

  exn_status claim(int64_t sequence, int64_t block) {
    const exn_status status = exists(sequence, block);
    if (status != EXN_OK) return status;
    const int64_t at = sequence * cache_.block_count + block;
    const int32_t page = cache_.blocks[at];
    if (owner_[page] >= 0 && owner_[page] != at) {
      return fail(EXN_INVALID_ARGUMENT,
                  "%s: %s.block_table[%lld,%lld] is %d, which [%lld,%lld] is too", kOp, name_,
                  wide(sequence), wide(block), page, wide(owner_[page] / cache_.block_count),
                  wide(owner_[page] % cache_.block_count));
    }
    owner_[page] = at;
    return EXN_OK;
  }

  exn_status claim_slots(int64_t sequence, int64_t slots) {
    exn_status status = EXN_OK;
    for (int64_t block = 0; status == EXN_OK && block * cache_.page < slots; ++block)
      status = claim(sequence, block);
    return status;
  }

 private:
  const KvCache& cache_;
  const char* name_;
  int64_t* owner_;
};

// f(block) for the blocks that entries of a list are in; a block may come several times.
template <class F>
exn_status for_blocks(const List& list, int64_t page, F&& f) {
  int64_t last = -1;
  for (int64_t i = 0; i < list.size; ++i) {
    if (last >= 0 && list.slots[i] / page == last) continue;
    last = list.slots[i] / page;
    const exn_status status = f(last);
    if (status != EXN_OK) return status;
  }
  return EXN_OK;
}

exn_status check_pages(const KvCompactArgs& a, int64_t* owner) {
  const bool from_pages = a.source.blocks != nullptr, to_pages = a.destination.blocks != nullptr;
  const int64_t per_sequence = lists_per_sequence(a);
  const bool whole = a.in_place && a.length != nullptr;  // then the lists ask for nothing else
  const Pages source(a.source, "source", nullptr);
  Pages destination(a.destination, "destination", to_pages ? owner : nullptr);
  exn_status status = EXN_OK;
  for (int64_t b = 0; status == EXN_OK && b < a.sequences; ++b) {
    const int64_t sequence = sequence_at(a, b);
    const int64_t slots = whole ? a.length[b] : longest_of(a, b);
    if (to_pages) status = destination.claim_slots(sequence, slots);
    if (!from_pages || whole) continue;
    for (int64_t g = b * per_sequence; status == EXN_OK && g < (b + 1) * per_sequence; ++g) {
      status = for_blocks(list_of(a, g), a.source.page, [&](int64_t block) {
        return a.in_place ? destination.claim(sequence, block) : source.exists(sequence, block);
      });
    }
  }
  return status;
}

// ---- moving -------------------------------------------------------------------------------------

// Heads are moved one by one, or all at once where they have one list and lie side by side in both
// caches. `lanes` such runs make K, or V, of a sequence.
struct Plan {
  bool merged;
  int64_t lanes;
  Cut cut;
  int64_t units;
  int64_t bytes = 0;
};

Plan plan_moves(const KvCompactArgs& a) {
  const KvCache &from = a.source, &to = a.destination;
  Plan plan;
  plan.merged = !a.per_head && from.heads == to.heads &&
                (to.heads == 1 || (from.head_stride == from.dim && to.head_stride == to.dim));
  plan.lanes = plan.merged ? 1 : to.heads;
  const int64_t bytes = to.dim * size_of(to.dtype) * (plan.merged ? to.heads : 1);
  int64_t longest = 0, entries = 0;
  for (int64_t g = 0; g < a.lists; ++g) {
    const int64_t size = list_of(a, g).size;
    if (size > longest) longest = size;
    entries += size;
  }
  const int64_t runs = 2 * a.sequences * plan.lanes;
  plan.cut = cut_moves(longest, bytes, runs, a.in_place);
  plan.units = runs * plan.cut.units();
  plan.bytes = 2 * entries * bytes * (plan.merged || a.per_head ? 1 : plan.lanes);
  return plan;
}

// Where slot t of one head of one sequence is.
template <bool kPaged>
class Slots {
 public:
  Slots(const KvCache& c, const void* data, int64_t sequence, int64_t head, int64_t first_byte) {
    const int64_t size = size_of(c.dtype);
    base_ = static_cast<const char*>(data) + head * c.head_stride * size + first_byte;
    stride_ = c.slot_stride * size;
    if constexpr (kPaged) {
      pages_ = c.blocks + sequence * c.block_count;
      page_ = static_cast<uint32_t>(c.page);
      page_stride_ = c.page_stride * size;
    } else {
      base_ += sequence * c.sequence_stride * size;
    }
  }

  EXN_SIMD const char* operator()(int64_t slot) const {
    if constexpr (kPaged) {
      const uint32_t t = static_cast<uint32_t>(slot);
      return base_ + pages_[t / page_] * page_stride_ + t % page_ * stride_;
    } else {
      return base_ + slot * stride_;
    }
  }

 private:
  const char* base_;
  int64_t stride_;
  const int32_t* pages_ = nullptr;
  uint32_t page_ = 1;
  int64_t page_stride_ = 0;
};

// Calls f with the moves of a unit.
template <bool kFromPages, bool kToPages, class F>
EXN_SIMD void with_moves(const KvCompactArgs& a, const Plan& plan, int64_t unit, F&& f) {
  const Cut& cut = plan.cut;
  const int64_t slice = unit % cut.units(), run = unit / cut.units();
  const int64_t head = run % plan.lanes, side = run / plan.lanes % 2, b = run / plan.lanes / 2;
  const List list = list_of(a, a.per_head ? b * a.destination.heads + head : b);
  const int64_t sequence = sequence_at(a, b), first = cut.first_byte(slice);
  const int64_t group = a.destination.heads / a.source.heads;
  const void* from_data = side == 0 ? a.source.k : a.source.v;
  const void* to_data = side == 0 ? a.destination.k : a.destination.v;
  const Slots<kFromPages> from(a.source, from_data, sequence, head / group, first);
  const Slots<kToPages> to(a.destination, to_data, sequence, head, first);
  const int64_t end = cut.end(slice) < list.size ? cut.end(slice) : list.size;
  const int32_t* slots = list.slots;
  const bool follows = !a.per_head && group == 1 && cut.slices == 1 && head + 1 < plan.lanes;
  f(Moves{cut.begin(slice), end, list.size, cut.width_of(slice),
          [=](int64_t i) EXN_FLAT { return from(slots[i]); },
          [=](int64_t i) EXN_FLAT { return const_cast<char*>(to(i)); },
          follows ? a.source.head_stride * size_of(a.source.dtype) : 0});
}

template <bool kFromPages, bool kToPages>
void move_all(const KvCompactArgs& a, const Plan& plan) {
  move_units(plan.units, plan.bytes,
             [&](int64_t unit, auto&& f) { with_moves<kFromPages, kToPages>(a, plan, unit, f); });
}

void free_pages(const KvCompactArgs& a) {
  if (a.freed == nullptr) return;
  const int64_t page = a.source.page;
  int64_t count = 0;
  for (int64_t b = 0; b < a.sequences; ++b) {
    const int32_t* pages = a.source.blocks + sequence_at(a, b) * a.source.block_count;
    const int64_t end = (a.length[b] + page - 1) / page;
    for (int64_t block = (longest_of(a, b) + page - 1) / page; block < end; ++block) {
      if (count < a.freed_capacity) a.freed[count] = pages[block];
      ++count;
    }
  }
  for (int64_t i = count; i < a.freed_capacity; ++i) a.freed[i] = -1;
  if (a.freed_count != nullptr) *a.freed_count = static_cast<int32_t>(count);
}

}  // namespace

exn_status kv_compact(const KvCompactArgs& a, Workspace& ws) {
  uint8_t* named = ws.take<uint8_t>(a.sequence != nullptr ? a.source.sequences : 0);
  int64_t* owner = ws.take<int64_t>(a.destination.blocks != nullptr ? a.destination.pages : 0);
  if (ws.counting()) return EXN_OK;
  exn_status status = check_sequences(a, named);
  if (status == EXN_OK) status = check_lists(a);
  if (status == EXN_OK) status = check_pages(a, owner);
  if (status != EXN_OK) return status;
  ran(EXN_CPU_PATH(ws, "kv_compact"));
  const Plan plan = plan_moves(a);
  const bool from_pages = a.source.blocks != nullptr;
  if (a.destination.blocks != nullptr) {
    from_pages ? move_all<true, true>(a, plan) : move_all<false, true>(a, plan);
  } else {
    from_pages ? move_all<true, false>(a, plan) : move_all<false, false>(a, plan);
  }
  for (int64_t g = 0; a.new_length != nullptr && g < a.lists; ++g)
    a.new_length[g] = static_cast<int32_t>(list_of(a, g).size);
  free_pages(a);
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
