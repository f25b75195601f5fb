// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "judge.h"
#include "maker.h"
#include "reals.h"

namespace exn::test {
inline namespace draft_lookup_op {

namespace {

struct DraftLookupCase : CaseBase {
  int64_t sequences = 0;  // S
  int64_t capacity = 0;   // T
  int64_t pad = 0;
  int64_t offset = 0;
  std::string text;
  int64_t vocabulary = 0;
  std::string lengths;
  int64_t width = -1;  // A; -1: nothing is appended
  std::string counts;
  std::string active;
  std::string limit;
  int64_t most = 0;  // K
  int32_t min_ngram = 1, max_ngram = 1, most_matched = 0;
  bool matched = false;
  std::string hostile;
};

void read_case(const Row& row, DraftLookupCase* c) {
  c->sequences = row.integer("sequences");
  c->capacity = row.integer("capacity");
  c->pad = row.integer("pad");
  c->offset = row.integer("offset");
  c->text = row.text("text");
  c->vocabulary = row.integer("vocabulary");
  c->lengths = row.text("lengths");
  c->width = row.text("append") == "-" ? -1 : row.integer("append");
  c->counts = row.text("counts");
  c->active = row.text("active");
  c->limit = row.text("limit");
  c->most = row.integer("drafted");
  c->min_ngram = static_cast<int32_t>(row.integer("min_ngram"));
  c->max_ngram = static_cast<int32_t>(row.integer("max_ngram"));
  c->most_matched = static_cast<int32_t>(row.integer("most_matched"));
  c->matched = row.text("outputs") != "-" && row.subset("outputs", {"matched"}) != 0;
  c->hostile = row.text("hostile");
}

// ---- inputs -------------------------------------------------------------------------------------

struct Inputs {
  HostTensor context, length, append, append_count, active, limit;

  // Where token i of text s is.
  int64_t place(int64_t s, int64_t i) const { return s * context.stride + i; }
  int64_t token(int64_t s, int64_t i) const { return context.integer_at(place(s, i)); }
};

// Of sequence s: -1: not active; -2: it has what it must not have; else how many are appended.
int64_t appended_to(const Inputs& in, int64_t s) {
  if (in.active.given() && in.active.integer_at(s) == 0) return -1;
  const int64_t length = in.length.integer_at(s), capacity = in.context.cols;
  const int64_t width = in.append.given() ? in.append.cols : 0;
  const int64_t most = id_or(in.append_count, s, width);
  if (length < 0 || length > capacity || most < 0 || most > width) return -2;
  if (id_or(in.limit, s, 0) < 0) return -2;
  int64_t count = 0;
  while (count < most && in.append.integer_at(s * width + count) >= 0) ++count;
  return length + count <= capacity ? count : -2;
}

// Token i of text s, which has `length` of them after everything is appended.
int64_t token_at(const DraftLookupCase& c, int64_t s, int64_t i, int64_t length) {
  const int64_t random = pick(c.seed, 1, s * c.capacity + i, c.vocabulary);
  const int64_t from_end = length - i;  // of the last token 1
  if (c.text == "random") return random;
  if (c.text == "holes") return random % 5 == 0 ? -1 - random : random;
  if (c.text == "cycle") return i % c.vocabulary;
  // All that is there again is one token short of max_ngram, but for the last tokens.
  if (c.text == "nearly") return from_end == c.max_ngram ? INT32_MAX : i % c.vocabulary;
  if (c.text == "distinct") return i;
  // The last tokens are those of an earlier place, but for where that is cut off.
  if (c.text == "quote") {
    const int64_t quoted = std::min<int64_t>(24, length / 3);
    const int64_t first = pick(c.seed, 2, s, std::max<int64_t>(1, length - 2 * quoted));
    return from_end <= quoted ? first + quoted - from_end : i;
  }
  return fail("text: unknown word '" + c.text + "'"), 0;
}

void spoil(const DraftLookupCase& c, Inputs* in) {
  for (int64_t s = 0; s < c.sequences; ++s) {
    if (!is_spoiled(s)) continue;
    const bool low = s % 2 == 0;
    if (c.hostile == "length") {
      in->length.set_integer(s, low ? -1 : c.capacity + 1);
    } else if (c.hostile == "extremes") {
      in->length.set_integer(s, low ? INT32_MIN : INT32_MAX);
    } else if (c.hostile == "append_count") {
      in->append_count.set_integer(s, low ? -1 : c.width + 1);
    } else if (c.hostile == "limit") {
      in->limit.set_integer(s, low ? -1 : INT32_MIN);
    } else if (c.hostile == "room") {
      in->length.set_integer(s, c.capacity);
      in->append.set_integer(s * c.width, 1);
      if (in->append_count.given()) in->append_count.set_integer(s, c.width);
    } else {
      fail("hostile: unknown word '" + c.hostile + "'");
    }
  }
}

Inputs make_inputs(const DraftLookupCase& c) {
  Inputs in;
  in.context = make_tensor(Type::kI32, {c.sequences, c.capacity}, c.pad, c.offset);
  in.length = make_tensor(Type::kI32, {c.sequences});
  if (c.width >= 0) in.append = make_tensor(Type::kI32, {c.sequences, c.width});
  if (c.counts == "random") in.append_count = make_tensor(Type::kI32, {c.sequences});
  if (c.counts != "-" && c.counts != "random" && c.counts != "ends")
    fail("counts: unknown word '" + c.counts + "'");
  if (c.active != "-") in.active = make_tensor(Type::kU8, {c.sequences});
  if (c.limit != "-") in.limit = make_tensor(Type::kI32, {c.sequences});
  for (int64_t s = 0; s < c.sequences; ++s) {
    if (in.active.given()) in.active.set_integer(s, c.active == "some" ? pick(c.seed, 3, s, 3) : 0);
    if (in.limit.given())
      in.limit.set_integer(s, c.limit == "random" ? pick(c.seed, 4, s, c.most + 2) : 0);
    const bool ends = c.counts == "ends", counts = in.append_count.given();
    const int64_t width = std::max<int64_t>(0, c.width);
    const int64_t more = ends || counts ? pick(c.seed, 5, s, width + 1) : width;
    if (counts) in.append_count.set_integer(s, more);
    const int64_t space = c.capacity - more;
    const int64_t length = c.lengths == "full"     ? space
                           : c.lengths == "nearly" ? std::max<int64_t>(0, space - 1 - s % 4)
                           : c.lengths == "short"  ? std::min<int64_t>(space, s)
                           : c.lengths == "random"
                               ? pick(c.seed, 6, s, space + 1)
                               : std::min<int64_t>(space, std::stoll(c.lengths));
    in.length.set_integer(s, length);
    for (int64_t i = 0; i < width; ++i) {
      in.append.set_integer(s * width + i, i < more ? token_at(c, s, length + i, length + more)
                                                    : (ends && i == more ? -7 : 1));
    }
    // What is not the text yet would go on with it.
    for (int64_t i = 0; i < c.capacity; ++i)
      in.context.set_integer(in.place(s, i), token_at(c, s, i, length + more));
  }
  if (c.hostile != "-") spoil(c, &in);
  for (int64_t s = 0; s < c.sequences; ++s) {  // of sequences left out all may be rubbish
    if (appended_to(in, s) != -1) continue;
    in.length.set_integer(s, -5);
    if (in.append_count.given()) in.append_count.set_integer(s, INT32_MAX);
    if (in.limit.given()) in.limit.set_integer(s, INT32_MIN);
  }
  return in;
}

// ---- oracle -------------------------------------------------------------------------------------

struct Found {
  int64_t next = -1;
  int64_t tokens = 0;
};

// As draft_lookup.h says it.
Found find(const Inputs& in, int64_t s, int64_t length, int64_t least, int64_t most) {
  Found found;
  for (int64_t j = 1; j < length; ++j) {
    int64_t m = 0;
    while (m < std::min(j, most) && in.token(s, j - m - 1) == in.token(s, length - m - 1)) ++m;
    if (m >= least && m >= found.tokens) found = {j, m};
  }
  return found;
}

struct Expectation {
  Inputs after;  // its context and length
  HostTensor drafted, draft_length, matched;
  double bytes = 0;
};

Expectation expect(const DraftLookupCase& c, const Inputs& in) {
  Expectation e;
  e.after = in;
  e.drafted = make_tensor(Type::kI32, {c.sequences, c.most});
  e.draft_length = make_tensor(Type::kI32, {c.sequences});
  e.matched = make_tensor(Type::kI32, {c.sequences});
  e.bytes = static_cast<double>(24 * c.sequences);
  for (int64_t s = 0; s < c.sequences; ++s) {
    for (int64_t i = 0; i < c.most; ++i) e.drafted.set_integer(s * c.most + i, -1);
    const int64_t more = appended_to(in, s);
    e.draft_length.set_integer(s, more == -2 ? -1 : 0);
    e.matched.set_integer(s, 0);
    if (more < 0) continue;
    const int64_t before = in.length.integer_at(s), length = before + more;
    for (int64_t i = 0; i < more; ++i)
      e.after.context.set_integer(in.place(s, before + i), in.append.integer_at(s * c.width + i));
    e.after.length.set_integer(s, length);
    const Found found = find(e.after, s, length, c.min_ngram, c.max_ngram);
    const bool whole = found.tokens == c.max_ngram;
    const int64_t read = length - (whole ? found.next - c.max_ngram : 0);
    e.bytes += static_cast<double>(4 * read + 8 * more);
    if (found.next < 0) continue;
    int64_t n = std::min(c.most, c.capacity - 1 - length);
    if (in.limit.given()) n = std::min(n, in.limit.integer_at(s));
    std::vector<int64_t> draft;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t at = found.next + i;
      const int64_t token =
          at < length ? e.after.token(s, at) : draft[draft.size() - size_t(length - found.next)];
      if (token < 0) break;
      draft.push_back(token);
      e.drafted.set_integer(s * c.most + i, token);
    }
    e.draft_length.set_integer(s, static_cast<int64_t>(draft.size()));
    e.bytes += static_cast<double>(8 * draft.size());
    const int64_t most_matched = c.most_matched != 0 ? c.most_matched : c.max_ngram;
    int64_t m = 0;
    while (m < std::min(found.next, most_matched) &&
           e.after.token(s, found.next - m - 1) == e.after.token(s, length - m - 1))
      ++m;
    e.matched.set_integer(s, m);
  }
  return e;
}

// ---- case ---------------------------------------------------------------------------------------

std::unique_ptr<Instance> instantiate(const DraftLookupCase& c, const Inputs& in,
                                      int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  exn_draft_lookup_params p = {};
  p.struct_size = sizeof p;
  p.context = instance->in_out("context", in.context);
  p.length = instance->in_out("length", in.length);
  p.append = instance->input(in.append);
  p.append_count = instance->input(in.append_count);
  p.active = instance->input(in.active);
  p.limit = instance->input(in.limit);
  p.drafted = instance->output("drafted", Type::kI32, {c.sequences, c.most});
  p.draft_length = instance->output("draft_length", Type::kI32, {c.sequences});
  p.matched = c.matched ? instance->output("matched", Type::kI32, {c.sequences}) : nullptr;
  p.min_ngram = c.min_ngram;
  p.max_ngram = c.max_ngram;
  p.most_matched = c.most_matched;
  instance->call(EXN_TEST_OP(draft_lookup), p, c.hostile != "-");
  return instance;
}

Complaint judge(const DraftLookupCase& c, const Expectation& e, const Outputs& got) {
  ExactOutputs expected = {{"context", e.after.context},
                           {"length", e.after.length},
                           {"drafted", e.drafted},
                           {"draft_length", e.draft_length}};
  if (c.matched) expected.emplace_back("matched", e.matched);
  return compare_bytes(expected, got);
}

Case make_case(const DraftLookupCase& c) {
  Case result;
  const auto inputs = lazily([c] { return make_inputs(c); });
  const auto oracle = lazily([c, inputs] { return expect(c, inputs()); });
  result.instantiate = [c, inputs](int32_t device_type) {
    return instantiate(c, inputs(), device_type);
  };
  result.judge = [c, oracle](const Outputs& got) { return judge(c, oracle(), got); };
  result.cpu_refuses = c.hostile != "-";
  result.compulsory_bytes = oracle().bytes;
  result.description = {{"sequences", text(c.sequences)},
                        {"tokens", text(c.capacity)},
                        {"drafted", text(c.most)},
                        {"max_ngram", text(int64_t{c.max_ngram})}};
  return result;
}

void describe(Maker& m, exn_draft_lookup_params& p) {
  const Dim sequences = m.dim("sequences", 0, 3, 30), capacity = m.dim("capacity", 0, 60, 400),
            most = m.dim("drafted", 0, 4, 70), width = m.dim("append", 0, 4, 70);
  m.zero(FIELD(reserved));
  const int64_t longest = m.within("max_ngram", 1, EXN_LOOKUP_MOST);
  m.integer(FIELD(max_ngram), longest, 1, EXN_LOOKUP_MOST);
  m.integer(FIELD(min_ngram), m.within("min_ngram", 1, longest), 1, EXN_LOOKUP_MOST);
  m.integer(FIELD(most_matched),
            m.some("counted", 2) ? m.within("most_matched", longest, EXN_LOOKUP_MOST) : 0, 0,
            EXN_LOOKUP_MOST);
  m.in_out(FIELD(context), kI32, {sequences, capacity}, kRows);
  m.in(FIELD(active), kU8, {sequences}, kOptional);
  const bool strict = p.active == nullptr;
  const bool appends = width.size <= capacity.size && m.some("appends", 2);
  const int64_t longest_text = capacity.size - (appends ? width.size : 0);
  int32_t* length = m.integers(FIELD(length), Role::kInOut, {sequences});
  for (int64_t s = 0; s < sequences.size && m.complete(); ++s)
    length[s] = static_cast<int32_t>(m.random().below(longest_text + 1));
  // Counts without tokens are refused, but chance might give tokens as well.
  m.in(FIELD(append), kI32, {sequences, width}, kOptional | (appends ? kWanted : kNever));
  m.ids(FIELD(append_count), {sequences}, {0, width.size, strict},
        kOptional | (appends ? kPlain : kNever));
  m.ids(FIELD(limit), {sequences}, {0, kMost32, strict}, kOptional);
  m.out(FIELD(drafted), kI32, {sequences, most});
  m.out(FIELD(draft_length), kI32, {sequences});
  m.out(FIELD(matched), kI32, {sequences}, kOptional);
}

const Described kDescribed = EXN_DESCRIBED(draft_lookup);

const RegisteredOp kRegistered("draft_lookup", [] {
  return listed("draft_lookup", read_cases<DraftLookupCase>("draft_lookup", read_case), make_case);
});

}  // namespace

}  // namespace draft_lookup_op
}  // namespace exn::test
