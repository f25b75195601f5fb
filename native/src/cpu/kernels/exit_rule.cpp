// SPDX-License-Identifier: Apache-2.0
// exit_rule on the CPU. A row is about 40 bytes, and after a few layers most rows have left: of
// those only the flag is read, and only the mask written.
//
// Rows are taken 64 at a time as the bits of a word: what all of them need is done by vectors and
// masks, and only rows that compete or leave are visited.
#include <cmath>
#include <cstring>

#include "base/args/exit_rule.h"
#include "elements.h"
#include "specdec.h"

namespace exn::cpu::EXN_ISA {
namespace {

// A row's state words. Words 0 and 1 hold floats (or the previous label), word 2 counts calls or
// agreements.
struct State {
  // QUANTILE: prod(1 - lambda). JEI: sum of g. SPECDEC: prod p. PATIENCE: previous score
  float a;
  float b;        // JEI: prod(1 - a)
  int32_t count;  // PATIENCE: agreements. SPECDEC: calls
  int32_t flags;
};
static_assert(sizeof(State) == EXN_EXIT_STATE_WORDS * 4, "the state is EXN_EXIT_STATE_WORDS words");

constexpr int32_t kLeft = 1;  // the row has left
constexpr int32_t kSeen = 2;  // PATIENCE: there is a previous score or label

State initial(int32_t rule) {
  State s = {};
  if (rule == EXN_RULE_QUANTILE || rule == EXN_RULE_SPECDEC) s.a = 1;
  if (rule == EXN_RULE_JEI) s.b = 1;
  return s;
}

float decayed_threshold(const ExitRuleArgs& r, int32_t step) {
  if (r.decay == EXN_DECAY_NONE) return r.threshold;
  const float fade = ::expf(-r.decay_tau * static_cast<float>(step) / r.decay_horizon);
  if (r.decay == EXN_DECAY_CALM_CODE) return 0.9f * r.threshold + 0.1f * r.threshold * fade;
  const float theta = 0.9f * r.threshold + 0.1f * fade;
  return theta < 0 ? 0 : theta > 1 ? 1 : theta;
}

bool over_threshold(const ExitRuleArgs& r, float score, float theta) {
  switch (r.comparator) {
    case EXN_COMPARE_GE:
      return score >= theta;
    case EXN_COMPARE_GT:
      return score > theta;
    default:
      return score <= theta;
  }
}

bool patience(const ExitRuleArgs& r, int64_t row, State* s) {
  const bool seen = (s->flags & kSeen) != 0;
  s->flags |= kSeen;
  bool agrees;
  if (r.label != nullptr) {
    int32_t previous;
    std::memcpy(&previous, &s->b, sizeof previous);
    agrees = seen && r.label[row] == previous;
    std::memcpy(&s->b, &r.label[row], sizeof previous);
  } else {
    agrees = seen && ::fabsf(r.score[row] - s->a) < r.threshold;
    s->a = r.score[row];
  }
  s->count = agrees ? s->count + 1 : 0;
  return r.patience > 0 && s->count >= r.patience;
}

bool quantile(const ExitRuleArgs& r, float lambda, State* s) {
  s->a *= 1 - lambda;
  return 1 - s->a > r.threshold;
}

bool jei(const ExitRuleArgs& r, float g, State* s) {
  const float rest = 1 - s->a;
  const float p = g < rest ? (g > 0 ? g : 0) : (rest > 0 ? rest : 0);
  // Nothing left to distribute: unreachable after an exit, defined as certainty.
  const float ratio = s->b > 0 ? p / s->b : 1;
  const float a = ratio < 0 ? 0 : ratio > 1 ? 1 : ratio;
  s->a += g;
  s->b *= 1 - a;
  return a >= r.threshold;
}

bool specdec(const ExitRuleArgs& r, float p, State* s) {
  s->count += 1;
  s->a = specdec_accepted(s->a, p, s->count);
  if (r.max_steps > 0 && s->count >= r.max_steps) return true;
  return s->count >= r.min_steps && specdec_stops(s->a, r.threshold);
}

// ---- rows as bits -------------------------------------------------------------------------------

constexpr int64_t kBits = 64;

void fill_none(int32_t* ids, int64_t n) {
  std::memset(ids, 0xff, static_cast<size_t>(n) * sizeof *ids);  // -1
}

uint64_t first_bits(int64_t n) { return n == kBits ? ~uint64_t{0} : (uint64_t{1} << n) - 1; }

// Calls f(row) for every bit of a word whose bit 0 is row `first`, in ascending order.
template <class F>
EXN_SIMD void for_bits(uint64_t bits, int64_t first, F&& f) {
  for (; bits != 0; bits &= bits - 1) f(first + __builtin_ctzll(bits));
}

// The rows of [first, first + n) for which holds(row).
template <class F>
EXN_SIMD uint64_t bits_where(int64_t first, int64_t n, F&& holds) {
  uint64_t bits = 0;
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {  // shifts by constants, and no chain from one row to the next
    uint64_t some = 0;
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) some |= uint64_t{holds(first + i + k)} << k;
    bits |= some << i;
  }
  for (; i < n; ++i) bits |= uint64_t{holds(first + i)} << i;
  return bits;
}

// The same for a comparison of f32 vectors with what all rows share.
template <class F>
EXN_SIMD uint64_t bits_of_scores(const float* score, int64_t n, F&& holds) {
  uint64_t bits = 0;
  for_vectors(n, [&](int64_t i, int lanes) EXN_FLAT {
    bits |= uint64_t{bits_of(holds(load_part(score + i, lanes, 0.0f)))} << i;
  });
  return bits & first_bits(n);
}

// 64 rows, or fewer at the end.
struct RowBlock {
  uint64_t active;  // have not left yet
  uint64_t usable;  // have not been called invalid
  uint64_t wants;   // are active, and their own verdict is to leave
};

// ---- verdicts -----------------------------------------------------------------------------------

uint64_t over_threshold(const ExitRuleArgs& r, int64_t first, int64_t n, uint64_t rows) {
  const float* score = r.score + first;
  if (r.decay != EXN_DECAY_NONE && r.step != nullptr) {
    uint64_t over = 0;
    for_bits(rows, 0, [&](int64_t i) {
      const float theta = decayed_threshold(r, r.step[first + i]);
      over |= uint64_t{over_threshold(r, score[i], theta)} << i;
    });
    return over;
  }
  const f32v theta = set1(decayed_threshold(r, r.step_index));
  const uint64_t same =
      r.comparator == EXN_COMPARE_GT
          ? 0
          : bits_of_scores(score, n, [&](f32v c) EXN_FLAT { return equal(c, theta); });
  const uint64_t beyond =
      r.comparator == EXN_COMPARE_LE
          ? bits_of_scores(score, n, [&](f32v c) EXN_FLAT { return less(c, theta); })
          : bits_of_scores(score, n, [&](f32v c) EXN_FLAT { return less(theta, c); });
  return rows & (same | beyond);  // NaN compares to nothing
}

// Updates the state of an active row, whose score is a number, and says whether it wants to leave.
template <int32_t kRule>
bool verdict(const ExitRuleArgs& r, int64_t row, State* s) {
  if constexpr (kRule == EXN_RULE_PATIENCE) return patience(r, row, s);
  if constexpr (kRule == EXN_RULE_QUANTILE) return quantile(r, r.score[row], s);
  if constexpr (kRule == EXN_RULE_JEI) return jei(r, r.score[row], s);
  return specdec(r, r.score[row], s);
}

// Those of `rows`, a chunk of the n from `first` on, that want to leave.
template <int32_t kRule>
uint64_t verdicts(const ExitRuleArgs& r, int64_t first, int64_t n, uint64_t rows) {
  if constexpr (kRule == EXN_RULE_THRESHOLD) return over_threshold(r, first, n, rows);
  uint64_t wants = 0;
  for_bits(rows, 0, [&](int64_t i) {
    if (r.score != nullptr && std::isnan(r.score[first + i])) return;
    State* at = reinterpret_cast<State*>(r.state) + first + i;
    State s;
    std::memcpy(&s, at, sizeof s);
    wants |= uint64_t{verdict<kRule>(r, first + i, &s)} << i;
    std::memcpy(at, &s, sizeof s);
  });
  return wants;
}

// First pass: every row's own verdict.
template <int32_t kRule>
void judge(const ExitRuleArgs& args, RowBlock* blocks) {
  const ExitRuleArgs r = args;  // a copy that no store can alias
  State* state = reinterpret_cast<State*>(r.state);
  const State fresh = initial(kRule);
  for (int64_t first = 0; first < r.rows; first += kBits) {
    const int64_t n = r.rows - first < kBits ? r.rows - first : kBits;
    RowBlock block = {first_bits(n), first_bits(n), 0};
    if (r.first != 0) {
      for (int64_t i = 0; i < n; ++i) std::memcpy(state + first + i, &fresh, sizeof fresh);
    } else {
      const int32_t* words = r.state;
      block.active &= ~bits_where(first, n, [&](int64_t row) EXN_FLAT {
        return (words[row * EXN_EXIT_STATE_WORDS + 3] & kLeft) != 0;
      });
    }
    if (r.valid != nullptr) {
      const uint8_t* valid = r.valid;
      block.usable = bits_where(first, n, [&](int64_t row) EXN_FLAT { return valid[row] != 0; });
    }
    block.wants = verdicts<kRule>(r, first, n, block.active & block.usable);
    *blocks++ = block;
  }
}

void judge(const ExitRuleArgs& r, RowBlock* blocks) {
  switch (r.rule) {
    case EXN_RULE_THRESHOLD:
      return judge<EXN_RULE_THRESHOLD>(r, blocks);
    case EXN_RULE_PATIENCE:
      return judge<EXN_RULE_PATIENCE>(r, blocks);
    case EXN_RULE_QUANTILE:
      return judge<EXN_RULE_QUANTILE>(r, blocks);
    case EXN_RULE_JEI:
      return judge<EXN_RULE_JEI>(r, blocks);
    default:
      return judge<EXN_RULE_SPECDEC>(r, blocks);
  }
}

// Whether the verdicts let all rows leave, where the scope asks for all or for the last.
bool all_agree(const ExitRuleArgs& r, const RowBlock* blocks, int64_t count) {
  if (r.scope == EXN_SCOPE_LAST) {
    return count > 0 && (blocks[count - 1].wants >> (r.rows - 1) % kBits & 1) != 0;
  }
  for (int64_t b = 0; b < count; ++b) {
    if (blocks[b].active != blocks[b].wants) return false;
  }
  return true;
}

}  // namespace

exn_status exit_rule(const ExitRuleArgs& args, Workspace& ws) {
  const ExitRuleArgs r = args;  // a copy that no store can alias
  const int64_t count = (r.rows + kBits - 1) / kBits;
  RowBlock* blocks = ws.take<RowBlock>(count);
  if (ws.counting()) return EXN_OK;
  ran(EXN_CPU_PATH(ws, "exit_rule"));
  judge(r, blocks);
  const bool each = r.scope == EXN_SCOPE_EACH;
  const uint64_t common = !each && all_agree(r, blocks, count) ? ~uint64_t{0} : 0;

  // Second pass: which rows leave, and the list of those that stay.
  int64_t staying = 0;
  for (int64_t b = 0; b < count; ++b) {
    const RowBlock& block = blocks[b];
    const int64_t first = b * kBits, n = r.rows - first < kBits ? r.rows - first : kBits;
    const uint64_t agreed = (each ? block.wants : common) & block.usable;
    const uint64_t leave = block.active & (r.force != 0 ? ~uint64_t{0} : agreed);
    const uint64_t stay = block.active & ~leave;
    if (r.exit_mask != nullptr) std::memset(r.exit_mask + first, 0, static_cast<size_t>(n));
    if (r.exit_layer != nullptr && r.first != 0) fill_none(r.exit_layer + first, n);
    for_bits(leave, first, [&](int64_t row) EXN_FLAT {
      r.state[row * EXN_EXIT_STATE_WORDS + 3] |= kLeft;
      if (r.exit_mask != nullptr) r.exit_mask[row] = 1;
      if (r.exit_layer != nullptr) r.exit_layer[row] = r.layer;
    });
    for_bits(stay, first, [&](int64_t row) EXN_FLAT {
      if (r.active_list != nullptr) r.active_list[staying] = static_cast<int32_t>(row);
      ++staying;
    });
  }
  if (r.active_list != nullptr) fill_none(r.active_list + staying, r.rows - staying);
  if (r.active_count != nullptr) *r.active_count = static_cast<int32_t>(staying);
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
