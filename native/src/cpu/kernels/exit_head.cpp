// SPDX-License-Identifier: Apache-2.0
// exit_head on the CPU: for each block of up to 64 rows, reads the weights once, V * D *
// sizeof(element) bytes or V rows of blocks; the logits of a few hundred vocabulary rows at a time
// stay in cache and are summarised there.
#include "draw.h"
#include "head_input.h"
#include "head_labels.h"
#include "screening.h"
#include "stats.h"

namespace exn::cpu::EXN_ISA {
namespace {

constexpr int64_t kMaxVocabTile = 512;
static_assert(kMaxVocabTile <= WeightRows<float>::kMost);

// A thread's scratch memory.
struct HeadScratch {
  alignas(64) float z[kRowBlock * kMaxVocabTile];
  ProductScratch products;
  MappedTile mapped;
};

// Vocabulary rows per tile: about 512 KiB of weights, so that a tile is worth handing to another
// thread and its statistics, during which the memory idles, weigh little. A function of the shape
// alone, like all that decides the order of sums.
int64_t vocab_tile(int64_t row_bytes) {
  const int64_t rows = (int64_t{512} << 10) / row_bytes / 64 * 64;
  return rows < 64 ? 64 : rows > kMaxVocabTile ? kMaxVocabTile : rows;
}

// Rows of the head that are looked at.
int64_t entries_of(const ExitHeadArgs& a) {
  return a.shortlist.data != nullptr ? a.shortlist.size : a.weight.rows;
}

// The place of an id outside the vocabulary in the shortlist, or -1.
int64_t bad_entry(const Vector& shortlist, int64_t vocab) {
  const int32_t* ids = static_cast<const int32_t*>(shortlist.data);
  for (int64_t i = 0; i < shortlist.size; ++i) {
    if (ids[i] < 0 || ids[i] >= vocab) return i;
  }
  return -1;
}

// From places in the shortlist to vocabulary ids; among equal logits of the
// tile the smallest id wins.
void place_to_id(TileStats* tile, const float* z, int64_t n, const int32_t* ids) {
  if (tile->index < 0) return;
  int32_t best = ids[tile->index];
  for (int64_t i = 0; i < n; ++i) {
    if (z[i] == tile->top1 && ids[i] < best) best = ids[i];
  }
  tile->index = best;
}

// `labels` and `draws` may be null.
template <class T>
void head(const ExitHeadArgs& a, const Inputs& inputs, const LogitMap& map, int64_t tile_rows,
          int64_t tiles, TileStats* stats, Label* labels, RowDraw* draws, HeadScratch* own) {
  const int64_t rows = a.hidden.rows, dim = a.hidden.cols;
  const int32_t* ids = static_cast<const int32_t*>(a.shortlist.data);
  const int64_t entries = entries_of(a);
  const int64_t blocks = (rows + kRowBlock - 1) / kRowBlock;
  const bool full = needs_full(a.out);
  const auto run = [&](int64_t begin, int64_t end, HeadScratch& scratch) {
    float* const z = scratch.z;
    for (int64_t item = begin; item < end; ++item) {
      const int64_t first_row = item / tiles * kRowBlock, tile = item % tiles;
      const int64_t count = rows - first_row < kRowBlock ? rows - first_row : kRowBlock;
      const int64_t first = tile * tile_rows;
      const int64_t n = entries - first < tile_rows ? entries - first : tile_rows;
      const auto id = [=](int64_t w) EXN_FLAT {
        return ids != nullptr ? ids[first + w] : first + w;
      };
      const Matrix from = a.weight;
      const WeightRows<T> weight(n, entries - first - n,
                                 [=](int64_t w) { return row_of<T>(from, id(w)); });
      row_products(weight, inputs_from(inputs, first_row), count, dim, z, tile_rows,
                   scratch.products);
      for (int64_t r = 0; r < count; ++r) {
        float* logits = z + r * tile_rows;
        if (a.bias != nullptr) {
          for (int64_t w = 0; w < n; ++w) logits[w] += a.bias[id(w)];
        }
        TileStats* out = stats + (first_row + r) * tiles + tile;
        *out = summarise(logits, n, first, map, full, scratch.mapped);
        if (labels != nullptr) {
          Label& label = labels[first_row + r];
          if (label.place >= first && label.place < first + n)
            label.logit = logits[label.place - first];
        }
        if (draws != nullptr && ids == nullptr) {
          draw_tile(logits, n, first, map, draws + first_row + r);
        } else if (draws != nullptr) {
          draw_listed(logits, n, ids + first, map, draws + first_row + r);
        }
        if (ids != nullptr) {
          out->index -= static_cast<int32_t>(first);
          place_to_id(out, logits, n, ids + first);
        }
      }
    }
  };
  parallel_for(blocks * tiles, share(blocks * tiles, rows), own, run);
}

// ---- with a screen ----

// Scratch memory and results of a block of up to kScreenRows rows.
struct Screening {
  const ScreenImage& screen;
  const ExitHeadArgs& a;
  const LogitMap& map;
  int64_t tiles;
  float* upper;      // [kScreenRows, V]
  float* logits;     // the same; null: probabilities are not wanted
  ScreenTile* tile;  // [kScreenRows, tiles]
  int32_t* ids;      // [V]
  float* exact;      // [V]
  double* sums;      // [tiles, 3]
};

// The largest logit that was read, and how many were.
struct Leader {
  float logit = -INFINITY;
  int32_t id = -1;
  int64_t read = 0;
};

EXN_SIMD void bound_rows(const Screening& s, const Inputs (&inputs)[kScreenSegments],
                         const ScreenRow* row, int64_t rows, HeadScratch* own) {
  const int64_t vocabulary = s.a.weight.rows;
  static_assert(kScreenSegments * kScreenRows * kScreenTile <= kRowBlock * kMaxVocabTile);
  static_assert(kScreenTile % 16 == 0);  // short rows that meet an input together stay so
  const auto run = [&](int64_t begin, int64_t end, HeadScratch& scratch) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t first = t * kScreenTile, left = vocabulary - first;
      const int64_t n = left < kScreenTile ? left : kScreenTile;
      for (int i = 0; i < kScreenSegments; ++i) {
        const Matrix segment = s.screen.segment(i);
        if (segment.cols == 0) continue;
        const WeightRows<uint8_t> weight(
            n, left - n, [=](int64_t w) { return row_of<uint8_t>(segment, first + w); });
        row_products(weight, inputs[i], rows, segment.cols,
                     scratch.z + i * kScreenRows * kScreenTile, kScreenTile, scratch.products);
      }
      for (int64_t r = 0; r < rows; ++r) {
        const float* z[kScreenSegments];
        for (int i = 0; i < kScreenSegments; ++i) {
          z[i] = s.screen.header.segments[i] == 0 ? nullptr
                                                  : scratch.z + (i * kScreenRows + r) * kScreenTile;
        }
        const int64_t at = r * vocabulary + first;
        s.tile[r * s.tiles + t] =
            bound_tile(s.screen, s.a.screen_level, s.a.bias, s.a.screen_factor == 0, row[r], first,
                       n, z, s.logits != nullptr ? s.logits + at : nullptr, s.upper + at);
      }
    }
  };
  parallel_for(s.tiles, share(s.tiles, 1), own, run);
}

// The rows of the vocabulary whose upper bound reaches `least`, into s.ids.
EXN_SIMD int64_t candidates(const Screening& s, const ScreenTile* tile, const float* upper,
                            float least) {
  int64_t count = 0;
  for (int64_t t = 0; t < s.tiles; ++t) {
    if (!(tile[t].high >= least)) continue;
    const int64_t first = t * kScreenTile, left = s.a.weight.rows - first;
    const int64_t end = first + (left < kScreenTile ? left : kScreenTile);
    for (int64_t v = first; v < end; ++v) {
      s.ids[count] = static_cast<int32_t>(v);
      count += upper[v] >= least ? 1 : 0;
    }
  }
  return count;
}

// Brings the `most` of s.ids[0, count) with the largest bounds to the front.
EXN_SIMD void best_first(int32_t* ids, int64_t count, const float* upper, int64_t most) {
  // The front is a heap whose first is the smallest.
  const auto sink = [&](int64_t at) EXN_FLAT {
    for (;;) {
      int64_t child = 2 * at + 1;
      if (child >= most) return;
      if (child + 1 < most && upper[ids[child + 1]] < upper[ids[child]]) ++child;
      if (upper[ids[at]] <= upper[ids[child]]) return;
      const int32_t id = ids[at];
      ids[at] = ids[child];
      ids[child] = id;
      at = child;
    }
  };
  for (int64_t i = most / 2; i-- > 0;) sink(i);
  for (int64_t i = most; i < count; ++i) {
    if (upper[ids[i]] <= upper[ids[0]]) continue;
    const int32_t id = ids[0];
    ids[0] = ids[i];
    ids[i] = id;
    sink(0);
  }
}

// Reads rows of the head; false if a logit is not finite.
template <class T>
bool read_rows(const Screening& s, const Inputs& input, int64_t count, float* upper, float* logits,
               Leader* leader, HeadScratch* own) {
  constexpr int64_t kChunk = 32;
  const Matrix from = s.a.weight;
  const int32_t* const ids = s.ids;
  Inputs in = input;
  in.far = false;  // rows that jump: what follows one is not needed
  parallel_for(count, kChunk, own, [&](int64_t begin, int64_t end, HeadScratch& scratch) {
    for (int64_t i = begin; i < end; i += kChunk) {
      const int64_t n = end - i < kChunk ? end - i : kChunk, left = end - i - n;
      const int32_t* const some = ids + i;
      const WeightRows<T> weight(n, left, [=](int64_t w) { return row_of<T>(from, some[w]); });
      row_products(weight, in, 1, from.cols, s.exact + i, n, scratch.products);
    }
  });
  for (int64_t i = 0; i < count; ++i) {
    float z = s.exact[i];
    if (s.a.bias != nullptr) z += s.a.bias[ids[i]];
    if (!(z < INFINITY)) return false;
    if (z > leader->logit || (z == leader->logit && ids[i] < leader->id)) {
      leader->logit = z;
      leader->id = ids[i];
    }
    upper[ids[i]] = z;
    if (logits != nullptr) logits[ids[i]] = z;
  }
  leader->read += count;
  return true;
}

// Finds the largest logit of a row of hidden; false: the full head is to be read.
template <class T>
bool find_leader(const Screening& s, int64_t r, const Inputs& input, Leader* leader,
                 HeadScratch* own) {
  const ScreenTile* const tile = s.tile + r * s.tiles;
  float* const upper = s.upper + r * s.a.weight.rows;
  float* const logits = s.logits != nullptr ? s.logits + r * s.a.weight.rows : nullptr;
  float least = -INFINITY;
  for (int64_t t = 0; t < s.tiles; ++t) {
    if (tile[t].broken) return false;
    least = tile[t].low > least ? tile[t].low : least;
  }
  if (least == -INFINITY) return false;
  int64_t left = candidates(s, tile, upper, least);
  // The best few first: the largest logit is most likely among them, and with it fewer remain.
  int64_t most = 32;
  while (left > 0) {
    const int64_t allowed = s.a.screen_budget - leader->read;
    if (allowed == 0 || (most > 64 && left > allowed)) return false;
    const int64_t some = left <= 2 * most ? left : most, n = some < allowed ? some : allowed;
    if (n < left) best_first(s.ids, left, upper, n);
    if (!read_rows<T>(s, input, n, upper, logits, leader, own)) return false;
    int64_t kept = 0;
    for (int64_t i = n; i < left; ++i) {
      s.ids[kept] = s.ids[i];
      kept += upper[s.ids[i]] >= leader->logit ? 1 : 0;
    }
    left = kept;
    most *= 2;
  }
  return leader->id >= 0;
}

// Of a row's e^(z - its largest logit): the sum of what is known or estimated, and two that bound
// it.
struct Mass {
  double sum = 0, low = 0, high = 0;
};

EXN_SIMD Mass mass_of(const Screening& s, int64_t r, float top) {
  const int64_t vocabulary = s.a.weight.rows;
  const float* const upper = s.upper + r * vocabulary;
  const float* const logits = s.logits + r * vocabulary;
  const LogitMap map = s.map;
  const f32v level = set1(scalar_map(map, top));
  // tanh of neighbours may be in the wrong order.
  const f32v wrong = set1(map.softcap * map.scale * 0x1p-20f);
  parallel_for(s.tiles, 4, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t first = t * kScreenTile, left = vocabulary - first;
      const int64_t n = left < kScreenTile ? left : kScreenTile;
      f32v sums[3] = {zero(), zero(), zero()};
      for_vectors(n, [&](int64_t i, int lanes) EXN_FLAT {
        const f32v z = load_part(logits + first + i, lanes, -INFINITY);
        const f32v high = load_part(upper + first + i, lanes, -INFINITY);
        // A mask has no bound.
        const f32v low = select(equal(z, set1(-INFINITY)), z, sub(z, sub(high, z)));
        f32v x[3] = {z, low, high}, e[3];
        if (!map.identity) {
          for (f32v& v : x) v = apply_map(map, v);
          x[1] = sub(x[1], wrong);
          x[2] = add(x[2], wrong);
        }
        for (f32v& v : x) v = min(sub(v, level), zero());
        exp_clamped(x, e);
        for (int k = 0; k < 3; ++k) sums[k] = add(sums[k], e[k]);
      });
      for (int k = 0; k < 3; ++k) s.sums[t * 3 + k] = static_cast<double>(reduce_add(sums[k]));
    }
  });
  Mass mass;
  for (int64_t t = 0; t < s.tiles; ++t) {
    mass.sum += s.sums[t * 3];
    mass.low += s.sums[t * 3 + 1];
    mass.high += s.sums[t * 3 + 2];
  }
  return mass;
}

// Where p1 lies.
struct Interval {
  double low, high, sum;
};

EXN_SIMD Interval interval_of(const Screening& s, int64_t r, float top) {
  // What f32 loses of terms and sums is far below this share, and the full head's 1e-6 too.
  constexpr double kSlack = 1e-5;
  const Mass mass = mass_of(s, r, top);
  const auto at_least_one = [](double sum) EXN_FLAT { return sum > 1 ? sum : 1; };
  const double high = (1 + kSlack) / at_least_one(mass.low);
  return {(1 - kSlack) / at_least_one(mass.high), high < 1 ? high : 1, at_least_one(mass.sum)};
}

// Up to `most` rows of the vocabulary with the largest bounds that reach `least`, as far as a
// 1024th of their range tells, into s.ids. Rows that were read have no width, and are left out. A
// call of its own: what the full head takes of the stack is not on top of its bins.
__attribute__((noinline)) int64_t widest(const Screening& s, int64_t r, float least, int64_t most) {
  constexpr int kBins = 1024;
  // In the last bits of a float, which are the number of a bin then.
  constexpr float kShift = 8388608.0f, kLastBin = kBins - 1;
  const int64_t vocabulary = s.a.weight.rows;
  const ScreenTile* const tile = s.tile + r * s.tiles;
  const float* const upper = s.upper + r * vocabulary;
  const float* const logits = s.logits + r * vocabulary;
  float top = least;
  for (int64_t t = 0; t < s.tiles; ++t) top = tile[t].high > top ? tile[t].high : top;
  const float range = top - least;
  const f32v scale = set1(range > 0 ? kLastBin / range : 0.0f);
  // Calls f(row, lanes) for vectors of bins; what is left out is in one of its own, below the
  // others.
  const auto for_bins = [&](auto&& f) EXN_FLAT {
    for (int64_t t = 0; t < s.tiles; ++t) {
      if (!(tile[t].high >= least)) continue;
      const int64_t first = t * kScreenTile, left = vocabulary - first;
      for_vectors(left < kScreenTile ? left : kScreenTile, [&](int64_t i, int lanes) EXN_FLAT {
        const f32v high = load_part(upper + first + i, lanes, -INFINITY);
        const f32v z = load_part(logits + first + i, lanes, -INFINITY);
        const f32v at = mul(sub(high, set1(least)), scale);
        const f32v bin = add(min(max(at, zero()), set1(kLastBin)), set1(kShift + 1));
        const f32v shown = select(less(high, set1(least)), set1(kShift), bin);
        f(first + i, select(less(z, high), shown, set1(kShift)));
      });
    }
  };
  int32_t bins[kBins + 1] = {};
  for_bins([&](int64_t, f32v bin) EXN_FLAT {
    float lanes[kLanes];
    store(lanes, bin);
    for (const float lane : lanes) ++bins[float_to_bits(lane) - float_to_bits(kShift)];
  });
  int cut = kBins;
  int64_t above = 0;  // rows of the bins above it
  for (; cut > 1 && above + bins[cut] <= most; --cut) above += bins[cut];
  int64_t quota = most - above, count = 0;  // for those of its own
  for_bins([&](int64_t row, f32v bin) EXN_FLAT {
    const float own = kShift + static_cast<float>(cut);
    const uint32_t more = bits_of(less(set1(own), bin));
    for (uint32_t some = bits_of(less(set1(own - 1), bin)); some != 0; some &= some - 1) {
      const int lane = __builtin_ctz(some);
      if ((more >> lane & 1) == 0 && quota-- <= 0) continue;
      s.ids[count++] = static_cast<int32_t>(row + lane);
    }
  });
  return count;
}

// Reads what else the budget allows of the rows with the largest bounds, since those make an
// interval of p1 wide.
template <class T>
bool read_more(const Screening& s, int64_t r, const Inputs& input, Leader* leader,
               HeadScratch* own) {
  // What lies so far below weighs little, however wide it is.
  constexpr float kFar = 16;
  const int64_t vocabulary = s.a.weight.rows, allowed = s.a.screen_budget - leader->read;
  if (allowed <= 0) return true;
  const float far = leader->logit - kFar / s.map.scale, lowest = -static_cast<float>(kScreenMost);
  const int64_t count = widest(s, r, far > lowest ? far : lowest, allowed);
  return read_rows<T>(s, input, count, s.upper + r * vocabulary, s.logits + r * vocabulary, leader,
                      own);
}

template <class T>
bool write_leader(const Screening& s, int64_t r, int64_t row, const Inputs& input, Leader leader,
                  HeadScratch* own) {
  // Narrower intervals are not worth more rows.
  constexpr double kNarrow = 1.0 / 64;
  Interval p1 = {};
  if (s.logits != nullptr) {
    p1 = interval_of(s, r, leader.logit);
    if (s.a.p1_low != nullptr && p1.high - p1.low > kNarrow) {
      if (!read_more<T>(s, r, input, &leader, own)) return false;
      p1 = interval_of(s, r, leader.logit);
    }
  }
  const ExitHeadArgs& a = s.a;
  put(a.out.valid, row, 1);
  put(a.out.argmax, row, leader.id);
  const double level = static_cast<double>(scalar_map(s.map, leader.logit));
  put(a.out.max_logit, row, level);
  put(a.certified, row, a.screen_factor == 0 ? EXN_CERTIFIED_PROVEN : EXN_CERTIFIED_CALIBRATED);
  put(a.rows_read, row, static_cast<double>(leader.read));
  if (s.logits == nullptr) return true;
  put(a.out.lse, row, level + ::log(p1.sum));
  put(a.out.p1, row, 1 / p1.sum);
  put(a.p1_low, row, p1.low);
  put(a.p1_high, row, p1.high);
  return true;
}

void write_full(const ExitHeadArgs& a, const TileStats* stats, int64_t tiles, const LogitMap& map,
                int64_t row) {
  write_row(stats, tiles, a.weight.rows, map, a.out, row);
  put(a.certified, row, EXN_CERTIFIED_NOT);
  put(a.rows_read, row, static_cast<double>(a.weight.rows));
  StatsOut probability;
  float p1;
  probability.p1 = &p1;
  write_row(stats, tiles, a.weight.rows, map, probability, 0);
  put(a.p1_low, row, static_cast<double>(p1));
  put(a.p1_high, row, static_cast<double>(p1));
}

// What a screen takes of the workspace.
struct ScreenScratch {
  float* d = nullptr;  // x - m
  float* y = nullptr;
  ScreenRow* row = nullptr;
  char* rounded[kScreenSegments] = {};
  float* upper = nullptr;
  float* logits = nullptr;
  ScreenTile* tile = nullptr;
  int32_t* ids = nullptr;
  float* exact = nullptr;
  double* sums = nullptr;
};

bool wants_mass(const ExitHeadArgs& a) {
  return a.out.p1 != nullptr || a.out.lse != nullptr || a.p1_low != nullptr;
}

ScreenScratch take_screen_scratch(const ExitHeadArgs& a, Workspace& ws) {
  ScreenScratch space;
  if (a.screen == nullptr) return space;
  const ScreenImage screen(a.screen);
  const int64_t rows = a.hidden.rows, vocabulary = a.weight.rows,
                stride = padded(a.hidden.cols, ws.tiles());
  const int64_t tiles = (vocabulary + kScreenTile - 1) / kScreenTile;
  space.d = ws.take<float>(rows * stride);
  space.y = ws.take<float>(rows * stride);
  space.row = ws.take<ScreenRow>(rows);
  for (int i = 0; i < kScreenSegments; ++i) {
    space.rounded[i] = ws.take<char>(
        screen.header.segments[i] == 0 ? 0 : product(rows, rounded_bytes(screen.segment(i))));
  }
  space.upper = ws.take<float>(kScreenRows * vocabulary);
  if (wants_mass(a)) space.logits = ws.take<float>(kScreenRows * vocabulary);
  space.tile = ws.take<ScreenTile>(kScreenRows * tiles);
  space.ids = ws.take<int32_t>(vocabulary);
  space.exact = ws.take<float>(vocabulary);
  space.sums = ws.take<double>(3 * tiles);
  return space;
}

// Before the rows of x are brought into another order: what they are in the screen's directions,
// and what that makes of its norms.
void rotate(const ExitHeadArgs& a, const float* x, int64_t stride, const ScreenScratch& space,
            HeadScratch* own) {
  const ScreenImage screen(a.screen);
  const int64_t rows = a.hidden.rows, dim = a.hidden.cols;
  const float* const mean = screen.mean(a.screen_level);
  for (int64_t row = 0; row < rows; ++row) {
    float* const d = space.d + row * stride;
    for_vectors(dim, [&](int64_t i, int n) EXN_FLAT {
      store_part(d + i, sub(load_part(x + row * stride + i, n, 0.0f), load_part(mean + i, n, 0.0f)),
                 n);
    });
    for (int64_t i = dim; i < stride; ++i) d[i] = space.y[row * stride + i] = 0;
  }
  Inputs in;
  in.f32 = space.d;
  in.stride = stride;
  matrix_products<float>(screen.rotation(), in, rows, 64, space.y, stride, &own->products);
  parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      screen_row(screen, a.screen_level, a.screen_factor, a.weight.blocks != Blocks::kNone,
                 x + row * stride, space.d + row * stride, space.y + row * stride, space.row + row);
    }
  });
}

template <class T>
void screened_head(const ExitHeadArgs& a, const Inputs& inputs, const LogitMap& map,
                   int64_t tile_rows, int64_t tiles, const ScreenScratch& space, TileStats* stats,
                   HeadScratch* own) {
  const ScreenImage screen(a.screen);
  const int64_t rows = a.hidden.rows, vocabulary = a.weight.rows;
  const Screening s = {screen,      a,
                       map,         (vocabulary + kScreenTile - 1) / kScreenTile,
                       space.upper, space.logits,
                       space.tile,  space.ids,
                       space.exact, space.sums};
  Inputs segments[kScreenSegments];
  const bool far = screen.at.bytes - screen.at.segments[0] >= tuning().far_bytes();
  for (int i = 0, columns = 0; i < kScreenSegments; ++i) {
    const Matrix segment = screen.segment(i);
    if (segment.cols == 0) continue;
    segments[i].f32 = space.y + columns;
    segments[i].stride = inputs.stride;
    segments[i].far = far;
    segments[i].adjacent_rows = segment.stride == row_bytes(segment);
    into_blocks(segment, rows, space.rounded[i], &segments[i]);
    columns += static_cast<int>(segment.cols);
  }
  for (int64_t first = 0; first < rows; first += kScreenRows) {
    const int64_t count = rows - first < kScreenRows ? rows - first : kScreenRows;
    Inputs block[kScreenSegments];
    for (int i = 0; i < kScreenSegments; ++i) block[i] = inputs_from(segments[i], first);
    bound_rows(s, block, space.row + first, count, own);
    int64_t from = count, to = 0;  // of rows that need the full head
    bool full[kScreenRows];
    for (int64_t r = 0; r < count; ++r) {
      Leader leader;
      const Inputs input = inputs_from(inputs, first + r);
      full[r] = space.row[first + r].full || !find_leader<T>(s, r, input, &leader, own) ||
                !write_leader<T>(s, r, first + r, input, leader, own);
      if (!full[r]) continue;
      from = r < from ? r : from;
      to = r + 1;
    }
    if (to == 0) continue;
    ExitHeadArgs some = a;
    some.hidden.rows = to - from;
    head<T>(some, inputs_from(inputs, first + from), map, tile_rows, tiles, stats, nullptr, nullptr,
            own);
    for (int64_t r = from; r < to; ++r) {
      if (full[r]) write_full(a, stats + (r - from) * tiles, tiles, map, first + r);
    }
  }
}

// ---- the rows of hidden -------------------------------------------------------------------------

exn_status check_shortlist(const ExitHeadArgs& a) {
  if (a.shortlist.data == nullptr) return EXN_OK;
  const int64_t bad = bad_entry(a.shortlist, a.weight.rows);
  if (bad < 0) return EXN_OK;
  return fail(EXN_INVALID_ARGUMENT, "exn_exit_head: shortlist[%lld] is %d, expected 0..%lld",
              static_cast<long long>(bad), static_cast<const int32_t*>(a.shortlist.data)[bad],
              static_cast<long long>(a.weight.rows - 1));
}

// What a call takes of the workspace.
struct HeadSpace {
  int64_t at_once;  // rows of hidden that go through it together
  float* x;
  float* raw;
  bf16* narrowed;
  char* rounded;
  TileStats* stats;
  Label* labels;
  RowDraw* draws;
  HeadScratch* own;
  ScreenScratch screen;
};

// All rows with a screen. Without one whole blocks of rows, so that the workspace does not grow with
// the batch beyond some 32 MB, unless one block takes more.
int64_t rows_at_once(const ExitHeadArgs& a, int64_t tiles, int64_t row_bytes) {
  constexpr int64_t kMost = int64_t{32} << 20;
  const int64_t of_tiles = product(tiles, int64_t{sizeof(TileStats)});
  if (a.screen != nullptr) return a.hidden.rows;
  const int64_t fit = of_tiles < kMost && row_bytes < kMost ? kMost / (of_tiles + row_bytes) : 0;
  const int64_t rows = fit < kRowBlock ? kRowBlock : fit / kRowBlock * kRowBlock;
  return rows < a.hidden.rows ? rows : a.hidden.rows;
}

HeadSpace take_space(const ExitHeadArgs& a, int64_t tiles, bool pairs, Workspace& ws) {
  const int64_t stride = padded(a.hidden.cols, ws.tiles());
  const int64_t of_raw = a.translator.data != nullptr ? stride : 0, of_pairs = pairs ? stride : 0;
  const int64_t of_blocks = rounded_bytes(a.weight, a.translator);
  HeadSpace space;
  const int64_t rows = space.at_once =
      rows_at_once(a, tiles, product(stride, int64_t{10}) + of_blocks);
  space.x = ws.take<float>(rows * stride);
  space.raw = ws.take<float>(rows * of_raw);
  space.narrowed = ws.take<bf16>(rows * of_pairs);
  space.rounded = ws.take<char>(product(rows, of_blocks));
  const bool few = a.screen != nullptr && rows > kScreenRows;
  space.stats = ws.take<TileStats>((few ? kScreenRows : rows) * tiles);
  space.labels = ws.take<Label>(a.out.labels != nullptr ? rows : 0);
  space.draws = ws.take<RowDraw>(a.out.draw != nullptr ? rows : 0);
  space.own = ws.take<HeadScratch>(1);
  space.screen = take_screen_scratch(a, ws);
  return space;
}

// The rows of `a`, which are `first` and those that follow in the outputs.
void run_rows(const ExitHeadArgs& a, int64_t first, int64_t tiles, bool pairs,
              const HeadSpace& space, int64_t stride) {
  const int64_t rows = a.hidden.rows, dim = a.hidden.cols;
  const int64_t tile_rows = vocab_tile(row_bytes(a.weight));
  const bool screened = a.screen != nullptr;
  float* const x = space.x;
  load_rows(a, x, space.raw, stride, space.rounded, &space.own->products);
  normalise_rows(a, x, pairs ? space.narrowed : nullptr, stride);
  Inputs inputs;
  inputs.f32 = x;
  inputs.bf = pairs ? space.narrowed : nullptr;
  inputs.stride = stride;
  inputs.far = is_far(a.weight);
  if (screened) {
    for (int64_t row = 0; row < rows && pairs; ++row)
      convert(space.narrowed + row * stride, dim, x + row * stride);
    rotate(a, x, stride, space.screen, space.own);
  }
  const LogitMap map = logit_map(a.normalizer, a.temperature, a.softcap);
  Label* const labels = a.out.labels != nullptr ? space.labels : nullptr;
  if (labels != nullptr) find_labels(a.out.labels + first, a.shortlist, rows, labels);
  RowDraw* const draws = a.out.draw != nullptr ? space.draws : nullptr;
  for (int64_t row = 0; row < rows && draws != nullptr; ++row)
    draws[row] = row_draw(a.out, first + row);
  into_blocks(a.weight, rows, space.rounded, &inputs);
  with_weight_type(a.weight, [&](auto type) {
    using T = EXN_TYPE_OF(type);
    for (int64_t row = 0; row < rows && !pairs; ++row) order_pairs<T>(x + row * stride, stride);
    if (screened) {
      screened_head<T>(a, inputs, map, tile_rows, tiles, space.screen, space.stats, space.own);
    } else {
      head<T>(a, inputs, map, tile_rows, tiles, space.stats, labels, draws, space.own);
    }
  });
  for (int64_t row = 0; row < rows && !screened; ++row) {
    const int32_t argmax = write_row(space.stats + row * tiles, tiles, entries_of(a), map, a.out,
                                     first + row, labels != nullptr ? labels[row].logit : NAN);
    if (draws != nullptr) a.out.draw[first + row] = draw_of(draws[row], argmax);
  }
}

}  // namespace

exn_status exit_head(const ExitHeadArgs& a, Workspace& ws) {
  const bool pairs = in_pairs(ws, a.hidden.dtype, a.weight.dtype);
  const int64_t tile_rows = vocab_tile(row_bytes(a.weight));
  const int64_t tiles = (entries_of(a) + tile_rows - 1) / tile_rows;
  const HeadSpace space = take_space(a, tiles, pairs, ws);
  if (ws.counting()) return EXN_OK;
  exn_status status = check_shortlist(a);
  if (status == EXN_OK) {
    status = check_labels("exn_exit_head", a.out, a.hidden.rows, a.weight.rows);
  }
  if (status == EXN_OK) status = check_draws("exn_exit_head", a.out, a.hidden.rows);
  if (status != EXN_OK) return status;

  ran(EXN_CPU_PATH(ws, "exit_head"));
  ExitHeadArgs some = a;
  for (int64_t first = 0; first < a.hidden.rows; first += space.at_once) {
    const int64_t left = a.hidden.rows - first;
    some.hidden = rows_of(a.hidden, first, left < space.at_once ? left : space.at_once);
    run_rows(some, first, tiles, pairs, space, padded(a.hidden.cols, ws.tiles()));
  }
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
