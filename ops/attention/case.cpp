// SPDX-License-Identifier: Apache-2.0
#include "attention/case.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "judge.h"
#include "parts.h"
#include "reals.h"

namespace exn::test {
inline namespace attention_op {

std::vector<AttentionCase> attention_cases() {
  return read_cases<AttentionCase>("attention", [](const Row& row, AttentionCase* c) {
    c->cache = read_cache(row, "cache", "cache_offset");
    c->query_heads = row.integer("query_heads");
    c->query = {row.integer("rows"),         c->query_heads * c->cache.dim,
                row.type("query"),           row.integer("query_pad"),
                row.integer("query_offset"), row.text("fill"),
                row.number("query_scale"),   row.text("special")};
    c->key_scale = row.number("key_scale");
    c->cache_special = row.text("cache_special");
    c->out_type = row.type("out");
    c->out_pad = row.integer("out_pad");
    c->out_offset = row.integer("out_offset");
    c->sequence = row.text("sequence");
    c->visible = row.text("visible");
    c->scores = row.text("scores") != "-";
    c->score_slots = c->scores ? row.integer("scores") : 0;
    c->scale = row.number("scale");
    c->softcap = row.number("softcap");
    c->batch_invariant = row.text("invariant") != "-";
  });
}

// ---- inputs -------------------------------------------------------------------------------------

namespace {

int64_t visible_of(const AttentionCase& c, int64_t row) {
  const int64_t slots = c.cache.slots;
  const int64_t random = pick(c.seed, 5, row, slots + 1);
  if (c.visible == "all") return slots;
  if (c.visible == "random") return random;
  if (c.visible == "causal") return slots - c.query.rows + 1 + row;
  if (c.visible == "each") return row / c.cache.sequences + 1;
  if (c.visible == "mixed")
    return row % 4 == 0 ? random : row % 4 == 1 ? 0 : row % 4 == 2 ? 1 : slots;
  char* end = nullptr;
  const int64_t number = std::strtoll(c.visible.c_str(), &end, 10);
  if (*end != '\0') fail("visible: unknown word '" + c.visible + "'");
  return number;
}

// Leading slots of each sequence that some row sees.
std::vector<int64_t> seen_slots(const AttentionCase& c, const AttentionInputs& in) {
  std::vector<int64_t> seen(at(c.cache.sequences), 0);
  for (int64_t r = 0; r < c.query.rows; ++r) {
    int64_t& most = seen[at(id_or(in.sequence, r, 0))];
    most = std::max(most, in.visible.integer_at(r));
  }
  return seen;
}

// All but query and cache.
AttentionInputs make_ids(const AttentionCase& c) {
  AttentionInputs in;
  in.sequence = make_sequences(c.sequence, c.query.rows, c.cache.sequences, c.seed, 4);
  in.visible = make_tensor(Type::kI32, {c.query.rows});
  for (int64_t r = 0; r < c.query.rows; ++r) in.visible.set_integer(r, visible_of(c, r));
  return in;
}

}  // namespace

AttentionInputs make_inputs(const AttentionCase& c) {
  AttentionInputs in = make_ids(c);
  in.query = make_head_rows(c.query, c.cache.dim, c.seed, 0);
  in.cache = empty_cache(c.cache, c.seed);
  const std::vector<int64_t> seen = seen_slots(c, in);
  const HostTensor& table = in.cache.block_table;
  fill_seen(c.cache, table, seen, c.query.fill, c.key_scale, c.seed, 1, &in.cache.k);
  fill_seen(c.cache, table, seen, c.query.fill, 1, c.seed, 2, &in.cache.v);
  if (c.cache_special != "-" && c.cache.slots > 0)
    put_special(c.cache, c.seed, c.cache_special, &in.cache);
  return in;
}

// ---- oracle -------------------------------------------------------------------------------------

namespace {

struct Score {
  double value = 0;
  double error = 0;
};

// All elements of a cache's tensor in the order of its memory; every query head reads them again.
std::vector<double> decoded(const HostTensor& t) {
  std::vector<double> values(at(t.cols));
  for (int64_t i = 0; i < t.cols; ++i) values[at(i)] = t.at(0, i);
  return values;
}

struct DecodedCache {
  std::vector<double> k, v;
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
      begins_.push_back(at(cache_index(c.cache, in.cache.block_table, sequence, t, kv_head, 0)));
      scores_.push_back(score(&cache.k[begins_.back()]));
    }
  }

  const std::vector<Score>& scores() const { return scores_; }

  void weighted_sums(std::vector<Expected>* out) const {
    const double top = largest();
    std::vector<double> weight(scores_.size());
    double total = 0;
    for (size_t t = 0; t < weight.size(); ++t) {
      // inf - inf is NaN, as the contract has it.
      weight[t] = scores_[t].value == -kInf ? 0 : std::exp(scores_[t].value - top);
      total += weight[t];
    }
    for (double& w : weight) w /= total;
    // What the error of a score, and the exponent's own rounding, which grows with its size, do to
    // the weight.
    std::vector<double> shift(scores_.size());
    for (size_t t = 0; t < shift.size(); ++t) {
      if (weight[t] == 0) continue;
      const double error = scores_[t].error + kUnit * (8 + 3 * std::fabs(scores_[t].value - top));
      shift[t] = weight[t] * std::expm1(error);
    }
    for (int64_t i = 0; i < c_.cache.dim; ++i) out->push_back(weighted_sum(weight, shift, i));
  }

 private:
  Score score(const double* key) const {
    double sum = 0, absolute = 0;
    for (size_t i = 0; i < query_.size(); ++i) {
      const double term = query_[i] * key[i];
      sum += term;
      absolute += std::fabs(term);
    }
    const double scale = static_cast<double>(c_.scale);
    const double error = kUnit * sum_error(c_.cache.dim) * absolute * scale;
    // An infinity is exact, and so is the cap it gives.
    Score s = {sum * scale, std::isfinite(absolute) ? error : 0};
    if (c_.softcap > 0) {
      const double cap = static_cast<double>(c_.softcap);
      s.value = cap * std::tanh(s.value / cap);
      s.error += 8 * kUnit * std::fabs(s.value);
    }
    return s;
  }

  double largest() const {
    double top = -kInf;
    for (const Score& s : scores_) top = std::max(top, s.value);
    return top;
  }

  // A weight that is off by e moves the mean by e * (v - mean).
  Expected weighted_sum(const std::vector<double>& weight, const std::vector<double>& shift,
                        int64_t element) const {
    if (scores_.empty()) return {0, 0};
    std::vector<double> v(weight.size());
    double mean = 0, absolute = 0;
    for (size_t t = 0; t < weight.size(); ++t) {
      v[t] = cache_.v[begins_[t] + at(element)];
      mean += weight[t] * v[t];
      absolute += weight[t] * std::fabs(v[t]);
    }
    if (!std::isfinite(mean)) return {mean, 0};
    double moved = 0;
    for (size_t t = 0; t < weight.size(); ++t) moved += shift[t] * std::fabs(v[t] - mean);
    const double sums =
        kUnit * sum_error(static_cast<int64_t>(weight.size())) * (absolute + std::fabs(mean));
    const double rounding_error = rounding(c_.out_type) * std::fabs(mean) * 1.01;
    return {mean, moved + sums + rounding_error + smallest(c_.out_type)};
  }

  const AttentionCase& c_;
  const DecodedCache& cache_;
  std::vector<double> query_;
  std::vector<size_t> begins_;  // of the head in each slot
  std::vector<Score> scores_;
};

Expected handed_out(const std::vector<Score>& scores, int64_t slot) {
  if (slot >= static_cast<int64_t>(scores.size())) return {-kInf, 0};
  const Score& s = scores[at(slot)];
  if (!std::isfinite(s.value)) return {s.value, 0};
  return {s.value, s.error + kUnit * std::fabs(s.value) + smallest(Type::kF32)};
}

struct AttentionExpected {
  std::vector<Expected> out;     // row-major [R, H * dh]
  std::vector<Expected> scores;  // row-major [R, H, N]
};

// Spoiled: rows that see more slots than there are. On a device they are NaN, and so are their
// scores.
AttentionExpected oracle(const AttentionCase& c, const AttentionInputs& in, bool spoiled) {
  AttentionExpected e;
  const DecodedCache cache = {decoded(in.cache.k), decoded(in.cache.v)};
  for (int64_t r = 0; r < c.query.rows; ++r) {
    for (int64_t h = 0; h < c.query_heads; ++h) {
      if (spoiled && is_spoiled(r)) {
        e.out.resize(e.out.size() + at(c.cache.dim), nan());
        e.scores.resize(e.scores.size() + at(c.score_slots), nan());
        continue;
      }
      const AttentionHead head(c, in, cache, r, h);
      head.weighted_sums(&e.out);
      for (int64_t t = 0; t < c.score_slots; ++t) e.scores.push_back(handed_out(head.scores(), t));
    }
  }
  return e;
}

}  // namespace

// ---- case ---------------------------------------------------------------------------------------

std::unique_ptr<Instance> instantiate(const AttentionCase& c, const AttentionInputs& in,
                                      int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  exn_attention_params params = {};
  params.struct_size = sizeof params;
  params.query = instance->input(in.query);
  params.cache = input_cache(instance.get(), c.cache, in.cache);
  params.sequence = instance->input(in.sequence);
  params.visible = instance->input(in.visible);
  const int64_t rows = in.query.rows;
  params.out = instance->in_out("out", poisoned(make_heads(c.out_type, rows, c.query_heads,
                                                           c.cache.dim, c.out_pad, c.out_offset)));
  if (c.scores)
    params.scores = instance->output("scores", Type::kF32, {rows, c.query_heads, c.score_slots});
  params.scale = c.scale;
  params.softcap = c.softcap;
  params.batch_invariant = c.batch_invariant ? 1 : 0;
  instance->call(EXN_TEST_OP(attention), params);
  return instance;
}

namespace {

Case case_of(const AttentionCase& c, bool spoiled) {
  Case result;
  const auto inputs = lazily([c] { return make_inputs(c); });
  result.instantiate = [c, inputs, spoiled](int32_t device_type) {
    AttentionInputs in = inputs();
    if (spoiled) in.visible = with_strays(in.visible, -2, c.cache.slots + 1);
    return instantiate(c, in, device_type);
  };
  const auto expected = lazily([c, inputs, spoiled] { return oracle(c, inputs(), spoiled); });
  result.judge = [c, expected](const Outputs& got) {
    return first_of({compare("out", expected().out, got[0]),
                     c.scores ? compare("scores", expected().scores, got[1]) : ""});
  };
  // Rows of one sequence see the same slots: each is read once.
  const std::vector<int64_t> seen = seen_slots(c, make_ids(c));
  const int64_t slots = std::accumulate(seen.begin(), seen.end(), int64_t{0});
  const int64_t elements = c.query.rows * c.query.cols;
  result.compulsory_bytes = bytes_of(2 * slots * c.cache.columns(), c.cache.type) +
                            bytes_of(elements, c.query.type) + bytes_of(elements, c.out_type) +
                            bytes_of(c.query.rows * c.query_heads * c.score_slots, Type::kF32);
  result.description = {{"rows", text(c.query.rows)},      {"heads", text(c.query_heads)},
                        {"kv_heads", text(c.cache.heads)}, {"head_dim", text(c.cache.dim)},
                        {"slots", text(c.cache.slots)},    {"dtype", quoted(name_of(c.cache.type))},
                        {"layout", layout_name(c.cache)},  {"visible", quoted(c.visible)},
                        {"page", text(c.cache.page)},      {"sequences", text(c.cache.sequences)},
                        {"scores", text(c.scores)}};
  return result;
}

void describe(Maker& m, exn_attention_params& p) {
  constexpr CacheNames kNames = CACHE_NAMES("cache");
  const CacheShape c = cache_shape(m, kNames);
  const Dim rows = m.dim("rows", 0, 3, 40),
            heads = m.derived(times(c.heads.size, m.within("group", 1, 3)));
  m.in(FIELD(query), m.type(kFloats), {rows, heads, c.dim}, kRows);
  cache(m, p.cache, kNames, c, Role::kIn);
  m.ids(FIELD(sequence), {rows}, {0, c.sequences.size - 1, false}, kOptional);
  m.ids(FIELD(visible), {rows}, {-1, c.slots, true});
  m.out(FIELD(out), m.type(kFloats), {rows, heads, c.dim}, kRows);
  m.out(FIELD(scores), kF32, {rows, heads, m.derived(m.within("scored", 0, c.slots))}, kOptional);
  m.real(FIELD(scale), Domain::kPositive);
  m.real(FIELD(softcap), Domain::kNotNegative);
  m.choice(FIELD(batch_invariant), 0, 1);
  m.zero(FIELD(reserved));
}

const Described kDescribed = EXN_DESCRIBED(attention);

const RegisteredOp kRegistered("attention", [] {
  const std::vector<AttentionCase> cases = attention_cases();
  auto all = listed<AttentionCase>("attention", cases, [](auto& c) { return case_of(c, false); });
  append_spoiled<AttentionCase>(&all, "attention", cases, [](auto& c) { return case_of(c, true); });
  return all;
});

}  // namespace

}  // namespace attention_op
}  // namespace exn::test
