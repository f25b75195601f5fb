// SPDX-License-Identifier: Apache-2.0
#include "cache.h"
#include "judge.h"
#include "parts.h"
#include "reals.h"

namespace exn::test {
inline namespace kv_append_op {

namespace {

struct KvAppendCase : CaseBase {
  CacheSpec cache;
  MatrixSpec rows;  // of Hkv * dh columns
  std::string sequence;
  std::string slot;
};

void read_case(const Row& row, KvAppendCase* c) {
  c->cache = read_cache(row, "cache", "cache_offset");
  c->rows = {row.integer("rows"),   c->cache.columns(), row.type("dtype"),   row.integer("pad"),
             row.integer("offset"), row.text("fill"),   row.number("scale"), row.text("special")};
  c->sequence = row.text("sequence");
  c->slot = row.text("slot");
}

// ---- inputs -------------------------------------------------------------------------------------

struct Inputs {
  CacheTensors cache;
  HostTensor k, v, sequence, slot;
};

HostTensor make_slots(const KvAppendCase& c) {
  HostTensor t = make_tensor(Type::kI32, {c.rows.rows});
  const std::vector<int64_t> order = shuffled(c.cache.slots, c.seed, 5);
  for (int64_t r = 0; r < c.rows.rows; ++r) {
    int64_t slot = r;
    if (c.slot == "shuffled" || c.slot == "some") {
      slot = order.at(at(r));
    } else if (c.slot == "each") {
      slot = r / c.cache.sequences;
    } else if (c.slot == "last") {
      slot = c.cache.slots - 1 - r;
    } else if (c.slot == "off") {
      slot = -1;
    } else if (c.slot != "first") {
      fail("slot: unknown word '" + c.slot + "'");
    }
    if (c.slot == "some" && pick(c.seed, 6, r, 3) == 0) slot = -1;
    t.set_integer(r, slot);
  }
  return t;
}

Inputs make_inputs(const KvAppendCase& c) {
  Inputs in;
  in.cache = full_cache(c.cache, c.seed, 2);
  in.k = make_head_rows(c.rows, c.cache.dim, c.seed, 0);
  in.v = make_head_rows(c.rows, c.cache.dim, c.seed, 1);
  in.sequence = make_sequences(c.sequence, c.rows.rows, c.cache.sequences, c.seed, 4);
  in.slot = make_slots(c);
  return in;
}

// ---- oracle -------------------------------------------------------------------------------------

// One side of the cache after the call.
struct SideExpected {
  HostTensor bits;               // where nothing is converted
  std::vector<Expected> values;  // else: the nearest, but subnormals may be flushed
};

SideExpected oracle(const KvAppendCase& c, const Inputs& in, const HostTensor& before,
                    const HostTensor& rows) {
  SideExpected after = {before, {}};
  for (int64_t i = 0; i < before.cols; ++i) after.values.push_back({before.at(0, i), 0});
  const int64_t size = size_of(rows.type);
  for (int64_t r = 0; r < rows.rows; ++r) {
    const int64_t slot = in.slot.integer_at(r);
    if (slot < 0) continue;
    for (int64_t i = 0; i < rows.cols; ++i) {
      const int64_t to = cache_index(c.cache, in.cache.block_table, id_or(in.sequence, r, 0), slot,
                                     i / c.cache.dim, i % c.cache.dim);
      if (rows.type == before.type) {
        std::memcpy(&after.bits.bytes[at(to * size)], &rows.bytes[at((r * rows.stride + i) * size)],
                    at(size));
      }
      const double kept = rounded_to(before.type, rows.at(r, i));
      const double tiny = smallest(before.type);
      after.values[at(to)] = {kept, std::fabs(kept) <= tiny ? tiny : 0.0};
    }
  }
  return after;
}

// ---- case ---------------------------------------------------------------------------------------

// Spoiled: some slots out of range, which a device takes for -1.
Inputs make_inputs(const KvAppendCase& c, bool spoiled, int64_t low, int64_t high) {
  Inputs in = make_inputs(c);
  if (spoiled) in.slot = with_strays(in.slot, low, high);
  return in;
}

std::unique_ptr<Instance> instantiate(const KvAppendCase& c, bool spoiled, int32_t device_type) {
  const Inputs in = make_inputs(c, spoiled, -2, c.cache.slots);
  auto instance = std::make_unique<Instance>(device_type);
  exn_kv_append_params params = {};
  params.struct_size = sizeof params;
  params.cache = in_out_cache(instance.get(), c.cache, in.cache);
  params.k = instance->input(in.k);
  params.v = instance->input(in.v);
  params.sequence = instance->input(in.sequence);
  params.slot = instance->input(in.slot);
  instance->call(EXN_TEST_OP(kv_append), params);
  return instance;
}

Case case_of(const KvAppendCase& c, bool spoiled) {
  Case result;
  result.instantiate = [c, spoiled](int32_t device_type) {
    return instantiate(c, spoiled, device_type);
  };
  const auto after = lazily([c, spoiled] {
    const Inputs in = make_inputs(c, spoiled, -1, -1);
    return std::pair{oracle(c, in, in.cache.k, in.k), oracle(c, in, in.cache.v, in.v)};
  });
  result.judge = [c, after](const Outputs& got) {
    const auto& [k, v] = after();
    if (c.rows.type == c.cache.type)
      return first_of({compare_bytes("k", k.bits, got[0]), compare_bytes("v", v.bits, got[1])});
    return first_of({compare("k", k.values, got[0]), compare("v", v.values, got[1])});
  };
  const HostTensor slot = make_slots(c);
  int64_t active = 0;
  for (int64_t r = 0; r < c.rows.rows; ++r) active += slot.integer_at(r) >= 0;
  const int64_t elements = 2 * active * c.cache.columns();
  result.compulsory_bytes = bytes_of(elements, c.rows.type) + bytes_of(elements, c.cache.type);
  result.description = {{"rows", text(c.rows.rows)},
                        {"heads", text(c.cache.heads)},
                        {"head_dim", text(c.cache.dim)},
                        {"dtype", quoted(name_of(c.rows.type))},
                        {"cache_dtype", quoted(name_of(c.cache.type))},
                        {"layout", layout_name(c.cache)},
                        {"sequences", text(c.cache.sequences)},
                        {"slots", text(c.cache.slots)},
                        {"page", text(c.cache.page)}};
  return result;
}

void describe(Maker& m, exn_kv_append_params& p) {
  constexpr CacheNames kNames = CACHE_NAMES("cache");
  const CacheShape c = cache_shape(m, kNames);
  const Dim rows = m.dim("rows", 0, 4, 40);
  const TypeOf type = m.type(kFloats);
  cache(m, p.cache, kNames, c, Role::kInOut);
  m.in(FIELD(k), type, {rows, c.heads, c.dim}, kRows);
  m.in(FIELD(v), type, {rows, c.heads, c.dim}, kRows);
  const int32_t* sequence =
      m.ids(FIELD(sequence), {rows}, {0, c.sequences.size - 1, false}, kOptional);
  int32_t* slot = m.ids(FIELD(slot), {rows}, {-1, c.slots - 1, true});
  distinct_slots(m, slot, sequence, rows.size, c.slots);
}

const Described kDescribed = EXN_DESCRIBED(kv_append);

const RegisteredOp kRegistered("kv_append", [] {
  const std::vector<KvAppendCase> cases = read_cases<KvAppendCase>("kv_append", read_case);
  auto all = listed<KvAppendCase>("kv_append", cases, [](auto& c) { return case_of(c, false); });
  append_spoiled<KvAppendCase>(&all, "kv_append", cases, [](auto& c) { return case_of(c, true); });
  return all;
});

}  // namespace

}  // namespace kv_append_op
}  // namespace exn::test
