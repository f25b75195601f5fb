// SPDX-License-Identifier: Apache-2.0
#include "case_table_cache.h"

#include <cstdlib>
#include <cstring>
#include <limits>
#include <sstream>
#include <stdexcept>

#include "reals.h"
#include "table.h"

namespace exn::test {

namespace {

int32_t narrow(int64_t value) { return static_cast<int32_t>(value); }

}  // namespace

namespace {

// ---- tables -------------------------------------------------------------------------------------

int64_t optional_integer(const Row& row, const char* column) {
  return row.text(column) == "-" ? 0 : row.integer(column);
}

}  // namespace

std::vector<KvAppendCase> kv_append_cases() {
  return read_cases<KvAppendCase>("kv_append", [](const Row& row, KvAppendCase* c) {
        c->cache = read_cache(row, "cache", "cache_offset");
        c->rows = {row.integer("rows"), c->cache.columns(),    row.type("dtype"),
                   row.integer("pad"),  row.integer("offset"), row.text("fill"),
                   row.number("scale"), row.text("special")};
        c->sequence = row.text("sequence");
        c->slot = row.text("slot");
      });
}

std::vector<KvCopyCase> kv_copy_cases() {
  return read_cases<KvCopyCase>("kv_copy", [](const Row& row, KvCopyCase* c) {
        c->count = row.integer("count");
        c->source = read_cache(row, "dtype", "offset");
        c->in_place = row.flag("in_place");
        c->destination = c->source;
        if (!c->in_place) {
          read_layout(row, "to_layout", "to_sequences", "to_slots", "to_page", &c->destination);
          c->destination.offset = row.integer("to_offset");
        }
        c->sequence = row.text("sequence");
        c->entries = row.text("entries");
      });
}

std::vector<KvLengthCase> kv_length_cases() {
  return read_cases<KvLengthCase>("kv_length", [](const Row& row, KvLengthCase* c) {
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
                                  });
}

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
        c->score_slots = optional_integer(row, "scores");
        c->scale = row.number("scale");
        c->softcap = row.number("softcap");
      });
}

std::vector<HiddenStackCase> hidden_stack_cases() {
  return read_cases<HiddenStackCase>("hidden_stack", [](const Row& row, HiddenStackCase* c) {
        c->capacity = row.integer("capacity");
        c->rows = {row.integer("rows"),
                   row.integer("dim"),
                   row.type("dtype"),
                   row.integer("pad"),
                   row.integer("offset"),
                   "normal",
                   1,
                   "-"};
        c->stack_pad = row.integer("stack_pad");
        c->stack_offset = row.integer("stack_offset");
        c->gathered = row.integer("gathered");
        c->tags = row.integer("tags_per_row");
        c->mask = row.text("mask");
        c->overflow = row.flag("overflow");
        std::stringstream script(row.text("script"));
        for (std::string action; std::getline(script, action, ',');) {
          if (action != "push" && action != "gather" && action != "clear")
            fail("script: unknown word '" + action + "'");
          c->script.push_back(action == "push"     ? EXN_STACK_PUSH
                              : action == "gather" ? EXN_STACK_GATHER
                                                   : EXN_STACK_CLEAR);
        }
      });
}

std::vector<RowCompactionCase> row_compaction_cases() {
  return read_cases<RowCompactionCase>("row_compaction", [](const Row& row, RowCompactionCase* c) {
        c->rows = row.integer("rows");
        c->cols = row.integer("cols");
        c->type = row.text("dtype") == "u8" ? Type::kU8 : row.type("dtype");
        c->pad = row.integer("pad");
        c->offset = row.integer("offset");
        c->out_pad = row.integer("out_pad");
        c->out_offset = row.integer("out_offset");
        c->direction = row.choice("direction", {"gather", "scatter"});
        c->listed = row.integer("listed");
        c->spare = row.integer("spare");
        c->list = row.text("list");
      });
}

std::vector<LayerScheduleCase> layer_schedule_cases() {
  return read_cases<LayerScheduleCase>("layer_schedule", [](const Row& row, LayerScheduleCase* c) {
        const auto integer = [&](const char* column) { return narrow(row.integer(column)); };
        c->positions = row.integer("positions");
        c->layers = row.integer("layers");
        c->kind = row.choice("kind", {"skipdecode", "calm", "fixed", "unified"});
        c->prompt = integer("prompt");
        c->horizon = integer("horizon");
        c->most = integer("most");
        c->least = integer("least");
        c->warm_up = integer("warm_up");
        c->first_exit = integer("first_exit");
        c->min_exit = integer("min_exit");
        c->interval = integer("interval");
        c->decay = row.choice("decay", {"none", "calm_code", "calm_paper"});
        c->start_threshold = row.number("start_threshold");
        c->tau = row.number("tau");
        if (row.text("order") != "-") {
          for (int64_t layer : read_list(row.text("order"), ',')) c->order.push_back(narrow(layer));
        }
        c->outputs =
            row.text("outputs") == "-" ? 0 : row.subset("outputs", {"exit_test", "threshold"});
      });
}

std::vector<FfnSkipRuleCase> ffn_skip_rule_cases() {
  return read_cases<FfnSkipRuleCase>("ffn_skip_rule", [](const Row& row, FfnSkipRuleCase* c) {
        c->rows = row.integer("rows");
        c->layers = narrow(row.integer("layers"));
        c->tokens = row.integer("tokens");
        c->cold_start = narrow(row.integer("cold_start"));
        c->cold_end = narrow(row.integer("cold_end"));
        c->warm_up = narrow(row.integer("warm_up"));
        c->budget = narrow(row.integer("budget"));
        c->threshold = row.number("threshold");
        c->token_tensor = row.choice("token", {"index", "tensor"}) == 1;
        c->cosines = row.text("cosines");
        c->nan = row.choice("special", {"-", "nan"}) == 1;
      });
}

// ---- inputs -------------------------------------------------------------------------------------

namespace {

HostTensor make_slots(const KvAppendCase& c) {
  HostTensor t = make_tensor(Type::kI32, {c.rows.rows});
  const std::vector<int64_t> order = shuffled(c.cache.slots, c.seed, 5);
  for (int64_t r = 0; r < c.rows.rows; ++r) {
    int64_t slot = r;
    if (c.slot == "shuffled" || c.slot == "some") {
      slot = order.at(static_cast<size_t>(r));
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

}  // namespace

KvAppendInputs make_inputs(const KvAppendCase& c) {
  KvAppendInputs in;
  in.cache = full_cache(c.cache, c.seed, 2);
  in.k = make_head_rows(c.rows, c.cache.dim, c.seed, 0);
  in.v = make_head_rows(c.rows, c.cache.dim, c.seed, 1);
  in.sequence = make_sequences(c.sequence, c.rows.rows, c.cache.sequences, c.seed, 4);
  in.slot = make_slots(c);
  return in;
}

namespace {

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
    e.to_slot = order.at(static_cast<size_t>(i));
    if (c.entries == "off" && pick(c.seed, 5, i, 4) == 0) e.from_slot = -1;
    if (c.entries == "off" && pick(c.seed, 6, i, 4) == 0) e.to_slot = -1;
  } else if (c.entries != "same") {
    fail("entries: unknown word '" + c.entries + "'");
  }
  return e;
}

}  // namespace

KvCopyInputs make_inputs(const KvCopyCase& c) {
  KvCopyInputs in;
  in.source = full_cache(c.source, c.seed, 0);
  if (!c.in_place) in.destination = full_cache(c.destination, c.seed + 1, 2);
  if (c.sequence != "-" && c.sequence != "from" && c.sequence != "to" && c.sequence != "both")
    fail("sequence: " + c.sequence);
  const bool from = c.sequence == "from" || c.sequence == "both",
             to = c.sequence == "to" || c.sequence == "both";
  if (from) in.from_sequence = make_tensor(Type::kI32, {c.count});
  if (to) in.to_sequence = make_tensor(Type::kI32, {c.count});
  in.from_slot = make_tensor(Type::kI32, {c.count});
  in.to_slot = make_tensor(Type::kI32, {c.count});
  const std::vector<int64_t> order = shuffled(c.destination.slots, c.seed, 8);
  for (int64_t i = 0; i < c.count; ++i) {
    const CopyEntry e = copy_entry(c, i, order);
    if (from) in.from_sequence.set_integer(i, e.from_sequence);
    if (to) in.to_sequence.set_integer(i, e.to_sequence);
    in.from_slot.set_integer(i, e.from_slot);
    in.to_slot.set_integer(i, e.to_slot);
  }
  return in;
}

KvLengthInputs make_inputs(const KvLengthCase& c, int64_t call) {
  KvLengthInputs in;
  in.length = make_tensor(Type::kI32, c.lengths);
  const int64_t lengths = in.length.size();
  for (int64_t i = 0; i < lengths; ++i) {
    if (c.start != "zero" && c.start != "random" && c.start != "full")
      fail("start: unknown word '" + c.start + "'");
    const int64_t random = pick(c.seed, 0, i, c.capacity / 2 + 1);
    in.length.set_integer(i, c.start == "zero" ? 0 : c.start == "random" ? random : c.capacity);
  }
  if (c.action == EXN_KV_CROP) {
    in.limit = make_tensor(Type::kI32, {c.one_limit ? 1 : lengths});
    for (int64_t i = 0; i < in.limit.size(); ++i) {
      in.limit.set_integer(
          i, pick(c.seed, 1, call * lengths + i, c.capacity + 1));
    }
    return in;
  }
  in.sequence =
      make_sequences(c.sequence, c.rows, lengths, c.seed, 2 + 8 * static_cast<uint64_t>(call));
  if (c.active == "-") return in;
  if (c.active != "some" && c.active != "none") fail("active: unknown word '" + c.active + "'");
  in.active = make_tensor(Type::kU8, {c.rows});
  for (int64_t r = 0; r < c.rows; ++r) {
    // Any value but 0 is yes.
    const int64_t value = pick(c.seed, 3, call * c.rows + r, 3);
    in.active.set_integer(r, c.active == "some" ? value : 0);
  }
  return in;
}

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

}  // namespace

AttentionInputs make_inputs(const AttentionCase& c) {
  AttentionInputs in;
  in.query = make_head_rows(c.query, c.cache.dim, c.seed, 0);
  in.sequence = make_sequences(c.sequence, c.query.rows, c.cache.sequences, c.seed, 4);
  in.visible = make_tensor(Type::kI32, {c.query.rows});
  std::vector<int64_t> seen(static_cast<size_t>(c.cache.sequences),
                            0);  // leading slots that some row sees
  for (int64_t r = 0; r < c.query.rows; ++r) {
    const int64_t visible = visible_of(c, r);
    in.visible.set_integer(r, visible);
    int64_t& most = seen[static_cast<size_t>(in.sequence.given() ? in.sequence.integer_at(r) : 0)];
    if (visible > most) most = visible;
  }
  in.cache = empty_cache(c.cache, c.seed);
  fill_seen(c.cache, in.cache.block_table, seen, c.query.fill, c.key_scale, c.seed, 1, &in.cache.k);
  fill_seen(c.cache, in.cache.block_table, seen, c.query.fill, 1, c.seed, 2, &in.cache.v);
  if (c.cache_special != "-" && c.cache.slots > 0)
    put_special(c.cache, c.seed, c.cache_special, &in.cache);
  return in;
}

HiddenStackInputs make_inputs(const HiddenStackCase& c, int64_t call) {
  HiddenStackInputs in;
  if (c.script[static_cast<size_t>(call)] != EXN_STACK_PUSH) return in;
  in.rows = make_tensor(c.rows.type, {c.rows.rows, c.rows.cols}, c.rows.pad, c.rows.offset);
  fill(&in.rows, c.seed, 8 + static_cast<uint64_t>(call), c.rows.fill, c.rows.scale,
       c.rows.special);
  const int64_t first = call * c.rows.rows;
  if (c.tags > 0) {
    in.tags = make_tensor(Type::kI32, {c.tags, c.rows.rows});
    for (int64_t i = 0; i < in.tags.size(); ++i) {
      const int64_t tag = i / c.rows.rows, row = i % c.rows.rows;
      in.tags.set_integer(
          i, pick(c.seed, 4, (first + row) * c.tags + tag, 1000));
    }
  }
  if (c.mask == "-") return in;
  if (c.mask != "some" && c.mask != "none") fail("mask: unknown word '" + c.mask + "'");
  in.mask = make_tensor(Type::kU8, {c.rows.rows});
  for (int64_t r = 0; r < c.rows.rows; ++r) {
    // Any value but 0 is yes.
    in.mask.set_integer(r,
                        c.mask == "some" ? pick(c.seed, 5, first + r, 3) : 0);
  }
  return in;
}

namespace {

int64_t list_entry(const RowCompactionCase& c, int64_t i, const std::vector<int64_t>& order) {
  if (c.list == "identity") return i;
  if (c.list == "none") return -1;
  if (c.list == "random") return pick(c.seed, 2, i, c.rows);
  const int64_t entry = order.at(static_cast<size_t>(i));
  if (c.list == "shuffled") return entry;
  if (c.list == "holes")
    return pick(c.seed, 3, i, 3) == 0 ? -1 - pick(c.seed, 4, i, 100) : entry;
  fail("list: unknown word '" + c.list + "'");
}

HostTensor make_list(const RowCompactionCase& c) {
  HostTensor t = make_tensor(Type::kI32, {c.listed});
  if (c.list == "active") {
    int64_t count = 0;
    for (int64_t r = 0; r < c.rows && count < c.listed; ++r) {
      if (pick(c.seed, 5, r, 2) == 0) t.set_integer(count++, r);
    }
    for (; count < c.listed; ++count) t.set_integer(count, -1);
    return t;
  }
  const std::vector<int64_t> order = shuffled(c.rows, c.seed, 1);
  for (int64_t i = 0; i < c.listed; ++i) t.set_integer(i, list_entry(c, i, order));
  return t;
}

}  // namespace

RowCompactionInputs make_inputs(const RowCompactionCase& c) {
  RowCompactionInputs in;
  const int64_t rows = c.direction == EXN_ROWS_GATHER ? c.rows : c.listed + c.spare;
  in.input = make_tensor(c.type, {rows, c.cols}, c.pad, c.offset);
  const int64_t size = size_of(c.type);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < c.cols; ++i) {
      const uint64_t w = word(c.seed, 0, static_cast<uint64_t>(r * c.cols + i));
      for (int64_t b = 0; b < size; ++b) {
        in.input.bytes[static_cast<size_t>((r * in.input.stride + i) * size + b)] =
            static_cast<unsigned char>(w >> 8 * b);
      }
    }
  }
  in.list = make_list(c);
  return in;
}

namespace {

float cosine_of(const std::string& kind, uint64_t w, int32_t layer) {
  if (kind == "unit") return 2 * unit(w) - 1;
  if (kind == "high") return 1 - unit(w) * 0.125f;
  if (kind == "grid") return static_cast<float>((w >> 32) % 11) * 0.1f;
  if (kind == "eighths") return static_cast<float>((w >> 32) % 9) * 0.125f;
  if (kind == "rising") return static_cast<float>(layer) * 0.03125f + unit(w) * 0.25f;
  fail("cosines: unknown word '" + kind + "'");
}

}  // namespace

FfnSkipRuleInputs make_inputs(const FfnSkipRuleCase& c, int64_t token, int32_t layer,
                              const std::vector<uint8_t>& skipped) {
  FfnSkipRuleInputs in;
  if (layer >= 0) in.cosine = make_tensor(Type::kF32, {c.rows});
  if (c.token_tensor) in.token = make_tensor(Type::kI32, {c.rows});
  for (int64_t r = 0; r < c.rows; ++r) {
    if (in.token.given()) in.token.set_integer(r, token + r % 4);
    if (!in.cosine.given()) continue;
    const uint64_t i = static_cast<uint64_t>((token * c.layers + layer) * c.rows + r);
    const bool nan = skipped[static_cast<size_t>(r)] != 0 || (c.nan && word(c.seed, 1, i) % 7 == 0);
    in.cosine.set(
        0, r, nan ? kNaN : static_cast<double>(cosine_of(c.cosines, word(c.seed, 0, i), layer)));
  }
  return in;
}

}  // namespace exn::test
