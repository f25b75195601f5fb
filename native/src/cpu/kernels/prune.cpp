// SPDX-License-Identifier: Apache-2.0
// prune_mask and prune_apply on the CPU.
//
// A score is a number of 31 bits that orders as it does, its key. The k-th smallest is found digit
// by digit, of 11, 11 and 9 bits: a pass counts how many keys have which. Most calls need the last
// two of these alone: they count how many keys lie near a guess, made from a sample or the row
// before, and how many below; only where the guess was wrong do all bits take their turn. Keys are
// made anew in each pass, a tile at a time in L1: the weights have fewer bytes. Counts are integers,
// which add up to the same in any order.
#include <cstring>

#include "base/args/prune.h"
#include "elements.h"

namespace exn::cpu::EXN_ISA {
namespace {

constexpr int64_t kTile = 1024;        // keys that are made at once
constexpr int64_t kUnit = 16 * kTile;  // elements of a row that a thread takes together
constexpr int64_t kUnitsAtOnce = 16;   // before counts of digits are added up
constexpr int64_t kSampled = 256;      // elements of a unit that a guess is made from
constexpr int kKeyBits = 31;
constexpr int kDigitBits = 11;
constexpr int kMostDigits = 1 << kDigitBits;

constexpr uint32_t kMagnitude = 0x7fffffffu;
constexpr uint32_t kInfinity = 0x7f800000u;

struct Scratch {
  alignas(64) float scores[kTile];
  uint32_t keys[kTile];
  uint32_t near[kTile];  // of these, the ones that are counted, less a common base
  // Neighbours often have one digit: they count in two places, so that none waits for the other.
  uint32_t counts[2][kMostDigits];
  int64_t below;
  int64_t within;
  uint32_t guess;  // 0: none
};

// How keys are made of scores: those pruned first are smallest, what is pruned already is 0.
struct Order {
  explicit Order(const PruneMaskArgs& a)
      : flip(a.largest ? ~0u : 0), more(a.largest ? kInfinity + 3 : 1), first(a.first) {}
  uint32_t flip;
  uint32_t more;
  bool first;
};

// Elements of one row.
struct Run {
  int64_t row;
  int64_t begin;
  int64_t end;
};

uint8_t* mask_at(const PruneTensor& t, int64_t row, int64_t col) {
  return t.mask + row * t.mask_stride + col;
}

template <class T>
EXN_SIMD void make_scores(const T* w, const float* norm, int64_t n, float* scores) {
  for_vectors(n, [&](int64_t i, int part) EXN_FLAT {
    f32v score = load_part(w + i, part, 0.0f);
    if (norm != nullptr) score = mul(score, load_part(norm + i, part, 0.0f));
    store_part(scores + i, score, part);
  });
}

// The keys of n elements from (row, col) on.
__attribute__((noinline)) void make_keys(const PruneTensor& t, const Order& order, int64_t row,
                                         int64_t col, int64_t n, Scratch& s) {
  with_float_type(t.dtype, [&](auto type) EXN_FLAT {
    using T = EXN_TYPE_OF(type);
    make_scores(static_cast<const T*>(t.weight) + row * t.stride + col,
                t.norm == nullptr ? nullptr : t.norm + col, n, s.scores);
  });
  const uint32_t flip = order.flip, more = order.more;
  for (int64_t i = 0; i < n; ++i) {
    uint32_t bits;
    std::memcpy(&bits, s.scores + i, sizeof bits);
    bits &= kMagnitude;
    const uint32_t ranked = bits > kInfinity ? kInfinity + 1 : bits;  // NaNs are alike
    s.keys[i] = (ranked ^ flip) + more;
  }
  if (order.first) return;
  const uint8_t* mask = mask_at(t, row, col);
  for (int64_t i = 0; i < n; ++i) s.keys[i] = mask[i] != 0 ? s.keys[i] : 0;
}

// Calls f(col, n) for tiles of a run, their keys made.
template <class F>
EXN_SIMD void for_tiles(const PruneTensor& t, const Order& order, const Run& run, Scratch& s,
                        F&& f) {
  for (int64_t col = run.begin; col < run.end; col += kTile) {
    const int64_t n = run.end - col < kTile ? run.end - col : kTile;
    make_keys(t, order, run.row, col, n, s);
    f(col, n);
  }
}

// ---- where the k-th smallest key is -------------------------------------------------------------

// Keys from `base` on that differ in so many low bits.
struct Level {
  uint32_t base = 0;
  int width = kKeyBits;
  int shift() const { return width > kDigitBits ? width - kDigitBits : 0; }
};

// The level of the second digit in whose middle a key is.
Level around(uint32_t key) {
  constexpr int kWidth = kKeyBits - kDigitBits;
  constexpr uint32_t kHalf = 1u << (kWidth - 1);
  return {key > kHalf ? key - kHalf : 0, kWidth};
}

struct Search {
  Level level;      // has the key that is looked for
  int64_t wanted;   // of its keys, those up to that one
  int64_t present;  // its keys
  // Pruned are all of them, or what is left are equal keys.
  bool done() const { return wanted == present || level.width == 0; }
};

void clear_counts(Scratch& s) {
  std::memset(s.counts, 0, sizeof s.counts);
  s.below = s.within = 0;
}

// Adds up the digits of the keys of a level, and how many keys lie within and below.
void count_digits(const PruneTensor& t, const Order& order, const Run& run, const Level& level,
                  Scratch& s) {
  for_tiles(t, order, run, s, [&](int64_t, int64_t n) EXN_FLAT {
    const uint32_t* keys = s.keys;
    const int shift = level.shift();
    if (level.width == kKeyBits) {
      for (int64_t i = 0; i < n; ++i) ++s.counts[i & 1][keys[i] >> shift];
      return;
    }
    const uint32_t base = level.base, size = 1u << level.width;
    uint32_t below = 0, within = 0;
    for (int64_t i = 0; i < n; ++i) {
      below += keys[i] < base ? 1 : 0;
      within += keys[i] - base < size ? 1 : 0;
    }
    s.below += below;
    s.within += within;
    if (within == 0) return;
    uint32_t* near = s.near;
    int64_t count = 0;
    for (int64_t i = 0; i < n; ++i) {  // without a branch
      near[count] = keys[i] - base;
      count += keys[i] - base < size ? 1 : 0;
    }
    for (int64_t i = 0; i < count; ++i) ++s.counts[i & 1][near[i] >> shift];
  });
}

// count(digit): how many keys have it.
template <class F>
EXN_SIMD void take_digit(Search* search, F&& count) {
  const int shift = search->level.shift();
  const uint32_t digits = 1u << (search->level.width - shift);
  uint32_t digit = 0;
  search->present = count(0);
  while (search->present < search->wanted && digit + 1 < digits) {
    search->wanted -= search->present;
    search->present = count(++digit);
  }
  search->level = {search->level.base + (digit << shift), shift};
}

// Whether the key that is looked for is among those that were counted; then it is looked for there.
bool narrow_down(Search* search, const Level& level, int64_t below, int64_t within) {
  if (search->wanted <= below || search->wanted > below + within) return false;
  *search = {level, search->wanted - below, within};
  return true;
}

// What is pruned: keys below `least`, and of those that are `key` the ones numbered begin ...
// end - 1.
struct Cut {
  Cut(const Search& search, bool largest) : key(search.level.base) {
    // Key 0 is pruned already, however many there are.
    const int64_t taken = key == 0 ? search.present : search.wanted;
    splits = search.level.width == 0 && taken < search.present;
    least = splits ? key : key + (1u << search.level.width);
    begin = largest ? search.present - taken : 0;
    end = begin + taken;
  }
  uint32_t key;
  uint32_t least;
  bool splits;  // equal keys are not pruned all
  int64_t begin;
  int64_t end;
};

// Writes a run's mask, with the equal keys kept where a cut splits them. Returns how many there are.
int64_t mark(const PruneTensor& t, const Order& order, const Run& run, const Cut& cut, Scratch& s) {
  int64_t all = 0;
  const uint32_t key = cut.key, least = cut.least;
  for_tiles(t, order, run, s, [&](int64_t col, int64_t n) EXN_FLAT {
    uint8_t* mask = mask_at(t, run.row, col);
    const uint32_t* keys = s.keys;
    uint32_t equal = 0;
    for (int64_t i = 0; i < n; ++i) {
      mask[i] = keys[i] >= least ? 1 : 0;
      equal += keys[i] == key ? 1 : 0;
    }
    all += equal;
  });
  return all;
}

// Prunes those of a run's equal keys that the cut takes; `number` is that of the first.
void settle(const PruneTensor& t, const Order& order, const Run& run, const Cut& cut,
            int64_t number, Scratch& s) {
  for_tiles(t, order, run, s, [&](int64_t col, int64_t n) EXN_FLAT {
    uint8_t* mask = mask_at(t, run.row, col);
    for (int64_t i = 0; i < n; ++i) {
      if (s.keys[i] != cut.key) continue;
      if (number >= cut.begin && number < cut.end) mask[i] = 0;
      ++number;
    }
  });
}

// ---- each row on its own ------------------------------------------------------------------------

void prune_row(const PruneTensor& t, const PruneMaskArgs& a, int64_t row, Scratch& s) {
  const Order order(a);
  const Run run = {row, 0, t.cols};
  Search search = {{}, t.wanted, t.cols};
  const auto count = [&](const Level& level) {
    clear_counts(s);
    count_digits(t, order, run, level, s);
  };
  const auto take = [&] {
    take_digit(&search, [&](uint32_t digit) EXN_FLAT {
      return static_cast<int64_t>(s.counts[0][digit]) + s.counts[1][digit];
    });
  };
  if (s.guess != 0 && !search.done()) {
    const Level level = around(s.guess);
    count(level);
    if (narrow_down(&search, level, s.below, s.within) && !search.done()) take();
  }
  while (!search.done()) {
    count(search.level);
    take();
  }
  const Cut cut(search, a.largest);
  s.guess = cut.key;
  mark(t, order, run, cut, s);
  if (cut.splits) settle(t, order, run, cut, 0, s);
}

void prune_rows(const PruneMaskArgs& a, Scratch* own) {
  for (int32_t i = 0; i < a.tensor_count; ++i) {
    const PruneTensor& t = a.tensors[i];
    if (t.size() == 0) continue;
    const int64_t chunk = t.cols < kUnit ? kUnit / t.cols : 1;
    parallel_for(t.rows, chunk, own, [&](int64_t begin, int64_t end, Scratch& s) {
      s.guess = 0;
      for (int64_t row = begin; row < end; ++row) prune_row(t, a, row, s);
    });
  }
}

// ---- tensors as a whole -------------------------------------------------------------------------

int64_t units_of_row(int64_t cols) { return (cols + kUnit - 1) / kUnit; }
int64_t units_of(const PruneTensor& t) { return t.rows * units_of_row(t.cols); }

// Tensors whose elements stand in one order.
struct Scope {
  const PruneTensor* tensors;
  int32_t count;
  int64_t wanted;

  int64_t units() const {
    int64_t all = 0;
    for (int32_t i = 0; i < count; ++i) all += units_of(tensors[i]);
    return all;
  }
  int64_t size() const {
    int64_t all = 0;
    for (int32_t i = 0; i < count; ++i) all += tensors[i].size();
    return all;
  }
  // Calls f(tensor, run) for a unit.
  template <class F>
  EXN_SIMD void with_unit(int64_t unit, F&& f) const {
    const PruneTensor* t = tensors;
    for (; unit >= units_of(*t); ++t) unit -= units_of(*t);
    const int64_t across = units_of_row(t->cols), begin = unit % across * kUnit;
    f(*t, Run{unit / across, begin, t->cols - begin < kUnit ? t->cols : begin + kUnit});
  }
};

// What threads share.
struct Counts {
  uint32_t digits[kMostDigits];
  int64_t below;
  int64_t within;
};
struct Room {
  Scratch* own;
  Counts* counts;
  int32_t* equal;  // of each unit
};

// `most`: elements of each unit that are looked at.
void count_digits(const Scope& scope, const Order& order, const Level& level, int64_t most,
                  const Room& room) {
  Counts& all = *room.counts;
  std::memset(&all, 0, sizeof all);
  parallel_for(scope.units(), kUnitsAtOnce, room.own, [&](int64_t begin, int64_t end, Scratch& s) {
    clear_counts(s);
    for (int64_t unit = begin; unit < end; ++unit) {
      scope.with_unit(unit, [&](const PruneTensor& t, Run run) EXN_FLAT {
        run.end = run.end - run.begin < most ? run.end : run.begin + most;
        count_digits(t, order, run, level, s);
      });
    }
    for (int digit = 0; digit < kMostDigits; ++digit) {
      const uint32_t more = s.counts[0][digit] + s.counts[1][digit];
      if (more != 0) __atomic_fetch_add(all.digits + digit, more, __ATOMIC_RELAXED);
    }
    __atomic_fetch_add(&all.below, s.below, __ATOMIC_RELAXED);
    __atomic_fetch_add(&all.within, s.within, __ATOMIC_RELAXED);
  });
}

void take_digit(const Room& room, Search* search) {
  take_digit(search, [&](uint32_t digit) EXN_FLAT {
    return static_cast<int64_t>(room.counts->digits[digit]);
  });
}

// About where the key is that `search` looks for: as many of a sample are below.
uint32_t guess_of(const Scope& scope, const Order& order, const Search& search, const Room& room) {
  count_digits(scope, order, {}, kSampled, room);
  int64_t sampled = 0;
  for (const uint32_t count : room.counts->digits) sampled += count;
  const double share = static_cast<double>(search.wanted) / static_cast<double>(search.present);
  const auto wanted = static_cast<int64_t>(share * static_cast<double>(sampled));
  Search about = {{}, wanted > 0 ? wanted : 1, sampled};
  take_digit(room, &about);
  count_digits(scope, order, about.level, kSampled, room);
  take_digit(room, &about);
  return about.level.base;
}

void prune_scope(const Scope& scope, const PruneMaskArgs& a, const Room& room) {
  const int64_t units = scope.units();
  if (units == 0) return;
  const Order order(a);
  Search search = {{}, scope.wanted, scope.size()};
  if (search.present >= kUnit && !search.done()) {
    const Level level = around(guess_of(scope, order, search, room));
    count_digits(scope, order, level, kUnit, room);
    const bool found = narrow_down(&search, level, room.counts->below, room.counts->within);
    if (found && !search.done()) take_digit(room, &search);
  }
  while (!search.done()) {
    count_digits(scope, order, search.level, kUnit, room);
    take_digit(room, &search);
  }
  const Cut cut(search, a.largest);
  parallel_for(units, kUnitsAtOnce, room.own, [&](int64_t begin, int64_t end, Scratch& s) {
    for (int64_t unit = begin; unit < end; ++unit) {
      scope.with_unit(unit, [&](const PruneTensor& t, const Run& run) EXN_FLAT {
        room.equal[unit] = static_cast<int32_t>(mark(t, order, run, cut, s));
      });
    }
  });
  if (!cut.splits) return;
  int64_t number = 0;
  for (int64_t unit = 0; unit < units; ++unit) {  // of the first in each
    const int32_t equal = room.equal[unit];
    const bool takes = equal > 0 && number < cut.end && number + equal > cut.begin;
    room.equal[unit] = takes ? static_cast<int32_t>(number) : -1;
    number += equal;
  }
  parallel_for(units, kUnitsAtOnce, room.own, [&](int64_t begin, int64_t end, Scratch& s) {
    for (int64_t unit = begin; unit < end; ++unit) {
      if (room.equal[unit] < 0) continue;
      scope.with_unit(unit, [&](const PruneTensor& t, const Run& run) EXN_FLAT {
        settle(t, order, run, cut, room.equal[unit], s);
      });
    }
  });
}

// ---- zeros --------------------------------------------------------------------------------------

template <class Word>
EXN_SIMD void zero_pruned(const uint8_t* __restrict mask, int64_t n, void* data) {
  Word* __restrict to = static_cast<Word*>(data);
  for (int64_t i = 0; i < n; ++i) to[i] = mask[i] != 0 ? to[i] : Word{0};
}

void apply(const PruneApplyTensor& t, const Run& run) {
  for (int64_t col = run.begin; col < run.end; col += kTile) {
    const int64_t n = run.end - col < kTile ? run.end - col : kTile;
    const uint8_t* mask = t.mask + run.row * t.mask_stride + col;
    for (int32_t k = 0; k < t.count; ++k) {
      const PruneValues& values = t.values[k];
      char* at = static_cast<char*>(values.data) + (run.row * values.stride + col) * values.element;
      if (values.element == 2) {
        zero_pruned<uint16_t>(mask, n, at);
      } else if (values.element == 4) {
        zero_pruned<uint32_t>(mask, n, at);
      } else {
        zero_pruned<uint64_t>(mask, n, at);
      }
    }
  }
}

}  // namespace

exn_status prune_mask(const PruneMaskArgs& a, Workspace& ws) {
  const Scope all = {a.tensors, a.tensor_count, a.wanted};
  const int64_t units = a.scope == EXN_PRUNE_ROW ? 0 : all.units();
  Room room = {};
  room.own = ws.take<Scratch>(1);
  room.counts = ws.take<Counts>(a.scope == EXN_PRUNE_ROW ? 0 : 1);
  room.equal = ws.take<int32_t>(units);
  if (ws.counting()) return EXN_OK;
  ran(EXN_CPU_PATH("prune_mask"));
  if (a.scope == EXN_PRUNE_ROW) {
    prune_rows(a, room.own);
  } else if (a.scope == EXN_PRUNE_GLOBAL) {
    prune_scope(all, a, room);
  } else {
    for (int32_t i = 0; i < a.tensor_count; ++i)
      prune_scope({a.tensors + i, 1, a.tensors[i].wanted}, a, room);
  }
  return EXN_OK;
}

exn_status prune_apply(const PruneApplyArgs& a, Workspace& ws) {
  if (ws.counting()) return EXN_OK;
  ran(EXN_CPU_PATH("prune_apply"));
  for (int32_t i = 0; i < a.tensor_count; ++i) {
    const PruneApplyTensor& t = a.tensors[i];
    const int64_t across = units_of_row(t.cols);
    const int64_t chunk = t.cols > 0 && t.cols < kUnit ? kUnit / t.cols : 1;
    parallel_for(t.rows * across, chunk, [&](int64_t begin, int64_t end) {
      for (int64_t unit = begin; unit < end; ++unit) {
        const int64_t from = unit % across * kUnit;
        apply(t, {unit / across, from, t.cols - from < kUnit ? t.cols : from + kUnit});
      }
    });
  }
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
