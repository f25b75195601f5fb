// SPDX-License-Identifier: Apache-2.0
// draft_lookup on the CPU. A text is searched from its end on, 64 places at once, each time for a
// match that is longer than any found: two tokens decide almost everywhere.
#include "../ids.h"
#include "../simd/ints.h"
#include "base/args/draft_lookup.h"
#include "elements.h"

namespace exn::cpu::EXN_ISA {
namespace {

long long wide(int64_t x) { return static_cast<long long>(x); }

EXN_SIMD bool is_on(const DraftLookupArgs& a, int64_t s) {
  return a.active == nullptr || a.active[s] != 0;
}

EXN_SIMD const int32_t* tokens_to_append(const DraftLookupArgs& a, int64_t s) {
  return a.append + s * a.width;
}

// Of an active sequence, whose append_count is sound.
EXN_SIMD int64_t appended_to(const DraftLookupArgs& a, int64_t s) {
  if (a.append == nullptr) return 0;
  const int64_t most = a.append_count != nullptr ? a.append_count[s] : a.width;
  int64_t count = 0;
  while (count < most && tokens_to_append(a, s)[count] >= 0) ++count;
  return count;
}

// ---- what is refused ----------------------------------------------------------------------------

exn_status check_range(const char* name, const int32_t* values, int64_t s, int64_t most) {
  if (values == nullptr || (values[s] >= 0 && values[s] <= most)) return EXN_OK;
  return fail(EXN_INVALID_ARGUMENT, "exn_draft_lookup: %s[%lld] is %d, expected 0..%lld", name,
              wide(s), values[s], wide(most));
}

exn_status check_sequence(const DraftLookupArgs& a, int64_t s) {
  exn_status status = check_range("length", a.length, s, a.capacity);
  if (status == EXN_OK) status = check_range("append_count", a.append_count, s, a.width);
  if (status == EXN_OK) status = check_range("limit", a.limit, s, INT32_MAX);
  if (status != EXN_OK) return status;
  const int64_t more = appended_to(a, s);
  if (a.length[s] + more <= a.capacity) return EXN_OK;
  return fail(
      EXN_INVALID_ARGUMENT,
      "exn_draft_lookup: length[%lld] is %d, which with %lld tokens to append is more than T "
      "of context, %lld",
      wide(s), a.length[s], wide(more), wide(a.capacity));
}

exn_status check_sequences(const DraftLookupArgs& a) {
  for (int64_t s = 0; s < a.sequences; ++s) {
    if (!is_on(a, s)) continue;
    const exn_status status = check_sequence(a, s);
    if (status != EXN_OK) return status;
  }
  return EXN_OK;
}

// ---- the search ---------------------------------------------------------------------------------

struct Match {
  int64_t next = 0;  // where the text goes on after it; 0: there is none
  int64_t tokens = 0;
};

// How many tokens before `next` are the last ones of a text that ends at `end`, if the first `known`
// of them are; at most `most`.
EXN_SIMD int64_t matched_before(const int32_t* text, const int32_t* end, int64_t next,
                                int64_t known, int64_t most) {
  if (most > next) most = next;
  int64_t m = known;
  while (m < most && text[next - 1 - m] == end[-1 - m]) ++m;
  return m;
}

constexpr int64_t kPlaces = 64;

// A bit for each of 64 tokens from p on with which a match of `m` tokens ends, whose last ones are
// before `end`.
EXN_SIMD uint64_t ends_of(const int32_t* p, const int32_t* end, int64_t m) {
  if (m == 1) return bits_of_lanes([&](int i) EXN_FLAT { return equal_lanes(p + i, end[-1]); });
  uint64_t bits = bits_of_lanes(
      [&](int i)
          EXN_FLAT { return equal_lanes(p + i, end[-1]) & equal_lanes(p + i - 1, end[-2]); });
  for (int64_t k = 2; k < m && bits != 0; ++k) {
    bits &= bits_of_lanes([&](int i) EXN_FLAT { return equal_lanes(p + i - k, end[-1 - k]); });
  }
  return bits;
}

// The longest match of least..most tokens, and of those the latest.
Match find_match(const int32_t* text, int64_t length, int64_t least, int64_t most) {
  const int32_t* end = text + length;
  Match found = {0, least - 1};
  int64_t places = length - 1;      // tokens, from the first on, that a match may end with
  const int64_t bottom = most - 1;  // where one of `most` tokens may end first
  const bool has_blocks = places >= bottom + kPlaces;
  while (has_blocks && places > bottom && found.tokens < most) {
    // The last block may overlap the one before: it finds nothing longer there.
    const int64_t begin = places - kPlaces < bottom ? bottom : places - kPlaces;
    uint64_t bits = ends_of(text + begin, end, found.tokens + 1);
    while (bits != 0) {
      found.next = begin + kPlaces - __builtin_clzll(bits);
      const int64_t k = ++found.tokens;
      if (k == most) break;
      bits &= bits_of_lanes(
          [&](int i) EXN_FLAT { return equal_lanes(text + begin + i - k, end[-1 - k]); });
    }
    places = begin;
  }
  for (int64_t next = places; next > 0 && found.tokens < most; --next) {
    const int64_t m = matched_before(text, end, next, 0, most);
    if (m > found.tokens) found = {next, m};
  }
  return found;
}

// ---- a sequence ---------------------------------------------------------------------------------

// The tokens of a draft that goes on at `next`, at most `most`; how many there are.
int64_t write_draft(const int32_t* text, int64_t length, int64_t next, int64_t most,
                    int32_t* drafted) {
  int64_t at = next, n = 0;
  while (n < most && text[at] >= 0) {
    drafted[n++] = text[at++];
    if (at == length) at = next;
  }
  return n;
}

void look_up(const DraftLookupArgs& args, int64_t s) {
  const DraftLookupArgs a = args;  // a copy that no store can alias
  int64_t n = 0, matched = 0;
  int32_t* drafted = a.drafted + s * a.most;
  if (is_on(a, s)) {
    int32_t* text = a.context + s * a.stride;
    const int64_t more = appended_to(a, s), length = a.length[s] + more;
    for (int64_t i = 0; i < more; ++i) text[a.length[s] + i] = tokens_to_append(a, s)[i];
    a.length[s] = static_cast<int32_t>(length);
    int64_t most = a.capacity - 1 - length;  // what comes out of a round fits
    if (most > a.most) most = a.most;
    if (a.limit != nullptr && most > a.limit[s]) most = a.limit[s];
    if (most > 0 || a.matched != nullptr) {
      const Match match = find_match(text, length, a.min_ngram, a.max_ngram);
      if (match.next > 0) {
        n = write_draft(text, length, match.next, most, drafted);
        matched = match.tokens;
        if (matched == a.max_ngram) {
          matched = matched_before(text, text + length, match.next, matched, a.most_matched);
        }
      }
    }
  }
  for (int64_t i = n; i < a.most; ++i) drafted[i] = -1;
  a.draft_length[s] = static_cast<int32_t>(n);
  if (a.matched != nullptr) a.matched[s] = static_cast<int32_t>(matched);
}

// Tokens that are searched in the time in which another thread wakes up.
constexpr int64_t kPieceTokens = 65536;

}  // namespace

exn_status draft_lookup(const DraftLookupArgs& a, Workspace& ws) {
  if (ws.counting()) return EXN_OK;
  const exn_status status = check_sequences(a);
  if (status != EXN_OK) return status;
  ran(EXN_CPU_PATH(ws, "draft_lookup"));
  parallel_for(a.sequences, 1 + kPieceTokens / (a.capacity + 256), [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) look_up(a, s);
  });
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
