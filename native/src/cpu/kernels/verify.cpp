// SPDX-License-Identifier: Apache-2.0
// verify on the CPU. Greedy, a sequence is some comparisons. Sampled, rows of all sequences are
// taken side by side, first those after no drafted token, then those after one: a sequence that has
// rejected one is done, and no more of its rows are read. A row goes to threads in tiles, as in
// row_stats; what is drawn from is added up in the order of tiles, blocks and ids, for the tile and
// the block are found by their sums first.
#include <exeunt/row_stats.h>

#include "../ids.h"
#include "base/args/verify.h"
#include "stats.h"

namespace exn::cpu::EXN_ISA {
namespace {

long long wide(int64_t x) { return static_cast<long long>(x); }

EXN_SIMD bool is_on(const VerifyArgs& a, int64_t s) {
  return a.active == nullptr || a.active[s] != 0;
}

EXN_SIMD const int32_t* draft_of(const VerifyArgs& a, int64_t s) { return a.drafted + s * a.most; }

// n of an active sequence, whose draft_length is sound.
EXN_SIMD int64_t drafted_by(const VerifyArgs& a, int64_t s) {
  const int64_t most = a.draft_length != nullptr ? a.draft_length[s] : a.most;
  const int32_t* ids = draft_of(a, s);
  int64_t n = 0;
  while (n < most && ids[n] >= 0) ++n;
  return n;
}

// ---- what is refused ----------------------------------------------------------------------------

exn_status check_counter(const char* name, const int32_t* counter, int64_t s, int64_t n,
                         int64_t most, const char* most_name) {
  if (counter == nullptr || (counter[s] >= 0 && counter[s] + n + 1 <= most)) return EXN_OK;
  if (counter[s] < 0) {
    return fail(EXN_INVALID_ARGUMENT, "exn_verify: %s[%lld] is %d, expected at least 0", name,
                wide(s), counter[s]);
  }
  return fail(EXN_INVALID_ARGUMENT,
              "exn_verify: %s[%lld] is %d, which with a draft of %lld and the newest token is more "
              "than %s, %lld",
              name, wide(s), counter[s], wide(n), most_name, wide(most));
}

exn_status check_sequence(const VerifyArgs& a, int64_t s) {
  if (a.draft_length != nullptr && (a.draft_length[s] < 0 || a.draft_length[s] > a.most)) {
    return fail(EXN_INVALID_ARGUMENT, "exn_verify: draft_length[%lld] is %d, expected 0..%lld",
                wide(s), a.draft_length[s], wide(a.most));
  }
  const int64_t n = drafted_by(a, s);
  for (int64_t i = 0; a.vocabulary > 0 && i < n; ++i) {
    if (draft_of(a, s)[i] < a.vocabulary) continue;
    return fail(EXN_INVALID_ARGUMENT,
                "exn_verify: drafted[%lld,%lld] is %d, but the vocabulary has %lld tokens", wide(s),
                wide(i), draft_of(a, s)[i], wide(a.vocabulary));
  }
  const bool bounded = a.capacity > 0;
  const exn_status status =
      check_counter("length", a.length, s, n, bounded ? a.capacity : INT32_MAX,
                    bounded ? "capacity" : "a length may be");
  if (status != EXN_OK) return status;
  return check_counter("position", a.position, s, n, INT32_MAX, "a position may be");
}

exn_status check_round(const VerifyArgs& a) {
  const int64_t last = a.vocabulary > 0 ? a.vocabulary - 1 : INT32_MAX;
  const exn_status status = check_ids("exn_verify", "stop", a.stop, a.stops, 0, last);
  if (status != EXN_OK) return status;
  for (int64_t s = 0; s < a.sequences; ++s) {
    if (!is_on(a, s)) continue;
    const exn_status sound = check_sequence(a, s);
    if (sound != EXN_OK) return sound;
  }
  return EXN_OK;
}

// ---- what comes out -----------------------------------------------------------------------------

// What a sequence draws from, if anything.
enum class Draw : int32_t { kNothing, kTarget, kResidual };

// A row's softmax: p_j = scale exp(z_j - level).
struct Softmax {
  float level = 0;
  float scale = 0;
};

// A round of one sequence.
struct Round {
  int64_t drafted = -1;  // n; -1: it is left out
  int64_t kept = 0;
  int32_t after = -1;  // the token after those kept; -1: a row was invalid
  Draw draw = Draw::kNothing;
  Softmax target;  // of row `kept`, as is the next
  Softmax draft;
};

EXN_SIMD bool stops_at(const VerifyArgs& a, int32_t token) {
  for (int64_t i = 0; i < a.stops; ++i) {
    if (a.stop[i] == token) return true;
  }
  return false;
}

template <class T>
EXN_SIMD void put(T* out, int64_t s, int64_t value) {
  if (out != nullptr) out[s] = static_cast<T>(value);
}

void finish(const VerifyArgs& args, int64_t s, const Round& round) {
  const VerifyArgs a = args;  // a copy that no store can alias
  const auto token = [&](int64_t i) EXN_FLAT {
    return i < round.kept ? draft_of(a, s)[i] : round.after;
  };
  int64_t count = 0;
  const int64_t most = round.kept + (round.after >= 0 ? 1 : 0);
  bool stopped = false;
  int32_t* out = a.out != nullptr ? a.out + s * (a.most + 1) : nullptr;
  while (count < most && !stopped) {
    if (out != nullptr) out[count] = token(count);
    stopped = stops_at(a, token(count++));
  }
  for (int64_t i = count; out != nullptr && i <= a.most; ++i) out[i] = -1;
  if (count > 0) {
    a.token[s] = token(count - 1);
    if (a.length != nullptr) a.length[s] += static_cast<int32_t>(count);
    if (a.position != nullptr) a.position[s] += static_cast<int32_t>(count);
  }
  const bool full = a.capacity > 0 && a.length[s] == a.capacity;
  const int32_t outcome = round.drafted < 0                  ? EXN_VERIFY_OFF
                          : stopped                          ? EXN_VERIFY_STOPPED
                          : count == most && round.after < 0 ? EXN_VERIFY_INVALID
                          : full                             ? EXN_VERIFY_FULL
                                                             : EXN_VERIFY_GOES_ON;
  a.accepted[s] = static_cast<int32_t>(count < round.kept ? count : round.kept);
  put(a.out_count, s, count);
  put(a.last_row, s, count > 0 ? s * (a.most + 1) + count - 1 : -1);
  put(a.outcome, s, outcome);
  put(a.active, s, outcome == EXN_VERIFY_GOES_ON ? 1 : 0);
}

// ---- greedy -------------------------------------------------------------------------------------

void verify_greedy(const VerifyArgs& a) {
  parallel_for(a.sequences, 256, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      Round round;
      if (is_on(a, s)) {
        const int32_t* best = a.argmax + s * (a.most + 1);
        round.drafted = drafted_by(a, s);
        while (round.kept < round.drafted && draft_of(a, s)[round.kept] == best[round.kept])
          ++round.kept;
        round.after = best[round.kept] < 0 ? -1 : best[round.kept];
      }
      finish(a, s, round);
    }
  });
}

// ---- sampled ------------------------------------------------------------------------------------

// Ids of a tile whose sum is taken at once.
constexpr int64_t kBlock = 256;
static_assert(kStatsTile % kBlock == 0 && kBlock % kLanes == 0);

struct Sampling {
  VerifyArgs a;
  int64_t tiles = 0;
  LogitMap target_map, draft_map;
  Round* rounds = nullptr;
  int32_t* list = nullptr;  // of the sequences that are taken side by side
  int64_t listed = 0;
  // [S,tiles]
  TileStats* target = nullptr;
  TileStats* draft = nullptr;  // null unless the draft has logits
  double* weights = nullptr;
  MappedTile* own = nullptr;

  EXN_SIMD int64_t offset(int64_t tile) const { return tile * kStatsTile; }
  EXN_SIMD int64_t length(int64_t tile) const {
    const int64_t rest = a.logits.cols - offset(tile);
    return rest < kStatsTile ? rest : kStatsTile;
  }
  EXN_SIMD int64_t target_row(int64_t s, int64_t i) const { return s * (a.most + 1) + i; }
  EXN_SIMD int64_t draft_row(int64_t s, int64_t i) const { return s * a.most + i; }
  EXN_SIMD int64_t chunk() const { return tiles_per_piece(listed * tiles, length(0)); }
  EXN_SIMD float draws_with(int64_t s) const { return a.uniform[target_row(s, a.most)]; }
};

EXN_SIMD bool is_uniform(float u) { return u >= 0 && u <= 1; }
EXN_SIMD bool is_probability(float q) { return q >= 0 && q < INFINITY; }

// The tiles of row row_at(s) of each sequence in the list; of a row below 0, none.
template <class F>
void summarise_rows(const Sampling& all, const Matrix& logits, const LogitMap& map,
                    TileStats* stats, const F& row_at) {
  with_float_type(logits.dtype, [&](auto type) {
    using T = EXN_TYPE_OF(type);
    const auto tile_at = [&](int64_t item) EXN_FLAT {
      const int64_t row = row_at(all.list[item / all.tiles]), tile = item % all.tiles;
      return row < 0 ? Span<T>{}
                     : Span<T>{row_of<T>(logits, row) + all.offset(tile), all.length(tile)};
    };
    parallel_for(all.listed * all.tiles, all.chunk(), all.own,
                 [&](int64_t begin, int64_t end, MappedTile& mapped) {
                   Peaks peaks;
                   find_peaks(tile_at(begin), 0, &peaks);
                   for (int64_t item = begin; item < end; ++item) {
                     const Span<T> tile = tile_at(item),
                                   next = item + 1 < end ? tile_at(item + 1) : Span<T>{};
                     const int64_t s = all.list[item / all.tiles], t = item % all.tiles;
                     stats[s * all.tiles + t] =
                         summarise(tile.z, tile.n, all.offset(t), map, false, next, &peaks, mapped);
                   }
                 });
  });
}

// False: the row is invalid.
EXN_SIMD bool merge_row(const TileStats* tiles, int64_t count, Softmax* row) {
  const TileStats all = merge(tiles, count);
  row->level = static_cast<float>(all.level);
  row->scale = static_cast<float>(1 / (all.sum > 1 ? all.sum : 1));
  return !all.broken && all.top1 > -INFINITY;
}

EXN_SIMD float stored(const Matrix& m, int64_t row, int64_t column) {
  float x = 0;
  with_float_type(
      m.dtype, [&](auto type)
                   EXN_FLAT { x = to_float(row_of<EXN_TYPE_OF(type)>(m, row)[column]); });
  return x;
}

EXN_SIMD float probability(const Softmax& row, const LogitMap& map, float z) {
  return row.scale * ::expf(scalar_map(map, z) - row.level);
}

// What row i makes of drafted token i of sequence s: whether it is kept, and what follows if not.
bool is_kept(const Sampling& all, int64_t s, int64_t i) {
  const VerifyArgs& a = all.a;
  Round& round = all.rounds[s];
  if (!merge_row(all.target + s * all.tiles, all.tiles, &round.target)) return false;
  if (i == round.drafted) {
    round.draw = Draw::kTarget;
    return false;
  }
  const int32_t x = draft_of(a, s)[i];
  float q = 1;
  if (a.draft.data != nullptr) {
    q = stored(a.draft, all.draft_row(s, i), x);
    if (all.draft != nullptr) {
      if (!merge_row(all.draft + s * all.tiles, all.tiles, &round.draft)) return false;
      q = probability(round.draft, all.draft_map, q);
    }
  }
  const float u = a.uniform[all.target_row(s, i)];
  if (!is_uniform(u) || !is_probability(q)) return false;
  const float p =
      probability(round.target, all.target_map, stored(a.logits, all.target_row(s, i), x));
  if (u * q < p) return true;
  round.draw = Draw::kResidual;
  return false;
}

// Goes through drafts until all sequences have kept what they keep.
void keep_drafts(Sampling* sampling) {
  Sampling& all = *sampling;
  const VerifyArgs& a = all.a;
  for (int64_t i = 0; all.listed > 0; ++i) {
    summarise_rows(all, a.logits, all.target_map, all.target,
                   [&](int64_t s) EXN_FLAT { return all.target_row(s, i); });
    if (all.draft != nullptr) {
      summarise_rows(all, a.draft, all.draft_map, all.draft, [&](int64_t s) EXN_FLAT {
        return i < all.rounds[s].drafted ? all.draft_row(s, i) : -1;
      });
    }
    parallel_for(all.listed, 64, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) {
        if (is_kept(all, all.list[k], i)) ++all.rounds[all.list[k]].kept;
      }
    });
    int64_t going = 0;
    for (int64_t k = 0; k < all.listed; ++k) {
      if (all.rounds[all.list[k]].kept > i) all.list[going++] = all.list[k];
    }
    all.listed = going;
  }
}

// The shares of a tile's ids, of which those beyond its end are 0. False: a probability of the
// draft's is none.
bool weigh(const Sampling& all, int64_t s, int64_t tile, float* w) {
  const VerifyArgs& a = all.a;
  const Round& round = all.rounds[s];
  const int64_t offset = all.offset(tile), n = all.length(tile);
  with_float_type(a.logits.dtype, [&](auto type) {
    const auto* z = row_of<EXN_TYPE_OF(type)>(a.logits, all.target_row(s, round.kept)) + offset;
    const f32v level = set1(round.target.level), scale = set1(round.target.scale);
    for_vectors(n, [&](int64_t i, int rest) EXN_FLAT {
      const f32v x = apply_map(all.target_map, load_part(z + i, rest, -INFINITY));
      store(w + i, mul(exp_negative(sub(x, level)), scale));
    });
  });
  for (int64_t i = (n + kLanes - 1) / kLanes * kLanes; i % kBlock != 0; i += kLanes)
    store(w + i, zero());
  if (round.draw != Draw::kResidual) return true;
  if (a.draft.data == nullptr) {
    const int64_t x = draft_of(a, s)[round.kept] - offset;
    if (x >= 0 && x < n) w[x] = 0;
    return true;
  }
  bool sound = true;
  with_float_type(a.draft.dtype, [&](auto type) {
    const auto* z = row_of<EXN_TYPE_OF(type)>(a.draft, all.draft_row(s, round.kept)) + offset;
    const f32v level = set1(round.draft.level), scale = set1(round.draft.scale);
    const uint32_t everywhere = bits_of(equal(zero(), zero()));
    for_vectors(n, [&](int64_t i, int rest) EXN_FLAT {
      f32v q;
      if (a.probabilities) {
        q = load_part(z + i, rest, 0);
        sound = sound && bits_of(less(q, zero())) == 0 &&
                bits_of(less(q, set1(INFINITY))) == everywhere;
      } else {
        const f32v x = apply_map(all.draft_map, load_part(z + i, rest, -INFINITY));
        q = mul(exp_negative(sub(x, level)), scale);
      }
      store(w + i, max(sub(load(w + i), q), zero()));
    });
  });
  return sound;
}

EXN_SIMD float block_sum(const float* w) {
  f32v sum = zero();
  for (int64_t i = 0; i < kBlock; i += kLanes) sum = add(sum, load(w + i));
  return reduce_add(sum);
}

EXN_SIMD double tile_sum(const float* w, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i += kBlock) sum += static_cast<double>(block_sum(w + i));
  return sum;
}

// A tile's share of p, without reading it again: 0 where weigh() makes nothing but zeros.
EXN_SIMD double share_of(const Sampling& all, int64_t s, int64_t tile) {
  const TileStats& stats = all.target[s * all.tiles + tile];
  const Softmax& row = all.rounds[s].target;
  if (stats.top1 == -INFINITY) return 0;
  const f32v below = set1(static_cast<float>(stats.level) - row.level);
  float largest[kLanes];
  store(largest, mul(exp_negative(below), set1(row.scale)));
  if (largest[0] <= 0) return 0;
  return stats.sum * ::exp(stats.level - static_cast<double>(row.level)) *
         static_cast<double>(row.scale);
}

// NaN where a probability is none.
EXN_SIMD double tile_weight(const Sampling& all, int64_t s, int64_t tile, float* w) {
  const Round& round = all.rounds[s];
  const bool reads =
      round.draw == Draw::kResidual &&
      (all.a.draft.data != nullptr || draft_of(all.a, s)[round.kept] / kStatsTile == tile);
  if (!reads) return share_of(all, s, tile);
  return weigh(all, s, tile, w) ? tile_sum(w, all.length(tile)) : static_cast<double>(NAN);
}

// The first of `count` weights with which the sum is more than `target`, and what is left of that
// before it. Where rounding has lost it, the last that is not 0, and then of its parts.
struct Pick {
  int64_t index = -1;
  double left = 0;
};
template <class F>
EXN_SIMD Pick pick(int64_t count, double target, const F& weight) {
  double before = 0;
  Pick last = {-1, static_cast<double>(INFINITY)};
  for (int64_t i = 0; i < count; ++i) {
    const double w = static_cast<double>(weight(i));
    if (w > 0) {
      if (before + w > target) return {i, target - before};
      last.index = i;
    }
    before += w;
  }
  return last;
}

// The token that sequence s draws; -1: it cannot.
int32_t draw(const Sampling& all, int64_t s, float* w) {
  const float u = all.draws_with(s);
  double* weights = all.weights + s * all.tiles;
  const auto total = [&]() EXN_FLAT {
    double sum = 0;
    for (int64_t t = 0; t < all.tiles; ++t) sum += weights[t];
    return sum;
  };
  double sum = total();
  if (!is_uniform(u) || std::isnan(sum)) return -1;
  if (sum <= 0) {  // rounding has left nothing of the residual
    all.rounds[s].draw = Draw::kTarget;
    for (int64_t t = 0; t < all.tiles; ++t) weights[t] = share_of(all, s, t);
    sum = total();
  }
  const Pick tile =
      pick(all.tiles, static_cast<double>(u) * sum, [&](int64_t t) EXN_FLAT { return weights[t]; });
  weigh(all, s, tile.index, w);
  const Pick block = pick((all.length(tile.index) + kBlock - 1) / kBlock, tile.left,
                          [&](int64_t b) EXN_FLAT { return block_sum(w + b * kBlock); });
  const Pick id =
      pick(kBlock, block.left, [&](int64_t i) EXN_FLAT { return w[block.index * kBlock + i]; });
  return static_cast<int32_t>(all.offset(tile.index) + block.index * kBlock + id.index);
}

void draw_tokens(Sampling* sampling) {
  Sampling& all = *sampling;
  for (int64_t s = 0; s < all.a.sequences; ++s) {
    if (all.rounds[s].draw != Draw::kNothing) all.list[all.listed++] = static_cast<int32_t>(s);
  }
  parallel_for(all.listed * all.tiles, all.chunk(), all.own,
               [&](int64_t begin, int64_t end, MappedTile& mapped) {
                 for (int64_t item = begin; item < end; ++item) {
                   const int64_t s = all.list[item / all.tiles], t = item % all.tiles;
                   all.weights[s * all.tiles + t] = tile_weight(all, s, t, mapped.z);
                 }
               });
  parallel_for(all.listed, tiles_per_piece(all.listed, all.length(0)), all.own,
               [&](int64_t begin, int64_t end, MappedTile& mapped) {
                 for (int64_t k = begin; k < end; ++k)
                   all.rounds[all.list[k]].after = draw(all, all.list[k], mapped.z);
               });
}

void verify_sampled(Sampling* sampling) {
  Sampling& all = *sampling;
  for (int64_t s = 0; s < all.a.sequences; ++s) {
    Round round;
    if (is_on(all.a, s)) {
      round.drafted = drafted_by(all.a, s);
      all.list[all.listed++] = static_cast<int32_t>(s);
    }
    all.rounds[s] = round;
  }
  keep_drafts(&all);
  draw_tokens(&all);
  parallel_for(all.a.sequences, 256, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) finish(all.a, s, all.rounds[s]);
  });
}

}  // namespace

exn_status verify(const VerifyArgs& a, Workspace& ws) {
  const bool greedy = a.argmax != nullptr;
  Sampling all;
  all.a = a;
  if (!greedy) {
    const bool has_logits = a.draft.data != nullptr && !a.probabilities;
    all.tiles = (a.logits.cols + kStatsTile - 1) / kStatsTile;
    all.target_map = logit_map(EXN_SOFTMAX, a.temperature, 0);
    all.draft_map = logit_map(EXN_SOFTMAX, a.draft_temperature, 0);
    all.rounds = ws.take<Round>(a.sequences);
    all.list = ws.take<int32_t>(a.sequences);
    all.target = ws.take<TileStats>(product(a.sequences, all.tiles));
    if (has_logits) all.draft = ws.take<TileStats>(product(a.sequences, all.tiles));
    all.weights = ws.take<double>(product(a.sequences, all.tiles));
    all.own = ws.take<MappedTile>(1);
  }
  if (ws.counting()) return EXN_OK;
  const exn_status status = check_round(a);
  if (status != EXN_OK) return status;
  ran(EXN_CPU_PATH(ws, "verify"));
  greedy ? verify_greedy(a) : verify_sampled(&all);
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
