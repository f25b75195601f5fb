// SPDX-License-Identifier: Apache-2.0
#include "cache.h"
#include "judge.h"
#include "parts.h"
#include "reals.h"

namespace exn::test {
inline namespace kv_copy_op {

namespace {

struct KvCopyCase : CaseBase {
  int64_t count = 0;
  CacheSpec source;
  CacheSpec destination;  // of `source` if in_place
  bool in_place = false;
  bool from_sequence = false;
  bool to_sequence = false;
  std::string entries;
};

void read_case(const Row& row, KvCopyCase* c) {
  c->count = row.integer("count");
  c->source = read_cache(row, "dtype", "offset");
  c->in_place = row.flag("in_place");
  c->destination = c->source;
  if (!c->in_place) {
    read_layout(row, "to_layout", "to_sequences", "to_slots", "to_page", &c->destination);
    c->destination.offset = row.integer("to_offset");
  }
  const int32_t given = row.choice("sequence", {"-", "from", "to", "both"});
  c->from_sequence = given & 1;
  c->to_sequence = given & 2;
  c->entries = row.text("entries");
}

// ---- inputs -------------------------------------------------------------------------------------

struct Inputs {
  CacheTensors source;
  CacheTensors destination;  // not given if in_place
  HostTensor from_sequence, from_slot, to_sequence, to_slot;
};

struct CopyEntry {
  int64_t from_sequence = 0, from_slot = 0, to_sequence = 0, to_slot = 0;
};

CopyEntry copy_entry(const KvCopyCase& c, int64_t i, const std::vector<int64_t>& order) {
  CopyEntry e;
  e.from_sequence = i % c.source.sequences;
  e.to_sequence = (i + 1) % c.destination.sequences;
  e.from_slot = i;
  e.to_slot = i;
  if (c.entries == "compact") {
    e.from_slot = 2 * i + pick(c.seed, 4, i, 2);
    e.to_sequence = e.from_sequence;
  } else if (c.entries == "fork") {
    e.from_sequence = 0;
    e.to_sequence = c.destination.sequences - 1;
  } else if (c.entries == "chain") {
    e.from_sequence = e.to_sequence = 0;
    e.to_slot = i + 1;
  } else if (c.entries == "random" || c.entries == "off") {
    e.from_slot = pick(c.seed, 4, i, c.source.slots);
    e.to_slot = order.at(at(i));
    if (c.entries == "off" && pick(c.seed, 5, i, 4) == 0) e.from_slot = -1;
    if (c.entries == "off" && pick(c.seed, 6, i, 4) == 0) e.to_slot = -1;
  } else if (c.entries != "same") {
    fail("entries: unknown word '" + c.entries + "'");
  }
  return e;
}

void make_entries(const KvCopyCase& c, Inputs* in) {
  if (c.from_sequence) in->from_sequence = make_tensor(Type::kI32, {c.count});
  if (c.to_sequence) in->to_sequence = make_tensor(Type::kI32, {c.count});
  in->from_slot = make_tensor(Type::kI32, {c.count});
  in->to_slot = make_tensor(Type::kI32, {c.count});
  const std::vector<int64_t> order = shuffled(c.destination.slots, c.seed, 8);
  for (int64_t i = 0; i < c.count; ++i) {
    const CopyEntry e = copy_entry(c, i, order);
    if (c.from_sequence) in->from_sequence.set_integer(i, e.from_sequence);
    if (c.to_sequence) in->to_sequence.set_integer(i, e.to_sequence);
    in->from_slot.set_integer(i, e.from_slot);
    in->to_slot.set_integer(i, e.to_slot);
  }
}

// ---- oracle -------------------------------------------------------------------------------------

// The destination after the call.
CacheTensors oracle(const KvCopyCase& c, const Inputs& in) {
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

// ---- case ---------------------------------------------------------------------------------------

// Spoiled: some slots out of range, which a device takes for -1.
Inputs make_inputs(const KvCopyCase& c, bool spoiled, int64_t low, int64_t high) {
  Inputs in;
  in.source = full_cache(c.source, c.seed, 0);
  if (!c.in_place) in.destination = full_cache(c.destination, c.seed + 1, 2);
  make_entries(c, &in);
  if (spoiled) in.from_slot = with_strays(in.from_slot, low, high);
  return in;
}

std::unique_ptr<Instance> instantiate(const KvCopyCase& c, bool spoiled, int32_t device_type) {
  const Inputs in = make_inputs(c, spoiled, -2, c.source.slots);
  auto instance = std::make_unique<Instance>(device_type);
  exn_kv_copy_params params = {};
  params.struct_size = sizeof params;
  params.destination =
      in_out_cache(instance.get(), c.destination, c.in_place ? in.source : in.destination);
  params.source =
      c.in_place ? params.destination : input_cache(instance.get(), c.source, in.source);
  params.from_sequence = instance->input(in.from_sequence);
  params.from_slot = instance->input(in.from_slot);
  params.to_sequence = instance->input(in.to_sequence);
  params.to_slot = instance->input(in.to_slot);
  instance->call(EXN_TEST_OP(kv_copy), params);
  return instance;
}

Case case_of(const KvCopyCase& c, bool spoiled) {
  Case result;
  result.instantiate = [c, spoiled](int32_t device_type) {
    return instantiate(c, spoiled, device_type);
  };
  const auto after = lazily([c, spoiled] { return oracle(c, make_inputs(c, spoiled, -1, -1)); });
  result.judge = [after](const Outputs& got) {
    return first_of({compare_bytes("k", after().k, got[0]), compare_bytes("v", after().v, got[1])});
  };
  Inputs in;
  make_entries(c, &in);
  int64_t active = 0;
  for (int64_t i = 0; i < c.count; ++i)
    active += in.from_slot.integer_at(i) >= 0 && in.to_slot.integer_at(i) >= 0;
  result.compulsory_bytes = 2 * bytes_of(2 * active * c.source.columns(), c.source.type);
  result.description = {{"entries", text(c.count)},
                        {"heads", text(c.source.heads)},
                        {"head_dim", text(c.source.dim)},
                        {"dtype", quoted(name_of(c.source.type))},
                        {"layout", layout_name(c.source)},
                        {"to_layout", layout_name(c.destination)},
                        {"slots", text(c.source.slots)},
                        {"to_slots", text(c.destination.slots)},
                        {"in_place", text(c.in_place)},
                        {"sequences", text(c.source.sequences)},
                        {"to_sequences", text(c.destination.sequences)}};
  return result;
}

void describe(Maker& m, exn_kv_copy_params& p) {
  constexpr CacheNames kFrom = CACHE_NAMES("source"), kTo = CACHE_NAMES("destination");
  const CacheShape from = cache_shape(m, kFrom);
  const bool in_place = m.some("in_place", 3);
  const Dim entries = m.dim("entries", 0, 5, 60);
  CacheShape to = from;
  if (!in_place) {
    const int32_t layout = cache_layout(m, kTo);
    to =
        cache_shape(m, kTo, layout, m.dim(kTo.sequences, 1, 3, 5), from.heads, from.dim, from.type);
  }
  cache(m, p.destination, kTo, to, Role::kInOut);
  if (in_place) {
    cache_again(m, p.source, kFrom, p.destination);
  } else {
    cache(m, p.source, kFrom, from, Role::kIn);
  }
  m.ids(FIELD(from_sequence), {entries}, {0, from.sequences.size - 1, false}, kOptional);
  m.ids(FIELD(from_slot), {entries}, {-1, from.slots - 1, false});
  const int32_t* sequence =
      m.ids(FIELD(to_sequence), {entries}, {0, to.sequences.size - 1, false}, kOptional);
  int32_t* slot = m.ids(FIELD(to_slot), {entries}, {-1, to.slots - 1, false});
  distinct_slots(m, slot, sequence, entries.size, to.slots);
}

const Described kDescribed = EXN_DESCRIBED(kv_copy);

const RegisteredOp kRegistered("kv_copy", [] {
  const std::vector<KvCopyCase> cases = read_cases<KvCopyCase>("kv_copy", read_case);
  auto all = listed<KvCopyCase>("kv_copy", cases, [](auto& c) { return case_of(c, false); });
  append_spoiled<KvCopyCase>(&all, "kv_copy", cases, [](auto& c) { return case_of(c, true); });
  return all;
});

}  // namespace

}  // namespace kv_copy_op
}  // namespace exn::test
