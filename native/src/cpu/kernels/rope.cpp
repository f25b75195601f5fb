// SPDX-License-Identifier: Apache-2.0
// rope and its table on the CPU.
#include <cmath>
#include <cstring>

#include "../ids.h"
#include "base/args/rope.h"
#include "rotation.h"

namespace exn::cpu::EXN_ISA {

namespace {

// The table takes few cosines and sines from libm, which needs longer for one than memory for a
// line. A position is the sum kRadix^2 x + kRadix y + z with y, z < kRadix, its angle the sum of
// three, and its rotation the product of theirs: so there are 2 kRadix positions to ask for, and
// one of every kRadix^2.
//
// In units of 2^-53: libm's cosine and sine are off by less than one each, by less than sqrt 2
// together; a product of two rotations adds up what its factors are off by, and at most sqrt 5 for
// its own rounding. That is 3 sqrt 2 + 2 sqrt 5 < 9 with two products. The three angles are rounded
// as that of the sum would be: by a few units of the angle. An entry's own rounding is 2^28 units.
constexpr int64_t kRadix = 16;
constexpr int64_t kSpan = kRadix * kRadix;  // positions that a thread takes at a time
constexpr int64_t kTablePairs = 64;         // pairs of a position likewise

// A rotation of every pair, as a product takes its left factor: (cos, cos) and (-sin, sin).
struct Turn {
  double* cosine;
  double* sine;
};

struct Angles {
  const double* frequency;
  double divisor;

  double of(int64_t position, int64_t pair) const {
    return static_cast<double>(position) / divisor * frequency[pair];
  }
};

// The rotation at `position` of `count` pairs from `first` on.
void turn_at(const Angles& angles, int64_t position, int64_t first, int64_t count,
             const Turn& out) {
  for (int64_t i = 0; i < count; ++i) {
    const double angle = angles.of(position, first + i);
    const double c = position == 0 ? 1 : ::cos(angle), s = position == 0 ? 0 : ::sin(angle);
    out.cosine[2 * i] = out.cosine[2 * i + 1] = c;
    out.sine[2 * i] = -s;
    out.sine[2 * i + 1] = s;
  }
}

// What the blocks of a table share.
struct TableScratch {
  int64_t width;   // elements of a position, whole vectors
  double* fine;    // [kRadix, 2, width] for z: (cos, sin) and (sin, cos)
  double* middle;  // [kRadix, 2, width] for y: as a Turn
  Angles angles;

  Turn middle_turn(int64_t y) const {
    return {middle + 2 * y * width, middle + (2 * y + 1) * width};
  }
};

void fill_bases(const RopeTableArgs& a, const TableScratch& p) {
  for (int64_t z = 0; z < kRadix && z < a.positions; ++z) {
    double* entry = p.fine + 2 * z * p.width;
    for (int64_t i = 0; i < a.pairs; ++i) {
      const double angle = p.angles.of(z, i);
      entry[2 * i] = entry[p.width + 2 * i + 1] = ::cos(angle);
      entry[2 * i + 1] = entry[p.width + 2 * i] = ::sin(angle);
    }
  }
  for (int64_t y = 0; y < kRadix && y * kRadix < a.positions; ++y)
    turn_at(p.angles, y * kRadix, 0, a.pairs, p.middle_turn(y));
}

// Positions [begin, begin + kSpan) of up to kTablePairs pairs: every product but the last is one
// for kRadix positions.
void fill_blocks(const RopeTableArgs& a, const TableScratch& p, int64_t begin, int64_t first_pair) {
  alignas(64) double cosine[2 * kTablePairs], sine[2 * kTablePairs];
  const int64_t pairs = a.pairs - first_pair < kTablePairs ? a.pairs - first_pair : kTablePairs;
  turn_at(p.angles, begin, first_pair, pairs, {cosine, sine});
  constexpr int kHalf = kLanes / 2;
  for (int64_t y = 0; y < kRadix && begin + y * kRadix < a.positions; ++y) {
    const int64_t block = begin + y * kRadix, left = a.positions - block;
    const int64_t count = left < kRadix ? left : kRadix;
    const Turn middle = p.middle_turn(y);
    for_vectors(2 * pairs, [&](int64_t i, int n) EXN_FLAT {
      const int64_t column = 2 * first_pair + i;
      f64v c[2], s[2];
      for (int half = 0; half < 2; ++half) {
        const int64_t at = half * kHalf;
        const f64v outer_c = load(cosine + i + at), outer_s = load(sine + i + at);
        const f64v inner_c = load(middle.cosine + column + at);
        const f64v inner_s = load(middle.sine + column + at);
        const f64v both_sines = mul(outer_s, inner_s);
        c[half] = fma(outer_c, inner_c, mul(both_sines, set1(-1.0)));
        s[half] = fma(outer_c, inner_s, mul(outer_s, inner_c));
      }
      const double* fine = p.fine + column;
      float* to = a.table + block * a.pairs * 2 + column;
      for (int64_t z = 0; z < count; ++z, fine += 2 * p.width, to += 2 * a.pairs) {
        f64v turned[2];
        for (int half = 0; half < 2; ++half) {
          const double* f = fine + half * kHalf;
          turned[half] = fma(c[half], load(f), mul(s[half], load(f + p.width)));
        }
        store_part(to, narrow(turned[0], turned[1]), n);
      }
    });
  }
}

}  // namespace

// Writes the table once, 8 bytes a pair.
exn_status rope_table(const RopeTableArgs& args, Workspace& ws) {
  const RopeTableArgs a = args;  // a copy that no store can alias
  TableScratch scratch;
  if (a.positions == 0) {
    if (!ws.counting()) ran(EXN_CPU_PATH(ws, "rope_table"));
    return EXN_OK;
  }
  scratch.width = (2 * a.pairs + kLanes - 1) / kLanes * kLanes;
  double* frequency = ws.take<double>(a.pairs);
  scratch.fine = ws.take<double>(2 * kRadix * scratch.width);
  scratch.middle = ws.take<double>(2 * kRadix * scratch.width);
  if (ws.counting()) return EXN_OK;
  ran(EXN_CPU_PATH(ws, "rope_table"));
  const double n = 2 * static_cast<double>(a.pairs);
  for (int64_t i = 0; i < a.pairs; ++i) {
    frequency[i] = ::pow(a.base, -2 * static_cast<double>(i) / n);
  }
  scratch.angles = {frequency, a.divisor};
  fill_bases(a, scratch);
  const int64_t units = (a.positions + kSpan - 1) / kSpan;
  parallel_for(units, 64 / a.pairs + 1, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      for (int64_t pair = 0; pair < a.pairs; pair += kTablePairs)
        fill_blocks(a, scratch, unit * kSpan, pair);
    }
  });
  return EXN_OK;
}

namespace {

template <class T>
void rope_row(const RopeArgs& a, int64_t row) {
  const int64_t pairs = a.table.pairs, dim = a.input.dim;
  const T* x = static_cast<const T*>(a.input.data) + row * a.input.stride;
  T* to = static_cast<T*>(a.out.data) + row * a.out.stride;
  const bool half = a.style == EXN_ROPE_HALF;
  Rotation rotation;
  for (int64_t first = 0; first < pairs; first += kRotationPairs) {
    const int64_t count = pairs - first < kRotationPairs ? pairs - first : kRotationPairs;
    load_rotation(a.table, a.position[row], first, count, a.style, &rotation);
    for (int64_t h = 0; h < a.input.heads; ++h) {
      const int64_t at = h * dim + (half ? first : 2 * first);
      rotate(rotation, x + at, pairs, to + at);
    }
  }
  if (x == to || dim == 2 * pairs) return;
  const size_t rest = static_cast<size_t>(dim - 2 * pairs) * sizeof(T);
  for (int64_t h = 0; h < a.input.heads; ++h) {
    std::memcpy(to + h * dim + 2 * pairs, x + h * dim + 2 * pairs, rest);
  }
}

}  // namespace

exn_status rope(const RopeArgs& a, Workspace& ws) {
  if (ws.counting()) return EXN_OK;
  const int64_t rows = a.input.rows, width = a.input.heads * a.input.dim;
  const exn_status status =
      check_ids("exn_rope", "position", a.position, rows, -1, a.table.positions - 1);
  if (status != EXN_OK) return status;
  ran(EXN_CPU_PATH(ws, "rope"));
  with_float_type(a.input.dtype, [&](auto type) {
    parallel_for(rows, 32768 / (width + 1) + 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        if (a.position[row] >= 0) rope_row<EXN_TYPE_OF(type)>(a, row);
      }
    });
  });
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
