// SPDX-License-Identifier: Apache-2.0
#include "oracle_cache.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "expected.h"

namespace exn::test {

namespace {

// No op of this file stores f64, so double leaves every bound 29 bits of room. long double is done
// in software on ARM, and an oracle in it takes longer than all the rest.
using Real = double;

constexpr Real kInf = std::numeric_limits<Real>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr Real kUnit = 0x1p-24;  // of f32, the precision of every sum

size_t at(int64_t i) { return static_cast<size_t>(i); }

std::vector<Expected> contents_of(const HostTensor& t) {
  std::vector<Expected> all(at(t.cols));
  for (int64_t i = 0; i < t.cols; ++i) all[at(i)].value = t.at(0, i);
  return all;
}

}  // namespace

Expected converted(Type to, double value) {
  const double stored = rounded_to(to, value);
  return {stored, std::fabs(stored) <= smallest(to) ? smallest(to) : 0.0};
}

// ---- moving slots -------------------------------------------------------------------------------

CacheExpected kv_append_oracle(const KvAppendCase& c, const KvAppendInputs& in) {
  CacheExpected after = {contents_of(in.cache.k), contents_of(in.cache.v)};
  for (int64_t r = 0; r < c.rows.rows; ++r) {
    const int64_t slot = in.slot.integer_at(r);
    if (slot < 0) continue;
    for (int64_t i = 0; i < c.rows.cols; ++i) {
      const int64_t to = cache_index(c.cache, in.cache.block_table, id_or(in.sequence, r, 0), slot,
                                     i / c.cache.dim, i % c.cache.dim);
      after.k[at(to)] = converted(c.cache.type, in.k.at(r, i));
      after.v[at(to)] = converted(c.cache.type, in.v.at(r, i));
    }
  }
  return after;
}

CacheTensors kv_copy_oracle(const KvCopyCase& c, const KvCopyInputs& in) {
  CacheTensors to = c.in_place ? in.source : in.destination;
  const CacheTensors& from = c.in_place ? to : in.source;
  const int64_t size = size_of(c.source.type);
  for (int64_t i = 0; i < c.count; ++i) {
    const int64_t from_slot = in.from_slot.integer_at(i), to_slot = in.to_slot.integer_at(i);
    if (from_slot < 0 || to_slot < 0) continue;
    for (int64_t column = 0; column < c.source.columns(); ++column) {
      const int64_t head = column / c.source.dim, element = column % c.source.dim;
      const int64_t a = cache_index(c.source, from.block_table, id_or(in.from_sequence, i, 0),
                                    from_slot, head, element);
      const int64_t b = cache_index(c.destination, to.block_table, id_or(in.to_sequence, i, 0),
                                    to_slot, head, element);
      std::copy_n(from.k.bytes.begin() + a * size, size, to.k.bytes.begin() + b * size);
      std::copy_n(from.v.bytes.begin() + a * size, size, to.v.bytes.begin() + b * size);
    }
  }
  return to;
}

KvLengthExpected kv_length_oracle(const KvLengthCase& c, const KvLengthInputs& in,
                                  const std::vector<int32_t>& length) {
  KvLengthExpected e;
  e.length = length;
  if (c.action == EXN_KV_CROP) {
    for (size_t i = 0; i < length.size(); ++i) {
      const int64_t limit = in.limit.integer_at(c.one_limit ? 0 : static_cast<int64_t>(i));
      e.length[i] = static_cast<int32_t>(std::min<int64_t>(length[i], limit));
    }
    return e;
  }
  for (int64_t r = 0; r < c.rows; ++r) {
    int32_t& now = e.length[at(id_or(in.sequence, r, 0))];
    const bool active = !in.active.given() || in.active.integer_at(r) != 0;
    const bool full = active && now >= c.capacity;
    e.full = e.full || full;
    e.slot.push_back(active && !full ? now : -1);
    if (active && !full) ++now;
    e.visible.push_back(full ? 0 : now);
  }
  return e;
}

// ---- attention ----------------------------------------------------------------------------------

namespace {

struct Score {
  Real value = 0;
  Real error = 0;
};

// All elements of a cache's tensor in the order of its memory; every query head reads them again.
std::vector<Real> decoded(const HostTensor& t) {
  std::vector<Real> values(at(t.cols));
  for (int64_t i = 0; i < t.cols; ++i) values[at(i)] = t.at(0, i);
  return values;
}

struct DecodedCache {
  std::vector<Real> k, v;
};

// One query head over the slots it sees.
class AttentionHead {
 public:
  AttentionHead(const AttentionCase& c, const AttentionInputs& in, const DecodedCache& cache,
                int64_t row, int64_t head)
      : c_(c), cache_(cache) {
    const int64_t dim = c.cache.dim, sequence = id_or(in.sequence, row, 0);
    const int64_t kv_head = head / (c.query_heads / c.cache.heads);
    for (int64_t i = 0; i < dim; ++i) query_.push_back(in.query.at(row, head * dim + i));
    for (int64_t t = 0; t < in.visible.integer_at(row); ++t) {
      begins_.push_back(
          at(cache_index(c.cache, in.cache.block_table, sequence, t, kv_head, 0)));
      scores_.push_back(score(&cache.k[begins_.back()]));
    }
  }

  const std::vector<Score>& scores() const { return scores_; }

  void weighted_sums(std::vector<Expected>* out) const {
    const Real top = largest();
    std::vector<Real> weight(scores_.size());
    Real total = 0;
    for (size_t t = 0; t < weight.size(); ++t) {
      weight[t] =
          scores_[t].value == -kInf
              ? 0
              : std::exp(scores_[t].value - top);  // inf - inf is NaN, as the contract has it
      total += weight[t];
    }
    for (Real& w : weight) w /= total;
    // What the error of a score, and the exponent's own rounding, which grows with its size, do to
    // the weight.
    std::vector<Real> shift(scores_.size());
    for (size_t t = 0; t < shift.size(); ++t) {
      if (weight[t] == 0) continue;
      const Real error = scores_[t].error + kUnit * (8 + 3 * std::fabs(scores_[t].value - top));
      shift[t] = weight[t] * std::expm1(error);
    }
    for (int64_t i = 0; i < c_.cache.dim; ++i) out->push_back(weighted_sum(weight, shift, i));
  }

 private:
  Score score(const Real* key) const {
    Real sum = 0, absolute = 0;
    for (size_t i = 0; i < query_.size(); ++i) {
      const Real term = query_[i] * key[i];
      sum += term;
      absolute += std::fabs(term);
    }
    const Real scale = static_cast<Real>(c_.scale);
    const Real error = kUnit * sum_error(c_.cache.dim) * absolute * scale;
    Score s = {sum * scale, std::isfinite(absolute)
                                ? error
                                : 0};  // an infinity is exact, and so is the cap it gives
    if (c_.softcap > 0) {
      const Real cap = static_cast<Real>(c_.softcap);
      s.value = cap * std::tanh(s.value / cap);
      s.error += 8 * kUnit * std::fabs(s.value);
    }
    return s;
  }

  Real largest() const {
    Real top = -kInf;
    for (const Score& s : scores_) top = std::max(top, s.value);
    return top;
  }

  // A weight that is off by e moves the mean by e * (v - mean).
  Expected weighted_sum(const std::vector<Real>& weight, const std::vector<Real>& shift,
                        int64_t element) const {
    if (scores_.empty()) return {0, 0};
    std::vector<Real> v(weight.size());
    Real mean = 0, absolute = 0;
    for (size_t t = 0; t < weight.size(); ++t) {
      v[t] = cache_.v[begins_[t] + at(element)];
      mean += weight[t] * v[t];
      absolute += weight[t] * std::fabs(v[t]);
    }
    if (!std::isfinite(mean)) return {mean, 0};
    Real moved = 0;
    for (size_t t = 0; t < weight.size(); ++t) moved += shift[t] * std::fabs(v[t] - mean);
    const Real sums = kUnit * sum_error(static_cast<int64_t>(weight.size())) *
                      (absolute + std::fabs(mean));
    const Real rounding_error = rounding(c_.out_type) * std::fabs(mean) * 1.01;
    return {mean, moved + sums + rounding_error + smallest(c_.out_type)};
  }

  const AttentionCase& c_;
  const DecodedCache& cache_;
  std::vector<Real> query_;
  std::vector<size_t> begins_;  // of the head in each slot
  std::vector<Score> scores_;
};

Expected handed_out(const std::vector<Score>& scores, int64_t slot) {
  if (slot >= static_cast<int64_t>(scores.size())) return {-kInf, 0};
  const Score& s = scores[at(slot)];
  if (!std::isfinite(s.value)) return {s.value, 0};
  return {s.value, s.error + kUnit * std::fabs(s.value) + smallest(Type::kF32)};
}

}  // namespace

AttentionExpected attention_oracle(const AttentionCase& c, const AttentionInputs& in) {
  AttentionExpected e;
  const DecodedCache cache = {decoded(in.cache.k), decoded(in.cache.v)};
  for (int64_t r = 0; r < c.query.rows; ++r) {
    for (int64_t h = 0; h < c.query_heads; ++h) {
      const AttentionHead head(c, in, cache, r, h);
      head.weighted_sums(&e.out);
      for (int64_t t = 0; c.scores && t < c.score_slots; ++t)
        e.scores.push_back(handed_out(head.scores(), t));
    }
  }
  return e;
}

// ---- rows ---------------------------------------------------------------------------------------

int64_t HiddenStackOracle::step(int64_t call, const HiddenStackInputs& in) {
  const int32_t action = c_.script[at(call)];
  const int64_t held = static_cast<int64_t>(entries_.size());
  if (action == EXN_STACK_CLEAR) entries_.clear();
  if (action == EXN_STACK_GATHER) return std::max<int64_t>(held - c_.gathered, 0);
  if (action != EXN_STACK_PUSH) return 0;
  std::vector<Entry> pushed;
  for (int64_t r = 0; r < c_.rows.rows; ++r) {
    if (!in.mask.given() || in.mask.integer_at(r) != 0) pushed.push_back({call, r});
  }
  const int64_t over = held + static_cast<int64_t>(pushed.size()) - c_.capacity;
  if (over > 0) return over;
  entries_.insert(entries_.end(), pushed.begin(), pushed.end());
  return 0;
}

std::vector<int64_t> row_compaction_oracle(const RowCompactionCase& c,
                                           const RowCompactionInputs& in) {
  const bool gather = c.direction == EXN_ROWS_GATHER;
  std::vector<int64_t> source(at(gather ? c.listed + c.spare : c.rows), -1);
  for (int64_t i = 0; i < c.listed; ++i) {
    const int64_t row = in.list.integer_at(i);
    if (row >= 0) source[at(gather ? i : row)] = gather ? row : i;
  }
  return source;
}

// ---- schedules ----------------------------------------------------------------------------------

namespace {

// Quotient of non-negative numbers, rounded to the nearest, halves up: the middles between whole
// numbers, (2 q - 1) / 2, are counted that the quotient has reached.
int64_t nearest_quotient(int64_t numerator, int64_t denominator) {
  int64_t reached = 0;
  while ((2 * reached + 1) * denominator <= 2 * numerator) ++reached;
  return reached;
}

std::vector<int32_t> all_layers(int64_t layers) {
  std::vector<int32_t> list;
  for (int64_t l = 0; l < layers; ++l) list.push_back(static_cast<int32_t>(l));
  return list;
}

std::vector<int32_t> skip_decode_layers(const LayerScheduleCase& c, int64_t position) {
  const int64_t decay = c.horizon - c.prompt;
  const int64_t passed = std::min(std::max<int64_t>(position - c.prompt, 0), decay);
  const int64_t active = nearest_quotient(c.most * decay - (c.most - c.least) * passed, decay);
  std::vector<int32_t> list;
  for (int32_t l = 0; l < c.layers; ++l) {
    if (l < c.warm_up || l >= c.layers - (active - c.warm_up)) list.push_back(l);
  }
  return list;
}

std::vector<int32_t> unified_layers(const LayerScheduleCase& c, int64_t position) {
  if (position < c.prompt) return all_layers(c.layers);
  if (c.least == 1) return {static_cast<int32_t>(c.layers - 1)};
  std::vector<int32_t> list;
  for (int64_t i = 0; i < c.least; ++i) {
    list.push_back(static_cast<int32_t>(nearest_quotient(i * (c.layers - 1), c.least - 1)));
  }
  return list;
}

std::vector<int32_t> layers_at(const LayerScheduleCase& c, int64_t position) {
  switch (c.kind) {
    case EXN_SCHEDULE_SKIPDECODE:
      return skip_decode_layers(c, position);
    case EXN_SCHEDULE_FIXED:
      return c.order;
    case EXN_SCHEDULE_UNIFIED:
      return unified_layers(c, position);
    default:
      return all_layers(c.layers);
  }
}

bool asks_to_exit(const LayerScheduleCase& c, int64_t layer) {
  if (c.kind != EXN_SCHEDULE_CALM || layer >= c.layers - 1 || layer < c.min_exit ||
      layer < c.first_exit)
    return false;
  return (layer - c.first_exit) % c.interval == 0;
}

// Five roundings and an exp of at most 2 units; positions of the prompt count as step 0.
Expected threshold_at(const LayerScheduleCase& c, int64_t position) {
  const Real base = static_cast<Real>(c.start_threshold);
  if (c.decay == EXN_DECAY_NONE) return {base, 0};
  const Real step = static_cast<Real>(std::max<int64_t>(position - c.prompt, 0));
  const Real exponent = static_cast<Real>(c.tau) * step / static_cast<Real>(c.horizon);
  const Real fade = std::exp(-exponent);
  const Real moving = c.decay == EXN_DECAY_CALM_CODE ? .1 * base * fade : .1 * fade;
  Real theta = .9 * base + moving;
  if (c.decay == EXN_DECAY_CALM_PAPER) theta = std::min<Real>(1, std::max<Real>(0, theta));
  const Real error = kUnit * (4 * std::fabs(.9 * base) + (6 + 2 * exponent) * std::fabs(moving));
  return {theta, error + smallest(Type::kF32)};
}

}  // namespace

LayerScheduleExpected layer_schedule_oracle(const LayerScheduleCase& c) {
  LayerScheduleExpected e;
  for (int64_t t = 0; t < c.positions; ++t) {
    std::vector<int32_t> layers = layers_at(c, t);
    e.count.push_back(static_cast<int32_t>(layers.size()));
    layers.resize(at(c.layers), -1);
    e.layers.insert(e.layers.end(), layers.begin(), layers.end());
    for (int64_t l = 0; l < c.layers; ++l) e.exit_test.push_back(asks_to_exit(c, l) ? 1 : 0);
    e.threshold.push_back(threshold_at(c, t));
  }
  return e;
}

FfnSkipRuleOracle::FfnSkipRuleOracle(const FfnSkipRuleCase& c)
    : c_(c), skip_(at(c.rows), 0), state_(at(c.rows * EXN_FFN_SKIP_STATE_WORDS), 0) {}

void FfnSkipRuleOracle::step(int64_t token, int32_t layer, const FfnSkipRuleInputs& in) {
  const auto cold = [&](int32_t l) { return l >= c_.cold_start && l < c_.cold_end; };
  for (int64_t r = 0; r < c_.rows; ++r) {
    int32_t* skips = &state_[at(r * EXN_FFN_SKIP_STATE_WORDS)];
    int32_t* skipped = skips + 1;
    if (layer < 0) *skips = *skipped = 0;
    if (layer >= 0 && cold(layer) && in.cosine.at(0, r) >= static_cast<double>(c_.threshold))
      *skips = 1;
    const bool warm = id_or(in.token, r, token) >= c_.warm_up;
    const bool affordable = c_.budget < 0 || *skipped < c_.budget;
    skip_[at(r)] = *skips == 1 && cold(layer + 1) && warm && affordable ? 1 : 0;
    *skipped += skip_[at(r)];
  }
}

}  // namespace exn::test
