// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "cache.h"
#include "judge.h"
#include "maker.h"
#include "reals.h"

namespace exn::test {
inline namespace kv_length_op {

namespace {

// Calls in a row, each of which starts from the lengths that the last one left.
struct KvLengthCase : CaseBase {
  int32_t action = EXN_KV_ADVANCE;
  std::vector<int64_t> lengths;  // shape
  int64_t rows = 0;
  int64_t calls = 1;
  int64_t capacity = 1;
  std::string start;
  std::string sequence;
  std::string active;
  bool one_limit = false;
  bool visible = true;
};

void read_case(const Row& row, KvLengthCase* c) {
  c->action = row.choice("action", {"advance", "crop"});
  c->lengths = read_list(row.text("lengths"), 'x');
  c->rows = row.integer("rows");
  c->calls = row.integer("calls");
  c->capacity = row.integer("capacity");
  c->start = row.text("start");
  c->sequence = row.text("sequence");
  c->active = row.text("active");
  c->one_limit = row.choice("limit", {"-", "one", "each"}) == 1;
  c->visible = row.flag("visible");
}

// ---- inputs -------------------------------------------------------------------------------------

HostTensor make_length(const KvLengthCase& c) {
  if (c.start != "zero" && c.start != "random" && c.start != "full")
    fail("start: unknown word '" + c.start + "'");
  HostTensor length = make_tensor(Type::kI32, c.lengths);
  for (int64_t i = 0; i < length.size(); ++i) {
    const int64_t random = pick(c.seed, 0, i, c.capacity / 2 + 1);
    length.set_integer(i, c.start == "zero" ? 0 : c.start == "random" ? random : c.capacity);
  }
  return length;
}

// Of one call.
struct Inputs {
  HostTensor sequence, active, limit;
};

Inputs make_inputs(const KvLengthCase& c, int64_t call) {
  Inputs in;
  const int64_t lengths = make_tensor(Type::kI32, c.lengths).size();
  if (c.action == EXN_KV_CROP) {
    in.limit = make_tensor(Type::kI32, {c.one_limit ? 1 : lengths});
    for (int64_t i = 0; i < in.limit.size(); ++i)
      in.limit.set_integer(i, pick(c.seed, 1, call * lengths + i, c.capacity + 1));
    return in;
  }
  in.sequence =
      make_sequences(c.sequence, c.rows, lengths, c.seed, 2 + 8 * static_cast<uint64_t>(call));
  if (c.active == "-") return in;
  if (c.active != "some" && c.active != "none") fail("active: unknown word '" + c.active + "'");
  in.active = make_tensor(Type::kU8, {c.rows});
  for (int64_t r = 0; r < c.rows; ++r)  // any value but 0 is yes
    in.active.set_integer(r, c.active == "some" ? pick(c.seed, 3, call * c.rows + r, 3) : 0);
  return in;
}

// ---- oracle -------------------------------------------------------------------------------------

// One call.
struct Step {
  bool full = false;  // some row found its sequence full: the CPU refuses the call
  HostTensor length, slot, visible;
};

Step step(const KvLengthCase& c, const Inputs& in, const HostTensor& length) {
  Step after = {false, length, poisoned(Type::kI32, {c.rows}), poisoned(Type::kI32, {c.rows})};
  if (c.action == EXN_KV_CROP) {
    for (int64_t i = 0; i < length.size(); ++i) {
      const int64_t limit = in.limit.integer_at(c.one_limit ? 0 : i);
      after.length.set_integer(i, std::min(length.integer_at(i), limit));
    }
    return after;
  }
  for (int64_t r = 0; r < c.rows; ++r) {
    const int64_t sequence = id_or(in.sequence, r, 0), now = after.length.integer_at(sequence);
    const bool active = id_or(in.active, r, 1) != 0;
    const bool full = active && now >= c.capacity;
    const bool advances = active && !full;
    after.full = after.full || full;
    after.slot.set_integer(r, advances ? now : -1);
    after.visible.set_integer(r, full ? 0 : advances ? now + 1 : now);
    if (advances) after.length.set_integer(sequence, now + 1);
  }
  return after;
}

struct Played {
  ExactOutputs outputs;
  std::vector<bool> refused;  // of each call
};

Played play(const KvLengthCase& c, bool on_cpu) {
  Played played = {{{"length", make_length(c)}}, {}};
  for (int64_t call = 0; call < c.calls; ++call) {
    Step after = step(c, make_inputs(c, call), played.outputs[0].second);
    played.refused.push_back(on_cpu && after.full);
    if (played.refused.back()) {
      after.length = played.outputs[0].second;
      after.slot = poisoned(after.slot);
      after.visible = poisoned(after.visible);
    }
    played.outputs[0].second = after.length;
    if (c.action == EXN_KV_CROP) continue;
    const std::string where = "call " + text(call) + " ";
    played.outputs.emplace_back(where + "slot", after.slot);
    if (c.visible) played.outputs.emplace_back(where + "visible", after.visible);
  }
  return played;
}

// ---- case ---------------------------------------------------------------------------------------

std::unique_ptr<Instance> instantiate(const KvLengthCase& c, int32_t device_type) {
  const std::vector<bool> refused = play(c, true).refused;
  auto instance = std::make_unique<Instance>(device_type);
  const DLTensor* length = instance->in_out("length", make_length(c));
  for (int64_t call = 0; call < c.calls; ++call) {
    const Inputs in = make_inputs(c, call);
    exn_kv_length_params params = {};
    params.struct_size = sizeof params;
    params.length = length;
    params.sequence = instance->input(in.sequence);
    params.active = instance->input(in.active);
    params.limit = instance->input(in.limit);
    params.capacity = c.action == EXN_KV_ADVANCE ? c.capacity : 0;
    params.action = c.action;
    if (c.action == EXN_KV_ADVANCE) {
      params.slot = instance->output("slot", Type::kI32, {c.rows});
      if (c.visible) params.visible = instance->output("visible", Type::kI32, {c.rows});
    }
    instance->call(EXN_TEST_OP(kv_length), params, refused[at(call)]);
  }
  return instance;
}

Case make_case(const KvLengthCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) { return instantiate(c, device_type); };
  result.judge = [c](const Outputs& got) { return compare_bytes(play(c, false).outputs, got); };
  const std::vector<bool> refused = play(c, true).refused;
  result.cpu_refuses = std::find(refused.begin(), refused.end(), true) != refused.end();
  result.judge_on_cpu = [c](const Outputs& got) {
    return compare_bytes(play(c, true).outputs, got);
  };
  const int64_t lengths = make_length(c).size();
  // A row's slot and length; a length read and written, and its own limit.
  const int64_t bytes = c.action == EXN_KV_CROP ? lengths * (c.one_limit ? 8 : 12) : c.rows * 8;
  result.compulsory_bytes = static_cast<double>(bytes * c.calls);
  result.description = {{"action", text(c.action)},
                        {"rows", text(c.rows)},
                        {"lengths", text(lengths)},
                        {"calls", text(c.calls)}};
  return result;
}

void describe(Maker& m, exn_kv_length_params& p) {
  m.zero(FIELD(reserved));
  const int32_t action = m.choice(FIELD(action), EXN_KV_ADVANCE, EXN_KV_CROP);
  const Dim a = m.dim("sequences", 1, 3, 9), b = m.dim("layers", 0, 3, 5),
            rows = m.dim("rows", 0, 5, 60);
  const bool crops = action == EXN_KV_CROP;
  const bool is_matrix = crops && m.some("is_matrix", 2);
  int32_t* length = is_matrix ? m.integers(FIELD(length), Role::kInOut, {a, b}, kAnyRank)
                              : m.integers(FIELD(length), Role::kInOut, {a}, kAnyRank);
  const int64_t lengths = is_matrix ? times(a.size, b.size) : a.size;
  for (int64_t i = 0; i < lengths && m.complete(); ++i)
    length[i] = static_cast<int32_t>(m.random().below(30));
  m.integer(FIELD(capacity), m.size("capacity", 100 + m.random().below(3)), crops ? kAny64 : 1,
            crops ? INT64_MAX : kMost32);
  if (crops) {
    m.none(FIELD(sequence));
    m.none(FIELD(active));
    m.none(FIELD(slot));
    m.none(FIELD(visible));
    const Ids counts{0, kMost32, lengths > 0};
    // One for all lengths is sound too, so that its sizes are not those of `length`.
    const Dim c = m.derived(a.size), d = m.derived(b.size);
    if (m.some("one_limit", 2)) {
      m.ids(FIELD(limit), {m.derived(1)}, counts, kAnyRank);
    } else {
      is_matrix ? m.ids(FIELD(limit), {c, d}, counts, kAnyRank)
                : m.ids(FIELD(limit), {c}, counts, kAnyRank);
    }
    return;
  }
  m.none(FIELD(limit));
  m.ids(FIELD(sequence), {rows}, {0, a.size - 1, false}, kOptional);
  m.in(FIELD(active), kU8, {rows}, kOptional);
  m.out(FIELD(slot), kI32, {rows});
  m.out(FIELD(visible), kI32, {rows}, kOptional);
}

const Described kDescribed = EXN_DESCRIBED(kv_length);

const RegisteredOp kRegistered("kv_length", [] {
  return listed("kv_length", read_cases<KvLengthCase>("kv_length", read_case), make_case);
});

}  // namespace

}  // namespace kv_length_op
}  // namespace exn::test
