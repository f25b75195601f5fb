// SPDX-License-Identifier: Apache-2.0
// prune_mask and prune_apply on the CPU.
//
// A score is a number of 31 bits that orders as it does, its key. Most weights are read once: a
// sample, or the row before, tells near which key the k-th smallest lies; a pass counts the keys
// below that window, lists the few within, and writes the mask as if the guess were right. The list
// then has the k-th smallest, and those of it whose mask is another are written again. Where masks
// were given, they are written in a second pass, once the key is known. Where the window has not
// held the key, or has held too many, the key is found digit by digit, as in a radix sort.
//
// Counts are integers, which add up to the same in any order.
#include <cmath>
#include <cstring>

#include "base/args/prune.h"
#include "prune_keys.h"
#include "selection.h"

namespace exn::cpu::EXN_ISA {
namespace {

// ---- each row on its own ------------------------------------------------------------------------

// Rows have about the same key: of the next one, about this many are listed.
int64_t listed_of(int64_t n) { return static_cast<int64_t>(6 * ::sqrt(static_cast<double>(n))); }

// Finds the `wanted`-th smallest key of a row, and how many equal ones go with it. What is done
// meanwhile, tile by tile: ahead(first key).
template <class F>
EXN_SIMD Cut cut_row(const uint32_t* keys, int64_t n, int64_t wanted, bool largest, Scratch& s,
                     F&& ahead) {
  const uint32_t* list = keys;
  int64_t listed = n, before = 0, below = 0;
  Window window = {0, kMostKey};
  if (s.guess != 0) {
    const Window close = {s.guess > s.reach ? s.guess - s.reach : 1,
                          s.guess < kMostKey - s.reach ? s.guess + s.reach : kMostKey};
    int64_t count = 0;
    if (n <= kTile) {
      ahead(0);
      s.below = count_below(keys, n, close.low);
      count = count_below(keys, n, close.high + 1) - s.below;
    } else {
      s.below = 0;
      for (int64_t i = 0; i < n; i += kTile) {
        ahead(i);
        count = list_near(keys + i, n - i < kTile ? n - i : kTile, close, i, count, s);
      }
    }
    // Pruned already.
    if (close.low == 1 && wanted <= s.below) return {0, wanted, wanted, largest};
    const bool found = wanted > s.below && wanted <= s.below + count;
    if (found) {
      window = close;
      below = s.below;
      if (n > kTile) {
        list = s.near;
        listed = count;
        before = s.below;
        below = 0;
      }
    }
    const int64_t usual = listed_of(n);
    if (found && count > 2 * usual) s.reach -= s.reach / 2;
    if ((!found || count < usual / 2) && s.reach < kMostKey / 2) s.reach += s.reach;
  }
  const uint32_t key = select_key(list, listed, wanted - before, window.low, window.high, below);
  s.guess = key > 0 ? key : 1;
  return {key, wanted - before - count_below(list, listed, key), count_equal(list, listed, key),
          largest};
}

void prune_row(const PruneTensor& t, const PruneMaskArgs& a, int64_t row, Scratch& s) {
  const Order order(a);
  const int64_t n = t.cols;
  for (int64_t i = 0; i < n; i += kTile)
    make_keys(t, order, row, i, n - i < kTile ? n - i : kTile, s.keys + i, s);
  uint8_t* mask = mask_at(t, row, 0);
  if (t.wanted == 0) return mark(s.keys, n, 1, mask);
  const Cut cut = cut_row(s.keys, n, t.wanted, a.largest, s, [&](int64_t col) EXN_FLAT {
    if (row + 1 < t.rows) prefetch_tile(t, row + 1, col);
  });
  const int64_t place = cut.splits ? place_after(s.keys, n, cut.key, cut.number) : n;
  mark(s.keys, place, cut.least_before(), mask);
  mark(s.keys + place, n - place, cut.least_after(), mask + place);
}

void start_rows(Scratch& s) {
  s.guess = 0;
  s.reach = 1u << 18;
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
struct Shared {
  uint32_t digits[kMostDigits];
  int64_t below;
  int64_t within;
  int64_t listed;
};

// Keys of a unit that lie in the window: how many, and where they are listed.
struct Listed {
  int64_t begin;
  int64_t count;
};

struct Lists {
  Scratch* own;
  Shared* shared;
  Listed* units;
  uint32_t* keys;  // the list, [capacity], one unit after the other in any order
  int32_t* places;
  int64_t capacity;
};

// Every element of a small scope, and about as many of a large one as four deviations ask for,
// whatever a sample has seen; the sample itself, too.
int64_t capacity_of(int64_t size, int64_t units) {
  constexpr int64_t kSmall = 65536;
  return (size < kSmall ? size : kSmall) + size / 32 + units;
}

Lists take_lists(Workspace& ws, int64_t size, int64_t units) {
  Lists lists = {};
  lists.own = ws.take<Scratch>(1);
  lists.shared = ws.take<Shared>(units > 0 ? 1 : 0);
  lists.units = ws.take<Listed>(units);
  lists.capacity = units > 0 ? capacity_of(size, units) : 0;
  lists.keys = ws.take<uint32_t>(lists.capacity);
  lists.places = ws.take<int32_t>(lists.capacity);
  return lists;
}

template <class F>
void for_units(const Scope& scope, const Lists& lists, F&& f) {
  parallel_for(scope.units(), kUnitsAtOnce, lists.own, [&](int64_t begin, int64_t end, Scratch& s) {
    for (int64_t unit = begin; unit < end; ++unit) {
      scope.with_unit(unit,
                      [&](const PruneTensor& t, const Run& run) EXN_FLAT { f(unit, t, run, s); });
    }
  });
}

int64_t add_shared(int64_t* to, int64_t more) {
  return __atomic_fetch_add(to, more, __ATOMIC_RELAXED);
}

// What is guessed before all elements are read.
struct Guess {
  Window window;
  uint32_t key;
  double
      taken;  // of the keys that are equal, where the window has but one: the share that is pruned
};

// The smallest key of a unit that is kept if the guess is right.
uint32_t least_of(const Guess& guess, bool largest, int64_t unit, int64_t units) {
  if (!guess.window.single()) return guess.key;
  const double share = largest ? 1 - guess.taken : guess.taken;
  const bool before = static_cast<double>(unit) < share * static_cast<double>(units);
  return before != largest ? guess.key + 1 : guess.key;
}

// One in 128 elements, in pieces of neighbours that lie about anywhere. Returns how many.
int64_t take_sample(const Scope& scope, const Order& order, const Lists& lists) {
  constexpr int64_t kEvery = 128, kNeighbours = 32;
  lists.shared->listed = 0;
  for_units(
      scope, lists, [&](int64_t unit, const PruneTensor& t, const Run& run, Scratch& s) EXN_FLAT {
        const int64_t n = run.end - run.begin;
        if (n < kEvery && unit % (kEvery / n) != 0) return;
        int64_t left = n / kEvery > 0 ? n / kEvery : 1, taken = 0;
        const int64_t pieces = (left + kNeighbours - 1) / kNeighbours, apart = n / pieces;
        for (int64_t piece = 0; piece < pieces; ++piece) {
          const int64_t size = left < kNeighbours ? left : kNeighbours;
          const int64_t slack = apart - size + 1;
          const int64_t col = run.begin + piece * apart + (unit * 7919 + piece * 104729) % slack;
          make_keys(t, order, run.row, col, size, s.near + taken, s);
          taken += size;
          left -= size;
        }
        const int64_t at = add_shared(&lists.shared->listed, taken);
        std::memcpy(lists.keys + at, s.near, static_cast<size_t>(taken) * sizeof(uint32_t));
      });
  return lists.shared->listed;
}

Guess guess_of(const Scope& scope, const Order& order, const Lists& lists) {
  constexpr int64_t kSmall = 2 * kUnit;
  const int64_t size = scope.size();
  if (size < kSmall) return {{1, kMostKey}, kMostKey / 2, 0};
  const int64_t sampled = take_sample(scope, order, lists);
  const double all = static_cast<double>(sampled);
  const double share = static_cast<double>(scope.wanted) / static_cast<double>(size);
  const auto nearest = static_cast<int64_t>(share * all);
  const int64_t wanted = nearest > 0 ? nearest : 1;
  const auto off = static_cast<int64_t>(4 * ::sqrt(all * share * (1 - share))) + 2;
  const auto find = [&](int64_t number, uint32_t low, uint32_t high) {
    const uint32_t key = select_key(lists.keys, sampled, number, low, high, 0);
    return key > 0 ? key : 1;
  };
  Guess guess = {};
  guess.key = find(wanted, 0, kMostKey);
  guess.window.low = wanted > off ? find(wanted - off, 0, guess.key) : 1;
  guess.window.high = wanted + off < sampled ? find(wanted + off, 0, kMostKey) : kMostKey;
  const int64_t below = count_below(lists.keys, sampled, guess.key);
  const int64_t equal = count_equal(lists.keys, sampled, guess.key);
  if (equal > 0) guess.taken = static_cast<double>(wanted - below) / static_cast<double>(equal);
  return guess;
}

// Counts what lies below the window and lists what lies within; of a first mask writes what the
// guess makes of it.
void look(const Scope& scope, const PruneMaskArgs& a, const Guess& guess, const Lists& lists) {
  const Order order(a);
  const int64_t units = scope.units();
  Shared& all = *lists.shared;
  all.below = all.within = all.listed = 0;
  const Window& window = guess.window;
  for_units(scope, lists,
            [&](int64_t unit, const PruneTensor& t, const Run& run, Scratch& s) EXN_FLAT {
              const uint32_t least = least_of(guess, a.largest, unit, units);
              int64_t count = 0;
              s.below = 0;
              for_tiles(t, order, run, s, [&](int64_t col, int64_t n) EXN_FLAT {
                if (window.single()) {
                  s.below += count_below(s.keys, n, window.low);
                  count += count_equal(s.keys, n, window.low);
                } else {
                  count = list_near(s.keys, n, window, col - run.begin, count, s);
                }
                if (a.first) mark(s.keys, n, least, mask_at(t, run.row, col));
              });
              add_shared(&all.below, s.below);
              add_shared(&all.within, count);
              lists.units[unit] = {0, count};
              if (window.single()) return;
              const int64_t at = lists.units[unit].begin = add_shared(&all.listed, count);
              if (at + count > lists.capacity) return;
              const size_t bytes = static_cast<size_t>(count) * sizeof(uint32_t);
              std::memcpy(lists.keys + at, s.near, bytes);
              std::memcpy(lists.places + at, s.places, bytes);
            });
}

// ---- digit by digit -----------------------------------------------------------------------------

// Keys from `base` on that differ in so many low bits, and which of them is looked for.
struct Level {
  uint32_t base;
  int width;
  int64_t wanted;
  int shift() const { return width > kDigitBits ? width - kDigitBits : 0; }
};

void count_digits(const Scope& scope, const Order& order, const Level& level, const Lists& lists) {
  Shared& all = *lists.shared;
  std::memset(all.digits, 0, sizeof all.digits);
  const uint32_t base = level.base, last = (1u << level.width) - 1;
  const int shift = level.shift();
  parallel_for(scope.units(), kUnitsAtOnce, lists.own, [&](int64_t begin, int64_t end, Scratch& s) {
    std::memset(s.counts, 0, sizeof s.counts);
    for (int64_t unit = begin; unit < end; ++unit) {
      scope.with_unit(unit, [&](const PruneTensor& t, const Run& run) EXN_FLAT {
        for_tiles(t, order, run, s, [&](int64_t, int64_t n) EXN_FLAT {
          int64_t count = 0;
          for (int64_t i = 0; i < n; ++i) {  // without a branch
            s.near[count] = s.keys[i] - base;
            count += s.near[count] <= last ? 1 : 0;
          }
          for (int64_t i = 0; i < count; ++i) ++s.counts[i & 1][s.near[i] >> shift];
        });
      });
    }
    for (int digit = 0; digit < kMostDigits; ++digit) {
      const uint32_t more = s.counts[0][digit] + s.counts[1][digit];
      if (more != 0) __atomic_fetch_add(all.digits + digit, more, __ATOMIC_RELAXED);
    }
  });
}

// The key that a level has as its `wanted`-th smallest.
uint32_t search(const Scope& scope, const Order& order, Level level, const Lists& lists) {
  while (level.width > 0) {
    count_digits(scope, order, level, lists);
    const uint32_t* digits = lists.shared->digits;
    uint32_t digit = 0;
    for (; digits[digit] < level.wanted; ++digit) level.wanted -= digits[digit];
    level = {level.base + (digit << level.shift()), level.shift(), level.wanted};
  }
  return level.base;
}

// Where it is looked for if a look has not found it.
Level level_of(const Scope& scope, const Window& window, const Shared& all) {
  const bool within = scope.wanted > all.below && scope.wanted <= all.below + all.within;
  if (!within) return {0, kKeyBits, scope.wanted};
  const int width = 32 - __builtin_clz(window.high - window.low);
  return {window.low, width, scope.wanted - all.below};
}

// ---- masks --------------------------------------------------------------------------------------

// Where in a scope the fate of equal keys changes.
struct Split {
  int64_t unit;
  int64_t number;  // after so many of the unit's
};

Split split_of(const Scope& scope, const Guess& guess, const Cut& cut, const Lists& lists) {
  Split split = {scope.units(), 0};
  if (!cut.splits) return split;
  int64_t left = cut.number;
  for (split.unit = 0;; ++split.unit) {
    const Listed& listed = lists.units[split.unit];
    const int64_t equal = guess.window.single()
                              ? listed.count
                              : count_equal(lists.keys + listed.begin, listed.count, cut.key);
    if (equal >= left) break;
    left -= equal;
  }
  split.number = left;
  return split;
}

void mark_unit(const PruneTensor& t, const Order& order, const Run& run, int64_t unit,
               const Cut& cut, const Split& split, Scratch& s) {
  int64_t left = unit < split.unit ? kUnit : unit == split.unit ? split.number : 0;
  for_tiles(t, order, run, s, [&](int64_t col, int64_t n) EXN_FLAT {
    uint8_t* mask = mask_at(t, run.row, col);
    int64_t place = left > 0 ? n : 0;
    if (unit == split.unit && left > 0) {
      const int64_t equal = count_equal(s.keys, n, cut.key);
      if (equal >= left) place = place_after(s.keys, n, cut.key, left);
      left = equal >= left ? 0 : left - equal;
    }
    mark(s.keys, place, cut.least_before(), mask);
    mark(s.keys + place, n - place, cut.least_after(), mask + place);
  });
}

// Writes those of a listed unit again for which the guess was wrong.
void correct_unit(const PruneTensor& t, const Run& run, int64_t unit, const Guess& guess,
                  const Cut& cut, const Split& split, const Lists& lists) {
  const Listed& listed = lists.units[unit];
  uint8_t* mask = mask_at(t, run.row, run.begin);
  int64_t left = unit < split.unit ? kUnit : unit == split.unit ? split.number : 0;
  const uint32_t before = cut.least_before(), after = cut.least_after();
  for (int64_t i = listed.begin; i < listed.begin + listed.count; ++i) {
    const uint32_t key = lists.keys[i];
    const bool kept = key >= (left > 0 ? before : after);
    if (unit == split.unit && key == cut.key) --left;
    if (kept != (key >= guess.key)) mask[lists.places[i]] = kept ? 1 : 0;
  }
}

void write_masks(const Scope& scope, const PruneMaskArgs& a, const Guess& guess, const Cut& cut,
                 const Lists& lists) {
  const Order order(a);
  const Split split = split_of(scope, guess, cut, lists);
  const int64_t units = scope.units();
  for_units(scope, lists,
            [&](int64_t unit, const PruneTensor& t, const Run& run, Scratch& s) EXN_FLAT {
              if (a.first && !guess.window.single()) {
                return correct_unit(t, run, unit, guess, cut, split, lists);
              }
              const uint32_t least = unit < split.unit ? cut.least_before() : cut.least_after();
              const bool written = a.first && least_of(guess, a.largest, unit, units) == least;
              if (!written || unit == split.unit) mark_unit(t, order, run, unit, cut, split, s);
            });
}

void mark_all(const Scope& scope, const PruneMaskArgs& a, uint32_t least, const Lists& lists) {
  const Order order(a);
  for_units(scope, lists, [&](int64_t, const PruneTensor& t, const Run& run, Scratch& s) EXN_FLAT {
    for_tiles(t, order, run, s, [&](int64_t col, int64_t n) EXN_FLAT {
      mark(s.keys, n, least, mask_at(t, run.row, col));
    });
  });
}

void prune_scope(const Scope& scope, const PruneMaskArgs& a, const Lists& lists) {
  const int64_t size = scope.size();
  if (size == 0) return;
  if (scope.wanted == 0) return mark_all(scope, a, 1, lists);
  if (scope.wanted == size) return mark_all(scope, a, kMostKey + 1, lists);
  const Order order(a);
  Guess guess = guess_of(scope, order, lists);
  look(scope, a, guess, lists);
  Shared& all = *lists.shared;
  // Pruned already.
  if (guess.window.low == 1 && scope.wanted <= all.below) return mark_all(scope, a, 1, lists);
  const bool found = scope.wanted > all.below && scope.wanted <= all.below + all.within &&
                     all.listed <= lists.capacity;
  if (!found) {
    const uint32_t key = search(scope, order, level_of(scope, guess.window, all), lists);
    guess = {{key, key}, key, 1};
    look(scope, a, guess, lists);
  }
  const int64_t wanted = scope.wanted - all.below;
  if (guess.window.single()) {
    return write_masks(scope, a, guess, {guess.key, wanted, all.within, a.largest}, lists);
  }
  const uint32_t key =
      select_key(lists.keys, all.listed, wanted, guess.window.low, guess.window.high, 0);
  const Cut cut(key, wanted - count_below(lists.keys, all.listed, key),
                count_equal(lists.keys, all.listed, key), a.largest);
  write_masks(scope, a, guess, cut, lists);
}

void prune_rows(const PruneMaskArgs& a, const Lists& lists) {
  for (int32_t i = 0; i < a.tensor_count; ++i) {
    const PruneTensor& t = a.tensors[i];
    if (t.size() == 0) continue;
    if (t.cols > kUnit) {
      for (int64_t row = 0; row < t.rows; ++row) {
        PruneTensor one = t;
        one.rows = 1;
        one.weight = static_cast<const char*>(t.weight) + row * t.stride * size_of(t.dtype);
        one.mask = mask_at(t, row, 0);
        prune_scope({&one, 1, t.wanted}, a, lists);
      }
      continue;
    }
    parallel_for(t.rows, kUnit / t.cols, lists.own, [&](int64_t begin, int64_t end, Scratch& s) {
      start_rows(s);
      for (int64_t row = begin; row < end; ++row) prune_row(t, a, row, s);
    });
  }
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
  int64_t size = all.size(), units = all.units();
  if (a.scope != EXN_PRUNE_GLOBAL) {  // those of one at a time
    size = units = 0;
    for (int32_t i = 0; i < a.tensor_count; ++i) {
      const PruneTensor& t = a.tensors[i];
      const bool by_row = a.scope == EXN_PRUNE_ROW;
      const int64_t one = by_row ? units_of_row(t.cols) : units_of(t);
      const int64_t elements = by_row ? t.cols : t.size();
      if (by_row && t.cols <= kUnit) continue;
      units = one > units ? one : units;
      size = elements > size ? elements : size;
    }
  }
  const Lists lists = take_lists(ws, size, units);
  if (ws.counting()) return EXN_OK;
  ran(EXN_CPU_PATH(ws, "prune_mask"));
  if (a.scope == EXN_PRUNE_ROW) {
    prune_rows(a, lists);
  } else if (a.scope == EXN_PRUNE_GLOBAL) {
    prune_scope(all, a, lists);
  } else {
    for (int32_t i = 0; i < a.tensor_count; ++i)
      prune_scope({a.tensors + i, 1, a.tensors[i].wanted}, a, lists);
  }
  return EXN_OK;
}

exn_status prune_apply(const PruneApplyArgs& a, Workspace& ws) {
  if (ws.counting()) return EXN_OK;
  ran(EXN_CPU_PATH(ws, "prune_apply"));
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
