// SPDX-License-Identifier: Apache-2.0
//
// The ops on KV caches and the row schedules. layer_schedule is not here: its tables are made on
// the host.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "caches.h"
#include "table.h"
#include "judge.h"
#include "oracle_cache.h"

namespace exn::test {

namespace {

constexpr unsigned char kUntouched = 0xCD;

HostTensor filled(HostTensor tensor, unsigned char byte) {
  std::fill(tensor.bytes.begin(), tensor.bytes.end(), byte);
  return tensor;
}

// The bytes of row `row`, without its padding.
std::vector<unsigned char> row_bytes(const HostTensor& t, int64_t row) {
  const auto size = static_cast<int64_t>(size_of(t.type));
  const auto begin = t.bytes.begin() + row * t.stride * size;
  return {begin, begin + t.cols * size};
}

std::vector<unsigned char> untouched_row(const HostTensor& t) {
  return std::vector<unsigned char>(static_cast<size_t>(t.cols) * size_of(t.type), kUntouched);
}

Complaint compare_row(const std::string& name, int64_t row, const HostTensor& got,
                      const std::vector<unsigned char>& expected) {
  return row_bytes(got, row) == expected ? "" : name + " row " + text(row) + ": other bits";
}

// ---- slots --------------------------------------------------------------------------------------

std::unique_ptr<Instance> instantiate(const KvAppendCase& c, const KvAppendInputs& in,
                                      int32_t device_type) {
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

Case make_case(const KvAppendCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) {
    return instantiate(c, make_inputs(c), device_type);
  };
  const auto oracle = lazily([c] { return kv_append_oracle(c, make_inputs(c)); });
  result.judge = [oracle](const Outputs& got) {
    return first_of({compare("k", oracle().k, got[0]), compare("v", oracle().v, got[1])});
  };
  const HostTensor slot = make_inputs(c).slot;
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

std::unique_ptr<Instance> instantiate(const KvCopyCase& c, const KvCopyInputs& in,
                                      int32_t device_type) {
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

Case make_case(const KvCopyCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) {
    return instantiate(c, make_inputs(c), device_type);
  };
  const auto oracle = lazily([c] { return kv_copy_oracle(c, make_inputs(c)); });
  result.judge = [oracle](const Outputs& got) {
    return first_of(
        {compare_bytes("k", oracle().k, got[0]), compare_bytes("v", oracle().v, got[1])});
  };
  const KvCopyInputs in = make_inputs(c);
  int64_t active = 0;
  for (int64_t i = 0; i < c.count; ++i) {
    active += in.from_slot.integer_at(i) >= 0 && in.to_slot.integer_at(i) >= 0;
  }
  result.compulsory_bytes = 2 * bytes_of(2 * active * c.source.columns(), c.source.type);
  result.description = {
      {"entries", text(c.count)},        {"heads", text(c.source.heads)},
      {"head_dim", text(c.source.dim)},  {"dtype", quoted(name_of(c.source.type))},
      {"layout", layout_name(c.source)}, {"to_layout", layout_name(c.destination)},
      {"slots", text(c.source.slots)},   {"to_slots", text(c.destination.slots)},
      {"in_place", text(c.in_place)},    {"sequences", text(c.source.sequences)},
      {"to_sequences", text(c.destination.sequences)}};
  return result;
}

std::vector<int32_t> initial_lengths(const KvLengthCase& c) {
  const HostTensor length = make_inputs(c, 0).length;
  std::vector<int32_t> values;
  for (int64_t i = 0; i < length.size(); ++i) {
    values.push_back(static_cast<int32_t>(length.integer_at(i)));
  }
  return values;
}

std::unique_ptr<Instance> instantiate(const KvLengthCase& c, int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  const DLTensor* length = instance->in_out("length", make_inputs(c, 0).length);
  for (int64_t call = 0; call < c.calls; ++call) {
    const KvLengthInputs in = make_inputs(c, call);
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
    instance->call(EXN_TEST_OP(kv_length), params);
  }
  return instance;
}

Complaint judge(const KvLengthCase& c, const Outputs& got) {
  std::vector<int32_t> length = initial_lengths(c);
  size_t next = 1;
  for (int64_t call = 0; call < c.calls; ++call) {
    const KvLengthExpected expected = kv_length_oracle(c, make_inputs(c, call), length);
    length = expected.length;
    if (c.action == EXN_KV_CROP) continue;
    const std::string where = "call " + text(call) + " ";
    const HostTensor& slot = got[next++];
    Complaint complaint = compare_integers(where + "slot", widened(expected.slot), slot);
    if (complaint.empty() && c.visible) {
      complaint = compare_integers(where + "visible", widened(expected.visible), got[next++]);
    }
    if (!complaint.empty()) return complaint;
  }
  return compare_integers("length", widened(length), got[0]);
}

bool fills_up(const KvLengthCase& c) {
  std::vector<int32_t> length = initial_lengths(c);
  bool full = false;
  for (int64_t call = 0; call < c.calls; ++call) {
    const KvLengthExpected expected = kv_length_oracle(c, make_inputs(c, call), length);
    length = expected.length;
    full = full || expected.full;
  }
  return full;
}

Case make_case(const KvLengthCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) { return instantiate(c, device_type); };
  result.judge = [c](const Outputs& got) { return judge(c, got); };
  const auto lengths = static_cast<int64_t>(initial_lengths(c).size());
  // A row's slot and length; a length read and written, and its own limit.
  const int64_t bytes = c.action == EXN_KV_CROP ? lengths * (c.one_limit ? 8 : 12) : c.rows * 8;
  result.compulsory_bytes = static_cast<double>(bytes * c.calls);
  result.cpu_refuses = fills_up(c);
  result.description = {{"action", text(c.action)},
                        {"rows", text(c.rows)},
                        {"lengths", text(lengths)},
                        {"calls", text(c.calls)}};
  return result;
}

// ---- ids out of range: the CPU refuses them, a device switches the row off ----------------------

// What a spoiled row gets: every third one, beginning with the second.
bool is_spoiled(int64_t row) { return row % 3 == 1; }

// Puts `beyond` or, in turn, -2 into the spoiled rows of `ids`.
HostTensor with_strays(HostTensor ids, int64_t beyond) {
  for (int64_t r = 0; r < ids.size(); ++r) {
    if (is_spoiled(r)) ids.set_integer(r, r % 2 == 0 ? beyond : -2);
  }
  return ids;
}

// The same rows off, as the contract says it.
HostTensor without_strays(HostTensor ids) {
  for (int64_t r = 0; r < ids.size(); ++r) {
    if (is_spoiled(r)) ids.set_integer(r, -1);
  }
  return ids;
}

Case spoiled_case(const KvAppendCase& c) {
  Case result = make_case(c);
  result.instantiate = [c](int32_t device_type) {
    KvAppendInputs in = make_inputs(c);
    in.slot = with_strays(in.slot, c.cache.slots);
    return instantiate(c, in, device_type);
  };
  const auto oracle = lazily([c] {
    KvAppendInputs in = make_inputs(c);
    in.slot = without_strays(in.slot);
    return kv_append_oracle(c, in);
  });
  result.judge = [oracle](const Outputs& got) {
    return first_of({compare("k", oracle().k, got[0]), compare("v", oracle().v, got[1])});
  };
  return result;
}

Case spoiled_case(const KvCopyCase& c) {
  Case result = make_case(c);
  result.instantiate = [c](int32_t device_type) {
    KvCopyInputs in = make_inputs(c);
    in.from_slot = with_strays(in.from_slot, c.source.slots);
    return instantiate(c, in, device_type);
  };
  const auto oracle = lazily([c] {
    KvCopyInputs in = make_inputs(c);
    in.from_slot = without_strays(in.from_slot);
    return kv_copy_oracle(c, in);
  });
  result.judge = [oracle](const Outputs& got) {
    return first_of(
        {compare_bytes("k", oracle().k, got[0]), compare_bytes("v", oracle().v, got[1])});
  };
  return result;
}

// ---- attention ----------------------------------------------------------------------------------

std::unique_ptr<Instance> instantiate(const AttentionCase& c, const AttentionInputs& in,
                                      int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  exn_attention_params params = {};
  params.struct_size = sizeof params;
  params.query = instance->input(in.query);
  params.cache = input_cache(instance.get(), c.cache, in.cache);
  params.sequence = instance->input(in.sequence);
  params.visible = instance->input(in.visible);
  const HostTensor out =
      make_heads(c.out_type, c.query.rows, c.query_heads, c.cache.dim, c.out_pad, c.out_offset);
  params.out = instance->in_out("out", filled(out, kUntouched));
  if (c.scores) {
    params.scores =
        instance->output("scores", Type::kF32, {c.query.rows, c.query_heads, c.score_slots});
  }
  params.scale = c.scale;
  params.softcap = c.softcap;
  instance->call(EXN_TEST_OP(attention), params);
  return instance;
}

// Rows of one sequence see the same slots: each is read once.
int64_t slots_read(const AttentionCase& c) {
  const AttentionInputs in = make_inputs(c);
  std::vector<int64_t> most(static_cast<size_t>(c.cache.sequences), 0);
  for (int64_t r = 0; r < c.query.rows; ++r) {
    int64_t& seen = most[in.sequence.given() ? static_cast<size_t>(in.sequence.integer_at(r)) : 0];
    seen = std::max(seen, in.visible.integer_at(r));
  }
  return std::accumulate(most.begin(), most.end(), int64_t{0});
}

Case make_case(const AttentionCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) {
    return instantiate(c, make_inputs(c), device_type);
  };
  const auto oracle = lazily([c] { return attention_oracle(c, make_inputs(c)); });
  result.judge = [c, oracle](const Outputs& got) {
    return first_of({compare("out", oracle().out, got[0]),
                     c.scores ? compare("scores", oracle().scores, got[1]) : ""});
  };
  const int64_t elements = c.query.rows * c.query.cols;
  result.compulsory_bytes =
      bytes_of(2 * slots_read(c) * c.cache.columns(), c.cache.type) +
      bytes_of(elements, c.query.type) + bytes_of(elements, c.out_type) +
      bytes_of(c.scores ? c.query.rows * c.query_heads * c.score_slots : 0, Type::kF32);
  result.description = {{"rows", text(c.query.rows)},      {"heads", text(c.query_heads)},
                        {"kv_heads", text(c.cache.heads)}, {"head_dim", text(c.cache.dim)},
                        {"slots", text(c.cache.slots)},    {"dtype", quoted(name_of(c.cache.type))},
                        {"layout", layout_name(c.cache)},  {"visible", quoted(c.visible)},
                        {"page", text(c.cache.page)},      {"sequences", text(c.cache.sequences)},
                        {"scores", text(c.scores)}};
  return result;
}

// A row that sees more slots than there are is NaN, and so are its scores.
Case spoiled_case(const AttentionCase& c) {
  Case result = make_case(c);
  result.instantiate = [c](int32_t device_type) {
    AttentionInputs in = make_inputs(c);
    in.visible = with_strays(in.visible, c.cache.slots + 1);
    return instantiate(c, in, device_type);
  };
  const auto oracle = lazily([c] {
    AttentionExpected expected = attention_oracle(c, make_inputs(c));
    const auto spoil = [&c](std::vector<Expected>* values, int64_t columns) {
      for (int64_t i = 0; i < c.query.rows * columns; ++i) {
        if (is_spoiled(i / columns)) (*values)[static_cast<size_t>(i)] = {NAN, 0};
      }
    };
    spoil(&expected.out, c.query.cols);
    if (c.scores && c.score_slots > 0) spoil(&expected.scores, c.query_heads * c.score_slots);
    return expected;
  });
  result.judge = [c, oracle](const Outputs& got) {
    return first_of({compare("out", oracle().out, got[0]),
                     c.scores ? compare("scores", oracle().scores, got[1]) : ""});
  };
  return result;
}

// ---- rows ---------------------------------------------------------------------------------------

struct StackTensors {
  const DLTensor* stack;
  const DLTensor* tags;
  const DLTensor* count;
};

exn_hidden_stack_params stack_call(Instance* instance, const HiddenStackCase& c, int64_t call,
                                   const StackTensors& stack) {
  const HiddenStackInputs in = make_inputs(c, call);
  exn_hidden_stack_params params = {};
  params.struct_size = sizeof params;
  params.stack = stack.stack;
  params.stack_tags = stack.tags;
  params.count = stack.count;
  params.action = c.script[static_cast<size_t>(call)];
  params.rows = instance->input(in.rows);
  params.tags = instance->input(in.tags);
  params.mask = instance->input(in.mask);
  if (params.action == EXN_STACK_GATHER) {
    params.rows =
        instance->output("rows", c.rows.type, {c.gathered, c.rows.cols}, c.rows.pad, c.rows.offset);
    if (c.tags > 0) params.tags = instance->output("tags", Type::kI32, {c.tags, c.gathered});
  }
  if (c.overflow) params.overflow = instance->output("overflow", Type::kI32, {1});
  return params;
}

std::unique_ptr<Instance> instantiate(const HiddenStackCase& c, int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  const HostTensor rows =
      make_tensor(c.rows.type, {c.capacity, c.rows.cols}, c.stack_pad, c.stack_offset);
  StackTensors stack = {};
  stack.stack = instance->in_out("stack", filled(rows, 0xFF));  // NaN
  stack.count = instance->in_out("count", filled(make_tensor(Type::kI32, {1}), 0));
  if (c.tags > 0) {
    const HostTensor tags = make_tensor(Type::kI32, {c.tags, c.capacity});
    stack.tags = instance->in_out("stack_tags", filled(tags, 0x7B));
  }
  for (int64_t call = 0; call < static_cast<int64_t>(c.script.size()); ++call) {
    instance->call(EXN_TEST_OP(hidden_stack), stack_call(instance.get(), c, call, stack));
  }
  return instance;
}

// Row `i` of rows and tags, which hold `entry` of the stack.
Complaint judge_entry(const HiddenStackCase& c, const HiddenStackOracle::Entry& entry,
                      const std::string& where, int64_t i, const HostTensor& rows,
                      const HostTensor* tags) {
  const HiddenStackInputs in = make_inputs(c, entry.call);
  const Complaint complaint = compare_row(where, i, rows, row_bytes(in.rows, entry.row));
  if (!complaint.empty() || tags == nullptr) return complaint;
  for (int64_t m = 0; m < c.tags; ++m) {
    const int64_t expected = in.tags.integer_at(m * c.rows.rows + entry.row);
    if (tags->integer_at(m * tags->cols + i) != expected) {
      return where + " row " + text(i) + ": other tags";
    }
  }
  return "";
}

Complaint judge_gather(const HiddenStackCase& c, const HiddenStackOracle& oracle, bool fits,
                       const std::string& where, const HostTensor& rows, const HostTensor* tags) {
  const auto entries = fits ? static_cast<int64_t>(oracle.entries().size()) : 0;
  for (int64_t i = 0; i < c.gathered; ++i) {
    Complaint complaint;
    if (i < entries) {
      complaint = judge_entry(c, oracle.entries()[static_cast<size_t>(i)], where, i, rows, tags);
    } else {
      complaint = compare_row(where + "beyond", i, rows, untouched_row(rows));
      for (int64_t m = 0; tags != nullptr && m < c.tags; ++m) {
        if (tags->integer_at(m * c.gathered + i) != -1)
          complaint = where + "a tag beyond is not -1";
      }
    }
    if (!complaint.empty()) return complaint;
  }
  return "";
}

Complaint judge(const HiddenStackCase& c, const Outputs& got) {
  HiddenStackOracle oracle(c);
  const HostTensor* const stack_tags = c.tags > 0 ? &got[2] : nullptr;
  size_t next = c.tags > 0 ? 3 : 2;
  for (int64_t call = 0; call < static_cast<int64_t>(c.script.size()); ++call) {
    const std::string where = "call " + text(call) + " ";
    const int64_t over = oracle.step(call, make_inputs(c, call));
    Complaint complaint;
    if (c.script[static_cast<size_t>(call)] == EXN_STACK_GATHER) {
      const HostTensor& rows = got[next++];
      const HostTensor* const tags = c.tags > 0 ? &got[next++] : nullptr;
      complaint = judge_gather(c, oracle, over == 0, where, rows, tags);
    }
    if (c.overflow && complaint.empty()) {
      complaint = compare_integers(where + "overflow", {over}, got[next++]);
    }
    if (!complaint.empty()) return complaint;
  }
  const auto entries = static_cast<int64_t>(oracle.entries().size());
  for (int64_t i = 0; i < entries; ++i) {
    const Complaint complaint =
        judge_entry(c, oracle.entries()[static_cast<size_t>(i)], "stack", i, got[0], stack_tags);
    if (!complaint.empty()) return complaint;
  }
  return compare_integers("count", {entries}, got[1]);
}

// Bytes of rows pushed and gathered, and whether some call does not fit.
void play(const HiddenStackCase& c, double* bytes, bool* overflows) {
  HiddenStackOracle oracle(c);
  int64_t moved = 0;
  for (int64_t call = 0; call < static_cast<int64_t>(c.script.size()); ++call) {
    const auto before = static_cast<int64_t>(oracle.entries().size());
    const int64_t over = oracle.step(call, make_inputs(c, call));
    const auto after = static_cast<int64_t>(oracle.entries().size());
    *overflows = *overflows || over > 0;
    if (c.script[static_cast<size_t>(call)] == EXN_STACK_PUSH) moved += after - before;
    if (c.script[static_cast<size_t>(call)] == EXN_STACK_GATHER && over == 0) moved += after;
  }
  *bytes = 2 * (bytes_of(moved * c.rows.cols, c.rows.type) + bytes_of(moved * c.tags, Type::kI32));
}

Case make_case(const HiddenStackCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) { return instantiate(c, device_type); };
  result.judge = [c](const Outputs& got) { return judge(c, got); };
  play(c, &result.compulsory_bytes, &result.cpu_refuses);
  result.description = {{"rows", text(c.rows.rows)},
                        {"dim", text(c.rows.cols)},
                        {"dtype", quoted(name_of(c.rows.type))},
                        {"calls", text(static_cast<int64_t>(c.script.size()))}};
  return result;
}

Case make_case(const RowCompactionCase& c) {
  Case result;
  const bool gather = c.direction == EXN_ROWS_GATHER;
  result.instantiate = [c, gather](int32_t device_type) {
    auto instance = std::make_unique<Instance>(device_type);
    const RowCompactionInputs in = make_inputs(c);
    const DLTensor* input = instance->input(in.input);
    const DLTensor* list = instance->input(in.list);
    const DLTensor* out = instance->output(
        "out", c.type, {gather ? c.listed + c.spare : c.rows, c.cols}, c.out_pad, c.out_offset);
    const exn_row_compaction_params params = {sizeof params, input, list, out, c.direction, 0};
    instance->call(EXN_TEST_OP(row_compaction), params);
    return instance;
  };
  result.judge = [c](const Outputs& got) {
    const RowCompactionInputs in = make_inputs(c);
    const std::vector<int64_t> sources = row_compaction_oracle(c, in);
    for (size_t i = 0; i < sources.size(); ++i) {
      const auto row = static_cast<int64_t>(i);
      const Complaint complaint =
          compare_row("out", row, got[0],
                      sources[i] < 0 ? untouched_row(got[0]) : row_bytes(in.input, sources[i]));
      if (!complaint.empty()) return complaint;
    }
    return Complaint();
  };
  const std::vector<int64_t> sources = row_compaction_oracle(c, make_inputs(c));
  const int64_t moved =
      std::count_if(sources.begin(), sources.end(), [](int64_t row) { return row >= 0; });
  result.compulsory_bytes = 2 * bytes_of(moved * c.cols, c.type);
  result.description = {{"rows", text(c.rows)},
                        {"cols", text(c.cols)},
                        {"dtype", quoted(name_of(c.type))},
                        {"listed", text(c.listed)},
                        {"moved", text(moved)},
                        {"scatter", text(!gather)}};
  return result;
}

// ---- which rows skip their feed-forward blocks: the whole sequence of calls is one instance -----

// Calls visit(token, layer, inputs) for every call, with `oracle` not yet stepped.
template <class Visit>
void follow(const FfnSkipRuleCase& c, FfnSkipRuleOracle* oracle, Visit visit) {
  for (int64_t token = 0; token < c.tokens; ++token) {
    for (int32_t layer = -1; layer < c.layers - 1; ++layer) {
      const std::vector<uint8_t> skipped = layer < 0 ? std::vector<uint8_t>() : oracle->skip();
      visit(token, layer, make_inputs(c, token, layer, skipped));
    }
  }
}

std::unique_ptr<Instance> instantiate(const FfnSkipRuleCase& c, int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  const HostTensor old = make_tensor(Type::kI32, {c.rows, EXN_FFN_SKIP_STATE_WORDS});
  const DLTensor* state = instance->in_out("state", filled(old, 0x55));
  FfnSkipRuleOracle oracle(c);
  follow(c, &oracle, [&](int64_t token, int32_t layer, const FfnSkipRuleInputs& in) {
    exn_ffn_skip_rule_params params = {};
    params.struct_size = sizeof params;
    params.cosine = instance->input(in.cosine);
    params.token = instance->input(in.token);
    params.state = state;
    params.skip = instance->output("skip", Type::kU8, {c.rows});
    params.layer = layer;
    params.model_layers = c.layers;
    params.cold_start = c.cold_start;
    params.cold_end = c.cold_end;
    params.warm_up = c.warm_up;
    params.token_index = static_cast<int32_t>(token);
    params.budget = c.budget;
    params.threshold = c.threshold;
    instance->call(EXN_TEST_OP(ffn_skip_rule), params);
    oracle.step(token, layer, in);
  });
  return instance;
}

Complaint judge(const FfnSkipRuleCase& c, const Outputs& got) {
  FfnSkipRuleOracle oracle(c);
  size_t next = 1;
  Complaint first;
  follow(c, &oracle, [&](int64_t token, int32_t layer, const FfnSkipRuleInputs& in) {
    oracle.step(token, layer, in);
    const std::string where = "token " + text(token) + " layer " + text(layer) + " skip";
    const Complaint complaint = compare_integers(where, widened(oracle.skip()), got[next++]);
    if (first.empty()) first = complaint;
  });
  return first_of({first, compare_integers("state", widened(oracle.state()), got[0])});
}

Case make_case(const FfnSkipRuleCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) { return instantiate(c, device_type); };
  result.judge = [c](const Outputs& got) { return judge(c, got); };
  result.compulsory_bytes = 21.0 * static_cast<double>(c.rows * c.layers * c.tokens);
  result.description = {{"rows", text(c.rows)}, {"calls", text(c.layers * c.tokens)}};
  return result;
}

const Room kKvAppend("kv_append", [] {
  std::vector<ListedCase> all = listed("kv_append", kv_append_cases(), make_case);
  append_spoiled(&all, "kv_append", kv_append_cases(), spoiled_case);
  return all;
});
const Room kKvCopy("kv_copy", [] {
  std::vector<ListedCase> all = listed("kv_copy", kv_copy_cases(), make_case);
  append_spoiled(&all, "kv_copy", kv_copy_cases(), spoiled_case);
  return all;
});
const Room kKvLength("kv_length", [] { return listed("kv_length", kv_length_cases(), make_case); });
const Room kAttention("attention", [] {
  std::vector<ListedCase> all = listed("attention", attention_cases(), make_case);
  append_spoiled(&all, "attention", attention_cases(), spoiled_case);
  return all;
});
const Room kHiddenStack("hidden_stack", [] { return listed("hidden_stack", hidden_stack_cases(), make_case); });
const Room kRowCompaction("row_compaction", [] { return listed("row_compaction", row_compaction_cases(), make_case); });
const Room kFfnSkipRule("ffn_skip_rule", [] { return listed("ffn_skip_rule", ffn_skip_rule_cases(), make_case); });

}  // namespace

}  // namespace exn::test
