// SPDX-License-Identifier: Apache-2.0
//
// What a sound call of each op looks like, as its header says. An op of ops.h without a description
// does not compile; a field without one fails `fuzz --fields`.
#include "ops.h"

#include <algorithm>

#include "base/ops.h"

namespace exn::fuzz {
namespace {

constexpr int64_t kAny64 = INT64_MIN;

bool in_some(Maker& m, int64_t count) { return m.random().one_in(count); }

// ---- pieces of several ops ----------------------------------------------------------------------

void stats(Maker& m, exn_stats& out, Dim rows) {
  struct {
    exn_stats& out;
  } p{out};
  m.out(FIELD(out.argmax), kI32, {rows}, kOptional);
  m.out(FIELD(out.max_logit), kF32, {rows}, kOptional);
  m.out(FIELD(out.lse), kF32, {rows}, kOptional);
  m.out(FIELD(out.p1), kF32, {rows}, kOptional | kWanted);
  m.out(FIELD(out.p2), kF32, {rows}, kOptional);
  m.out(FIELD(out.margin), kF32, {rows}, kOptional);
  m.out(FIELD(out.entropy), kF32, {rows}, kOptional);
  m.out(FIELD(out.pow2_entropy), kF32, {rows}, kOptional);
  m.out(FIELD(out.mean_log_p), kF32, {rows}, kOptional);
  m.out(FIELD(out.valid), kU8, {rows}, kOptional);
}

template <class Params>
void normalizer(Maker& m, Params& p) {
  m.choice(FIELD(normalizer), EXN_SOFTMAX, EXN_STABLEMAX);
  m.real(FIELD(temperature), Domain::kPositive);
  m.real(FIELD(softcap), Domain::kNotNegative);
}

// The coefficients that `norm` asks for.
void norm_of(Maker& m, int32_t norm, const DLTensor*& weight, const char* weight_name,
             const DLTensor*& bias, const char* bias_name, Dim columns) {
  norm == EXN_NORM_NONE ? m.none(weight, weight_name)
                        : (void)m.in(weight, weight_name, kF32, {columns});
  norm != EXN_NORM_LAYER ? m.none(bias, bias_name)
                         : (void)m.in(bias, bias_name, kF32, {columns}, kOptional);
}

// A cache's sizes, from which its tensors are made.
struct CacheShape {
  int32_t layout;
  Dim sequences;
  Dim heads;
  Dim dim;
  int64_t slots;  // T
  Dim run;        // slots of a sequence, or of a page
  Dim blocks;     // of a sequence
  Dim pages;
  bool has_one;  // [Hkv,T,dh]
  TypeOf type;
};

CacheShape cache_shape(Maker& m, int32_t layout, Dim sequences, Dim heads, Dim dim, TypeOf type) {
  CacheShape c{};
  c.layout = layout;
  c.heads = heads;
  c.dim = dim;
  c.type = type;
  c.sequences = sequences;
  c.run = layout == EXN_KV_PAGED ? m.dim(1, 4, 16) : m.dim(0, 9, 40);
  c.blocks = layout == EXN_KV_PAGED ? m.dim(0, 3, 5) : m.derived(0);
  c.slots = layout == EXN_KV_PAGED ? c.run.size * c.blocks.size : c.run.size;
  c.pages = m.derived(c.sequences.size * c.blocks.size + m.random().below(3));
  c.has_one = layout != EXN_KV_PAGED && c.sequences.size == 1 && in_some(m, 2);
  return c;
}

CacheShape cache_shape(Maker& m) {
  const int32_t layout = m.random().pick({EXN_KV_HEAD_MAJOR, EXN_KV_TOKEN_MAJOR, EXN_KV_PAGED});
  const Dim sequences = m.dim(1, 3, 5), heads = m.dim(1, 3, 5), dim = m.dim(1, 20, 130);
  return cache_shape(m, layout, sequences, heads, dim, m.type(kFloats));
}

Tensor* cache_half(Maker& m, const DLTensor*& field, const char* name, const CacheShape& c,
                   Role role, unsigned flags) {
  const auto tensor = [&](std::initializer_list<Dim> dims) {
    return role == Role::kIn ? m.in(field, name, c.type, dims, flags)
                             : m.in_out(field, name, c.type, dims, flags);
  };
  if (c.layout == EXN_KV_PAGED) return tensor({c.pages, c.run, c.heads, c.dim});
  const bool by_head = c.layout == EXN_KV_HEAD_MAJOR;
  const Dim first = by_head ? c.heads : c.run, second = by_head ? c.run : c.heads;
  if (c.has_one) return tensor({first, second, c.dim});
  return tensor({c.sequences, first, second, c.dim});
}

struct CacheNames {
  const char* k;
  const char* v;
  const char* block_table;
  const char* layout;
  const char* reserved;
};
#define CACHE_NAMES(cache) \
  {cache ".k", cache ".v", cache ".block_table", cache ".layout", cache ".reserved"}

void cache(Maker& m, exn_kv_cache& p, const CacheNames& names, const CacheShape& c, Role role,
           unsigned v_flags = kPlain) {
  m.integer(p.layout, names.layout, c.layout, EXN_KV_HEAD_MAJOR, EXN_KV_PAGED);
  m.zero(p.reserved, names.reserved);
  cache_half(m, p.k, names.k, c, role, kAnyRank);
  cache_half(m, p.v, names.v, c, role, kAnyRank | v_flags);
  if (c.layout != EXN_KV_PAGED) return m.none(p.block_table, names.block_table);
  // All pages different, in an order that is not theirs. Which entries a call looks at depends on
  // its slots, so that a strange one need not be refused.
  int32_t* pages = m.ids(p.block_table, names.block_table, {c.sequences, c.blocks},
                         {0, c.pages.size - 1, false});
  const int64_t used = c.sequences.size * c.blocks.size;
  for (int64_t i = 0; i < used && m.complete(); ++i)
    pages[i] = static_cast<int32_t>(c.pages.size - 1 - i);
}

// Which slot each row writes: a different one for each, -1 where there is none left or by chance.
void distinct_slots(Maker& m, int32_t* slots, const int32_t* sequences, int64_t rows,
                    int64_t capacity) {
  int32_t next[16] = {};
  for (int64_t r = 0; r < rows && m.complete(); ++r) {
    const int32_t sequence = sequences != nullptr ? sequences[r] & 15 : 0;
    const bool off = next[sequence] >= capacity || in_some(m, 12);
    slots[r] = off ? -1 : next[sequence]++;
  }
}

struct SelectionShape {
  Dim rows;
  int64_t columns;
};

// Ascending pairs within 0..columns.
void ranges(Maker& m, const DLTensor*& field, const char* name, const SelectionShape& s) {
  const Dim count = m.dim(0, 2, 4), two = m.derived(2);
  const bool per_row = in_some(m, 2);
  int32_t* pairs =
      per_row ? m.integers(field, name, Role::kIn, {s.rows, count, two}, kOptional | kAnyRank)
              : m.integers(field, name, Role::kIn, {count, two}, kOptional | kAnyRank);
  TensorField& f = m.fields()[m.field_count() - 1];
  f.has_ids = true;
  f.ids = {0, s.columns, s.rows.size > 0};
  const int64_t total = (per_row ? s.rows.size : 1) * count.size;
  for (int64_t i = 0; pairs != nullptr && i < total && m.complete(); ++i) {
    pairs[2 * i] = static_cast<int32_t>(m.random().between(0, s.columns));
    pairs[2 * i + 1] = static_cast<int32_t>(m.random().between(pairs[2 * i], s.columns));
  }
}

void selection(Maker& m, exn_selection& given, const SelectionShape& s, unsigned needed) {
  struct {
    exn_selection& selection;
  } p{given};
  const int64_t k = m.random().between(0, s.columns + 1);
  const Dim capacity = m.derived(k + m.random().below(3));
  m.out(FIELD(selection.indices), kI32, {s.rows, capacity}, needed);
  m.out(FIELD(selection.count), kI32, {s.rows}, kOptional);
  m.out(FIELD(selection.valid), kU8, {s.rows}, kOptional);
  const bool segmented = in_some(m, 3), budgeted = in_some(m, 2);
  const Dim segments = m.dim(1, 3, 6), ends = m.derived(segments.size + 1);
  if (segmented) {
    int32_t* at = m.integers(FIELD(selection.segments), Role::kIn, {ends}, kPlain);
    TensorField& f = m.fields()[m.field_count() - 1];
    f.has_ids = true;
    f.ids = {0, s.columns, s.rows.size > 0};
    f.flags |= kOptional;
    for (int64_t i = 0; i < ends.size && m.complete(); ++i)
      at[i] = static_cast<int32_t>(m.random().between(i > 0 ? at[i - 1] : 0, s.columns));
  } else {
    given.segments = nullptr;
    m.in(FIELD(selection.segments), kI32, {ends}, kOptional | kNever);
  }
  const Ids counts{0, s.columns + 3, false};
  if (segmented && budgeted) {
    m.ids(FIELD(selection.budget), {s.rows, segments}, counts, kOptional);
  } else {
    m.ids(FIELD(selection.budget), {s.rows}, counts,
          kOptional | (budgeted && !segmented ? kWanted : kNever));
  }
  ranges(m, FIELD(selection.keep), s);
  ranges(m, FIELD(selection.drop), s);
  // Without a budget there must be room for k, unless segments say otherwise.
  const bool enforced = given.budget == nullptr;
  m.integer(FIELD(selection.k), k, enforced ? 0 : INT64_MIN, INT64_MAX);
}

// ---- exits --------------------------------------------------------------------------------------

void describe(Maker& m, exn_row_stats_params& p) {
  const Dim rows = m.dim(0, 4, 70), columns = m.dim(1, 40, 600);
  m.in(FIELD(logits), m.type(kFloats), {rows, columns}, kRows);
  normalizer(m, p);
  m.zero(FIELD(reserved));
  stats(m, p.out, rows);
}

void describe(Maker& m, exn_exit_head_params& p) {
  const Dim rows = m.dim(0, 3, 66), columns = m.dim(1, 40, 200), vocabulary = m.dim(1, 30, 300);
  m.in(FIELD(hidden), m.type(kFloats), {rows, columns}, kRows);
  m.in(FIELD(weight), m.type(kFloats), {vocabulary, columns}, kRows);
  m.in(FIELD(bias), kF32, {vocabulary}, kOptional);
  const int32_t norm = m.choice(FIELD(norm), EXN_NORM_NONE, EXN_NORM_LAYER);
  norm_of(m, norm, FIELD(norm_weight), FIELD(norm_bias), columns);
  m.real(FIELD(norm_eps), Domain::kNotNegative);
  if (m.in(FIELD(translator_weight), m.type(kFloats), {columns, columns}, kRows | kOptional)) {
    m.in(FIELD(translator_bias), kF32, {columns}, kOptional);
  } else {
    m.none(FIELD(translator_bias));
  }
  m.choice(FIELD(translate), EXN_TRANSLATE_RAW, EXN_TRANSLATE_RMS);
  m.ids(FIELD(shortlist), {m.dim(1, 9, 80)}, {0, vocabulary.size - 1, rows.size > 0}, kOptional);
  normalizer(m, p);
  stats(m, p.out, rows);
}

void describe(Maker& m, exn_cosine_params& p) {
  const Dim rows = m.dim(0, 4, 70), columns = m.dim(1, 40, 600);
  const TypeOf type = m.type(kFloats);
  m.in(FIELD(a), type, {rows, columns}, kRows);
  m.in(FIELD(b), type, {rows, columns}, kRows);
  m.out(FIELD(out), kF32, {rows});
}

void describe(Maker& m, exn_gate_params& p) {
  const Dim rows = m.dim(0, 4, 66), columns = m.dim(1, 30, 130), outputs = m.dim(1, 2, 2);
  m.in(FIELD(features), m.type(kFloats), {rows, columns}, kRows);
  const int32_t kind = m.choice(FIELD(kind), EXN_GATE_LINEAR, EXN_GATE_TANH);
  const Dim repeats = m.dim(0, 3, 5);
  m.integer(FIELD(repeats), repeats.size, kind == EXN_GATE_LINEAR ? kAny64 : 0,
            kind == EXN_GATE_LINEAR ? INT64_MAX : 64);
  const unsigned needed = repeats.size > 0 ? kPlain : kOptional;
  if (kind == EXN_GATE_LINEAR) {
    m.none(FIELD(hidden_weight));
    m.none(FIELD(hidden_bias));
  } else if (kind == EXN_GATE_RESIDUAL) {
    m.in(FIELD(hidden_weight), m.type(kFloats), {columns, columns}, needed);
    m.in(FIELD(hidden_bias), kF32, {columns}, kOptional);
  } else {
    m.in(FIELD(hidden_weight), m.type(kFloats), {repeats, columns, columns}, needed);
    m.in(FIELD(hidden_bias), kF32, {repeats, columns}, kOptional);
  }
  m.in(FIELD(out_weight), m.type(kFloats), {outputs, columns}, kRows);
  m.in(FIELD(out_bias), kF32, {outputs}, kOptional);
  m.out(FIELD(prob), kF32, {rows});
}

void describe(Maker& m, exn_exit_rule_params& p) {
  const Dim rows = m.dim(0, 5, 200);
  const int32_t rule = m.choice(FIELD(rule), EXN_RULE_THRESHOLD, EXN_RULE_SPECDEC);
  const bool by_label = rule == EXN_RULE_PATIENCE;
  m.integers(FIELD(label), Role::kIn, {rows}, kOptional);
  m.in(FIELD(score), kF32, {rows}, by_label && p.label != nullptr ? kOptional : kPlain);
  m.in(FIELD(valid), kU8, {rows}, kOptional);
  m.in(FIELD(step), kI32, {rows}, kOptional);
  m.in_out(FIELD(state), kI32, {rows, m.derived(EXN_EXIT_STATE_WORDS)});
  m.out(FIELD(exit_mask), kU8, {rows}, kOptional);
  m.out(FIELD(active_list), kI32, {rows}, kOptional);
  m.out(FIELD(active_count), kI32, {m.derived(1)}, kOptional);
  m.in_out(FIELD(exit_layer), kI32, {rows}, kOptional);
  const bool compares = rule == EXN_RULE_THRESHOLD, counts = rule == EXN_RULE_SPECDEC;
  const int64_t decay = m.random().between(EXN_DECAY_NONE, EXN_DECAY_CALM_PAPER);
  const bool decays = compares && decay != EXN_DECAY_NONE;
  m.integer(FIELD(comparator), m.random().below(3), compares ? 0 : kAny64,
            compares ? int64_t{EXN_COMPARE_LE} : INT64_MAX);
  m.integer(FIELD(decay), decay, compares ? 0 : kAny64,
            compares ? int64_t{EXN_DECAY_CALM_PAPER} : INT64_MAX);
  m.choice(FIELD(scope), EXN_SCOPE_EACH, EXN_SCOPE_LAST);
  m.real(FIELD(threshold), decays ? Domain::kFinite : Domain::kNotNan);
  decays ? m.real(FIELD(decay_tau), Domain::kNotNegative) : m.unused(FIELD(decay_tau));
  decays ? m.real(FIELD(decay_horizon), Domain::kPositive) : m.unused(FIELD(decay_horizon));
  m.integer(FIELD(step_index), m.random().below(9), decays ? 0 : kAny64, INT64_MAX);
  m.integer(FIELD(patience), m.random().below(4), by_label ? 0 : kAny64, INT64_MAX);
  m.integer(FIELD(min_steps), m.random().below(3), counts ? 0 : kAny64, INT64_MAX);
  m.any_integer(FIELD(max_steps), m.random().pick({0, 2, 7}));
  m.any_integer(FIELD(layer), m.random().below(9));
  m.choice(FIELD(first), 0, 1);
  m.choice(FIELD(force), 0, 1);
}

// ---- StableMax ----------------------------------------------------------------------------------

void describe(Maker& m, exn_stablemax_params& p) {
  const Dim rows = m.dim(0, 4, 40), columns = m.dim(1, 40, 600);
  const TypeOf type = m.type(kFloatsAndF64);
  const Tensor* logits = m.in(FIELD(logits), type, {rows, columns}, kRows);
  m.out_over(FIELD(out), logits, type, {rows, columns}, kRows);
  m.choice(FIELD(normalizer), EXN_SOFTMAX, EXN_STABLEMAX);
  m.choice(FIELD(log), 0, 1);
}

void describe(Maker& m, exn_cross_entropy_params& p) {
  const Dim rows = m.dim(0, 4, 40), columns = m.dim(1, 40, 600);
  const TypeOf type = m.type(kFloatsAndF64);
  const Tensor* logits = m.in(FIELD(logits), type, {rows, columns}, kRows);
  m.choice(FIELD(normalizer), EXN_SOFTMAX, EXN_STABLEMAX);
  const int32_t reduction = m.choice(FIELD(reduction), EXN_REDUCE_NONE, EXN_REDUCE_MEAN);
  m.any_integer(FIELD(ignore_index), m.random().pick<int64_t>({-100, 0, INT64_MIN, INT32_MAX}));
  const TypeOf label = m.type(kLabels);
  Tensor* labels = m.in(FIELD(labels), label, {rows});
  TensorField& f = m.fields()[m.field_count() - 1];
  f.has_ids = true;
  // One value outside may be ignore_index.
  f.ids = {0, columns.size - 1, p.ignore_index == 0};
  for (int64_t r = 0; r < labels->elements && m.complete(); ++r) {
    const int64_t value = m.random().below(columns.size);
    if (label.type == DType::kI64) labels->data<int64_t>()[r] = value;
    if (label.type == DType::kI32) labels->data<int32_t>()[r] = static_cast<int32_t>(value);
  }
  const TypeOf loss = type.type == DType::kF64 ? TypeOf{DType::kF64, only(DType::kF64), 0} : kF32;
  const Dim losses = reduction == EXN_REDUCE_NONE ? rows : m.derived(1);
  const bool has_grad = m.out_over(FIELD(grad), logits, type, {rows, columns}, kRows | kOptional);
  m.out(FIELD(loss), loss, {losses}, has_grad ? kOptional : kOptional | kWanted);
}

void describe(Maker& m, exn_perp_grad_params& p) {
  const Dim a = m.dim(0, 5, 60), b = m.dim(0, 20, 300), c = m.dim(0, 3, 5);
  const TypeOf type = m.type(kFloatsAndF64);
  const auto made = [&](std::initializer_list<Dim> dims) {
    m.in(FIELD(weight), type, dims, kAnyRank);
    const Tensor* grad = m.in(FIELD(grad), type, dims, kAnyRank);
    m.out_over(FIELD(out), grad, type, dims, kAnyRank);
  };
  switch (m.random().below(4)) {
    case 0:
      made({});
      break;
    case 1:
      made({a, b, c});
      break;
    case 2:
      made({a, b});
      break;
    default:
      made({b});
  }
  m.choice(FIELD(form), EXN_PERP_CODE, EXN_PERP_PAPER);
  m.zero(FIELD(reserved));
}

// ---- basics -------------------------------------------------------------------------------------

void describe(Maker& m, exn_norm_params& p) {
  const Dim rows = m.dim(0, 4, 70), columns = m.dim(1, 40, 600);
  const TypeOf type = m.type(kFloats);
  const Tensor* input = m.in(FIELD(input), type, {rows, columns}, kRows);
  const int32_t norm = m.choice(FIELD(norm), EXN_NORM_NONE, EXN_NORM_LAYER);
  norm_of(m, norm, FIELD(weight), FIELD(bias), columns);
  m.out_over(FIELD(out), input, m.type(kFloats), {rows, columns}, kRows);
  m.real(FIELD(eps), Domain::kNotNegative);
}

void describe(Maker& m, exn_rope_table_params& p) {
  m.out(FIELD(table), kF32, {m.dim(0, 9, 100), m.dim(2, 9, 70), m.derived(2)});
  const int32_t scaling = m.choice(FIELD(scaling), EXN_ROPE_SCALING_NONE, EXN_ROPE_SCALING_NTK);
  m.real(FIELD(base), Domain::kPositive);
  p.base = 10000 * (1 + p.base);  // below 1 the last angles are large
  m.real(FIELD(factor), Domain::kAtLeastOne);
  if (scaling == EXN_ROPE_SCALING_NONE) p.factor = 1;
  m.zero(FIELD(reserved));
}

void describe(Maker& m, exn_rope_params& p) {
  const Dim rows = m.dim(0, 4, 70), heads = m.dim(0, 3, 5), dim = m.dim(2, 20, 130);
  const Dim positions = m.dim(1, 9, 60);
  const Dim pairs = m.derived(m.random().between(1, dim.size / 2));
  const TypeOf type = m.type(kFloats);
  const Tensor* input = m.in(FIELD(input), type, {rows, heads, dim}, kRows);
  m.ids(FIELD(position), {rows}, {-1, positions.size - 1, true});
  m.in(FIELD(table), kF32, {positions, pairs, m.derived(2)});
  m.out_over(FIELD(out), input, type, {rows, heads, dim}, kRows);
  m.choice(FIELD(style), EXN_ROPE_INTERLEAVED, EXN_ROPE_HALF);
  m.zero(FIELD(reserved));
}

void describe(Maker& m, exn_linear_params& p) {
  const Dim rows = m.dim(0, 4, 70), columns = m.dim(1, 40, 300), outputs = m.dim(1, 20, 150);
  m.in(FIELD(input), m.type(kFloats), {rows, columns}, kRows);
  m.in(FIELD(weight), m.type(kFloats), {outputs, columns}, kRows);
  m.in(FIELD(bias), kF32, {outputs}, kOptional);
  const TypeOf type = m.type(kFloats);
  const Tensor* residual = m.in(FIELD(residual), type, {rows, outputs}, kRows | kOptional);
  m.out_over(FIELD(out), residual, type, {rows, outputs}, kRows);
}

// ---- caches -------------------------------------------------------------------------------------

void describe(Maker& m, exn_kv_append_params& p) {
  const CacheShape c = cache_shape(m);
  const Dim rows = m.dim(0, 4, 40);
  const TypeOf type = m.type(kFloats);
  cache(m, p.cache, CACHE_NAMES("cache"), c, Role::kInOut);
  m.in(FIELD(k), type, {rows, c.heads, c.dim}, kRows);
  m.in(FIELD(v), type, {rows, c.heads, c.dim}, kRows);
  const int32_t* sequence =
      m.ids(FIELD(sequence), {rows}, {0, c.sequences.size - 1, false}, kOptional);
  int32_t* slot = m.ids(FIELD(slot), {rows}, {-1, c.slots - 1, true});
  distinct_slots(m, slot, sequence, rows.size, c.slots);
}

void describe(Maker& m, exn_kv_copy_params& p) {
  const CacheShape from = cache_shape(m);
  const bool in_place = in_some(m, 3);
  const Dim entries = m.dim(0, 5, 60);
  CacheShape to = from;
  if (!in_place) {
    const int32_t layout = m.random().pick({EXN_KV_HEAD_MAJOR, EXN_KV_TOKEN_MAJOR, EXN_KV_PAGED});
    to = cache_shape(m, layout, m.dim(1, 3, 5), from.heads, from.dim, from.type);
  }
  cache(m, p.destination, CACHE_NAMES("destination"), to, Role::kInOut);
  if (in_place) {
    const TensorField* half = m.fields();
    p.source = p.destination;
    m.any_integer(FIELD(source.layout), p.source.layout);
    m.zero(FIELD(source.reserved));
    m.again(FIELD(source.k), half[0].tensor);
    m.again(FIELD(source.v), half[1].tensor);
    half[2].tensor == nullptr ? m.none(FIELD(source.block_table))
                              : m.again(FIELD(source.block_table), half[2].tensor);
  } else {
    cache(m, p.source, CACHE_NAMES("source"), from, Role::kIn);
  }
  m.ids(FIELD(from_sequence), {entries}, {0, from.sequences.size - 1, false}, kOptional);
  m.ids(FIELD(from_slot), {entries}, {-1, from.slots - 1, false});
  const int32_t* sequence =
      m.ids(FIELD(to_sequence), {entries}, {0, to.sequences.size - 1, false}, kOptional);
  int32_t* slot = m.ids(FIELD(to_slot), {entries}, {-1, to.slots - 1, false});
  distinct_slots(m, slot, sequence, entries.size, to.slots);
}

void describe(Maker& m, exn_kv_length_params& p) {
  m.zero(FIELD(reserved));
  const int32_t action = m.choice(FIELD(action), EXN_KV_ADVANCE, EXN_KV_CROP);
  const Dim a = m.dim(1, 3, 9), b = m.dim(0, 3, 5), rows = m.dim(0, 5, 60);
  const bool crops = action == EXN_KV_CROP;
  const bool is_matrix = crops && in_some(m, 2);
  int32_t* length = is_matrix ? m.integers(FIELD(length), Role::kInOut, {a, b}, kAnyRank)
                              : m.integers(FIELD(length), Role::kInOut, {a}, kAnyRank);
  const int64_t lengths = is_matrix ? a.size * b.size : a.size;
  for (int64_t i = 0; i < lengths && m.complete(); ++i)
    length[i] = static_cast<int32_t>(m.random().below(30));
  m.integer(FIELD(capacity), 100 + m.random().below(3), crops ? kAny64 : 1,
            crops ? INT64_MAX : kMost32);
  if (crops) {
    m.none(FIELD(sequence));
    m.none(FIELD(active));
    m.none(FIELD(slot));
    m.none(FIELD(visible));
    const Ids counts{0, kMost32, lengths > 0};
    // One for all lengths is sound too, so that its sizes are not those of `length`.
    const Dim c = m.derived(a.size), d = m.derived(b.size);
    if (in_some(m, 2)) {
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

void describe(Maker& m, exn_attention_params& p) {
  const CacheShape c = cache_shape(m);
  const Dim rows = m.dim(0, 3, 40), heads = m.derived(c.heads.size * m.random().between(1, 3));
  m.in(FIELD(query), m.type(kFloats), {rows, heads, c.dim}, kRows);
  cache(m, p.cache, CACHE_NAMES("cache"), c, Role::kIn);
  m.ids(FIELD(sequence), {rows}, {0, c.sequences.size - 1, false}, kOptional);
  m.ids(FIELD(visible), {rows}, {-1, c.slots, true});
  m.out(FIELD(out), m.type(kFloats), {rows, heads, c.dim}, kRows);
  m.out(FIELD(scores), kF32, {rows, heads, m.derived(m.random().between(0, c.slots))}, kOptional);
  m.real(FIELD(scale), Domain::kPositive);
  m.real(FIELD(softcap), Domain::kNotNegative);
}

void describe(Maker& m, exn_kv_propagate_params& p) {
  const Dim rows = m.dim(0, 3, 66), columns = m.dim(1, 20, 130);
  const Dim count = m.dim(1, 2, 3);
  const CacheShape c = cache_shape(m);
  const Dim width = m.derived(c.heads.size * c.dim.size);
  m.in(FIELD(hidden), m.type(kFloats), {rows, columns}, kRows);
  m.array_count(FIELD(layer_count), count.size, 1, EXN_KV_PROPAGATE_MAX_LAYERS);
  m.integer(FIELD(model_layers), 8, 1, INT64_MAX);
  m.zero(FIELD(reserved));
  m.ids(FIELD(exit_layer), {rows}, {-1, p.model_layers, true});
  const int32_t* sequence =
      m.ids(FIELD(sequence), {rows}, {0, c.sequences.size - 1, false}, kOptional);
  const Ids slots{-1, c.slots - 1, false};
  const bool per_layer = in_some(m, 2);
  int32_t* slot = per_layer ? m.ids(FIELD(slot), {count, rows}, slots, kAnyRank)
                            : m.ids(FIELD(slot), {rows}, slots, kAnyRank);
  for (int64_t j = 0; j < (per_layer ? count.size : 1) && m.complete(); ++j)
    distinct_slots(m, slot + j * rows.size, sequence, rows.size, c.slots);
  const Dim positions = m.dim(1, 9, 60);
  const bool turned = c.dim.size >= 2 && in_some(m, 2);
  const Dim pairs = m.derived(turned ? m.random().between(1, c.dim.size / 2) : 1);
  m.in(FIELD(rope_table), kF32, {positions, pairs, m.derived(2)},
       kOptional | (turned ? kWanted : kNever));
  m.ids(FIELD(position), {rows}, {0, positions.size - 1, false}, turned ? kPlain : kOptional);
  m.choice(FIELD(rope_style), EXN_ROPE_INTERLEAVED, EXN_ROPE_HALF);
  const int32_t norm = m.choice(FIELD(norm), EXN_NORM_NONE, EXN_NORM_LAYER);
  m.real(FIELD(norm_eps), Domain::kNotNegative);
  const TypeOf weights = m.type(kFloats);
  exn_kv_layer* layers = m.array(FIELD(layers), count.size);
  const auto describe_layer = [&](exn_kv_layer& layer, int64_t index) {
    struct {
      exn_kv_layer& layers;
    } q{layer};
    CacheShape own = c;  // layers may differ in their slots
    own.run = m.derived(c.run.size);
    own.blocks = m.derived(c.blocks.size);
    own.pages = m.derived(c.pages.size);
#define LAYER(field) q.layers.field, "layers[]." #field
    norm_of(m, norm, LAYER(norm_weight), LAYER(norm_bias), columns);
    m.in(LAYER(k_weight), weights, {width, columns}, kRows);
    m.in(LAYER(k_bias), kF32, {width}, kOptional);
    m.in(LAYER(v_weight), weights, {width, columns}, kRows);
    m.in(LAYER(v_bias), kF32, {width}, kOptional);
    cache(m, layer.cache, CACHE_NAMES("layers[].cache"), own, Role::kInOut);
    m.integer(LAYER(index), index, 0, 7);
    m.zero(LAYER(reserved));
#undef LAYER
  };
  for (int64_t j = 0; j < count.size; ++j) describe_layer(layers[j], 2 * j + 1);
}

// ---- layer skipping -----------------------------------------------------------------------------

void describe(Maker& m, exn_hidden_stack_params& p) {
  const Dim capacity = m.dim(0, 9, 70), columns = m.dim(0, 30, 300), rows = m.dim(0, 4, 60);
  const Dim tags = m.dim(1, 3, 5), one = m.derived(1);
  const TypeOf type = m.type(kFloats);
  const int32_t action = m.mode(FIELD(action), EXN_STACK_PUSH, EXN_STACK_CLEAR);
  m.zero(FIELD(reserved));
  m.in_out(FIELD(stack), type, {capacity, columns}, kRows);
  const bool tagged = m.in_out(FIELD(stack_tags), kI32, {tags, capacity}, kOptional) != nullptr;
  int32_t* count = m.integers(FIELD(count), Role::kInOut, {one}, kPlain);
  TensorField& f = m.fields()[m.field_count() - 1];
  f.has_ids = true;
  f.ids = {0, capacity.size, action != EXN_STACK_CLEAR};
  count[0] = static_cast<int32_t>(m.random().between(0, capacity.size));
  const int64_t room = capacity.size - count[0];
  const bool fits = action == EXN_STACK_PUSH ? rows.size <= room : count[0] <= rows.size;
  if (!fits && action == EXN_STACK_PUSH)
    count[0] = static_cast<int32_t>(std::max<int64_t>(0, capacity.size - rows.size));
  if (!fits && action == EXN_STACK_GATHER) count[0] = static_cast<int32_t>(rows.size);
  const bool too_many = action == EXN_STACK_PUSH && rows.size > capacity.size;
  const Dim pushed = too_many ? m.derived(capacity.size) : rows;
  if (action == EXN_STACK_CLEAR) {
    m.none(FIELD(rows));
    m.none(FIELD(mask));
    tagged ? (void)m.in(FIELD(tags), kI32, {tags, pushed}, kOptional | kNever)
           : m.none(FIELD(tags));
  } else if (action == EXN_STACK_PUSH) {
    m.in(FIELD(rows), type, {pushed, columns}, kRows);
    tagged ? (void)m.in(FIELD(tags), kI32, {tags, pushed}) : m.none(FIELD(tags));
    m.in(FIELD(mask), kU8, {pushed}, kOptional);
  } else {
    m.out(FIELD(rows), type, {pushed, columns}, kRows);
    tagged ? (void)m.out(FIELD(tags), kI32, {tags, pushed}) : m.none(FIELD(tags));
    m.none(FIELD(mask));
  }
  m.out(FIELD(overflow), kI32, {one}, kOptional);
}

void describe(Maker& m, exn_row_compaction_params& p) {
  const Dim rows = m.dim(0, 9, 70), columns = m.dim(0, 30, 300), listed = m.dim(0, 5, 40);
  const TypeOf type = m.type(kAnything);
  const int32_t direction = m.choice(FIELD(direction), EXN_ROWS_GATHER, EXN_ROWS_SCATTER);
  m.zero(FIELD(reserved));
  const bool gathers = direction == EXN_ROWS_GATHER;
  const Dim long_enough = m.derived(listed.size + m.random().below(3));
  m.in(FIELD(input), type, {gathers ? rows : long_enough, columns}, kRows);
  m.out(FIELD(out), type, {gathers ? long_enough : rows, columns}, kRows);
  int32_t* list = m.ids(FIELD(list), {listed}, {-1, rows.size - 1, false});
  // A row that two entries scatter to is the last one's on the CPU, and anyone's on CUDA.
  for (int64_t i = 0; i < listed.size && !gathers && m.complete(); ++i)
    list[i] = i < rows.size ? static_cast<int32_t>(rows.size - 1 - i) : -1;
}

void describe(Maker& m, exn_layer_schedule_params& p) {
  const Dim positions = m.dim(0, 9, 100), layers = m.dim(1, 9, 60);
  m.out(FIELD(layers), kI32, {positions, layers});
  m.out(FIELD(count), kI32, {positions});
  m.out(FIELD(exit_test), kU8, {positions, layers}, kOptional);
  const int32_t kind = m.choice(FIELD(kind), EXN_SCHEDULE_SKIPDECODE, EXN_SCHEDULE_UNIFIED);
  const bool calm = kind == EXN_SCHEDULE_CALM, falls = kind == EXN_SCHEDULE_SKIPDECODE;
  calm ? (void)m.out(FIELD(threshold), kF32, {positions}, kOptional) : m.none(FIELD(threshold));
  if (kind == EXN_SCHEDULE_FIXED) {
    const Dim listed = m.derived(m.random().between(1, layers.size));
    int32_t* order = m.ids(FIELD(order), {listed}, {0, layers.size - 1, true});
    for (int64_t i = 0; i < listed.size && m.complete(); ++i)
      order[i] = static_cast<int32_t>(layers.size - 1 - i);
  } else {
    m.none(FIELD(order));
  }
  const int64_t least = m.random().between(1, layers.size);
  m.integer(FIELD(prompt), m.random().below(9), 0, falls ? 19 : INT64_MAX);
  m.integer(FIELD(horizon), 20, falls || calm ? 1 : kAny64, INT64_MAX);
  m.integer(FIELD(most), m.random().between(least, layers.size), falls ? least : kAny64,
            falls ? layers.size : INT64_MAX);
  const bool needs_least = falls || kind == EXN_SCHEDULE_UNIFIED;
  m.integer(FIELD(least), least, needs_least ? 1 : kAny64, needs_least ? layers.size : INT64_MAX);
  m.integer(FIELD(warm_up), m.random().between(0, least), falls ? 0 : kAny64,
            falls ? least : INT64_MAX);
  m.integer(FIELD(first_exit), m.random().below(5), calm ? 0 : kAny64, INT64_MAX);
  m.integer(FIELD(min_exit), m.random().below(5), calm ? 0 : kAny64, INT64_MAX);
  m.integer(FIELD(interval), m.random().between(1, 4), calm ? 1 : kAny64, INT64_MAX);
  m.integer(FIELD(decay), m.random().below(3), calm ? 0 : kAny64,
            calm ? int64_t{EXN_DECAY_CALM_PAPER} : INT64_MAX);
  calm ? m.real(FIELD(start_threshold), Domain::kFinite) : m.unused(FIELD(start_threshold));
  calm ? m.real(FIELD(tau), Domain::kNotNegative) : m.unused(FIELD(tau));
}

// ---- feed-forward blocks ------------------------------------------------------------------------

void describe(Maker& m, exn_ffn_params& p) {
  const Dim rows = m.dim(0, 3, 66), columns = m.dim(1, 20, 130), width = m.dim(1, 30, 200);
  const TypeOf type = m.type(kFloats), weights = m.type(kFloats);
  const Tensor* hidden = m.in(FIELD(hidden), type, {rows, columns}, kRows);
  const int32_t norm = m.choice(FIELD(norm), EXN_NORM_NONE, EXN_NORM_LAYER);
  norm_of(m, norm, FIELD(norm_weight), FIELD(norm_bias), columns);
  if (m.in(FIELD(gate_weight), weights, {width, columns}, kRows | kOptional)) {
    m.in(FIELD(gate_bias), kF32, {width}, kOptional);
  } else {
    m.none(FIELD(gate_bias));
  }
  m.in(FIELD(up_weight), weights, {width, columns}, kRows);
  m.in(FIELD(up_bias), kF32, {width}, kOptional);
  m.in(FIELD(down_weight), weights, {columns, width}, kRows);
  m.in(FIELD(down_bias), kF32, {columns}, kOptional);
  m.in(FIELD(skip), kU8, {rows}, kOptional);
  m.out_over(FIELD(out), hidden, type, {rows, columns}, kRows);
  m.out(FIELD(cosine), kF32, {rows}, kOptional);
  m.out(FIELD(branch_cosine), kF32, {rows}, kOptional);
  m.real(FIELD(norm_eps), Domain::kNotNegative);
  m.choice(FIELD(activation), EXN_ACT_SILU, EXN_ACT_GELU_TANH);
  m.zero(FIELD(reserved));
}

void describe(Maker& m, exn_ffn_skip_rule_params& p) {
  const Dim rows = m.dim(0, 5, 100);
  const int64_t layers = m.random().between(2, 9);
  m.integer(FIELD(model_layers), layers, 1, INT64_MAX);
  const int64_t layer = m.random().between(-1, layers - 2);
  const int64_t start = m.random().between(0, layers), end = m.random().between(start, layers);
  m.integer(FIELD(layer), layer, -1, layers - 2);
  m.integer(FIELD(cold_start), start, 0, end);
  m.integer(FIELD(cold_end), end, start, layers);
  m.integer(FIELD(warm_up), m.random().below(5), 0, INT64_MAX);
  m.integer(FIELD(token_index), m.random().below(9), 0, INT64_MAX);
  m.integer(FIELD(budget), m.random().between(-1, 4), -1, INT64_MAX);
  m.real(FIELD(threshold), Domain::kNotNan);
  m.in(FIELD(cosine), kF32, {rows}, layer >= 0 ? kPlain : kOptional);
  m.in(FIELD(token), kI32, {rows}, kOptional);
  m.in_out(FIELD(state), kI32, {rows, m.derived(EXN_FFN_SKIP_STATE_WORDS)});
  m.out(FIELD(skip), kU8, {rows});
}

// ---- token dropping -----------------------------------------------------------------------------

void describe(Maker& m, exn_attention_scores_params& p) {
  const CacheShape c = cache_shape(m);
  const int64_t prompts = m.random().between(0, c.sequences.size);
  const Dim window = m.dim(1, 3, 20), heads = m.derived(c.heads.size * m.random().between(1, 3));
  const Dim prompt = m.derived(prompts), rows = m.derived(prompts * window.size);
  m.in(FIELD(query), m.type(kFloats), {rows, heads, c.dim}, kRows);
  cache(m, p.keys, CACHE_NAMES("keys"), c, Role::kIn, kOptional);
  m.ids(FIELD(sequence), {prompt}, {0, c.sequences.size - 1, false}, kOptional);
  m.ids(FIELD(visible), {rows}, {0, c.slots, true});
  const Dim columns = m.derived(m.random().between(0, c.slots));
  m.integer(FIELD(columns), columns.size, 0, c.slots);
  m.integer(FIELD(first), m.random().between(0, c.slots - columns.size), 0, c.slots - columns.size);
  m.ids(FIELD(limit), {prompt}, {0, columns.size, true}, kOptional);
  m.integer(FIELD(window), window.size, 1, INT64_MAX);
  m.real(FIELD(scale), Domain::kPositive);
  m.choice(FIELD(kind), EXN_SCORE_RAW, EXN_SCORE_SOFTMAX);
  const int32_t reduction = m.choice(FIELD(reduction), EXN_HEADS_EACH, EXN_HEADS_GROUP_SUM);
  const Dim lists = reduction == EXN_HEADS_EACH        ? heads
                    : reduction == EXN_HEADS_GROUP_SUM ? c.heads
                                                       : m.derived(1);
  const bool accumulates = in_some(m, 4);
  const int32_t pool =
      accumulates ? EXN_POOL_NONE : m.random().pick({EXN_POOL_NONE, EXN_POOL_AVG, EXN_POOL_MAX});
  m.integer(FIELD(pool), pool, EXN_POOL_NONE, accumulates ? EXN_POOL_NONE : EXN_POOL_MAX);
  m.integer(FIELD(pool_width), pool == EXN_POOL_NONE ? 0 : m.random().pick({1, 3, 5, 255}),
            pool == EXN_POOL_NONE ? 0 : 1, pool == EXN_POOL_NONE ? 0 : 255);
  m.integer(FIELD(accumulate), accumulates ? 1 : 0, 0, 1);
  const bool selects = in_some(m, 2);
  const unsigned scores = selects && !accumulates ? kOptional : kPlain;
  accumulates ? m.in_out(FIELD(scores), kF32, {prompt, lists, columns})
              : m.out(FIELD(scores), kF32, {prompt, lists, columns}, scores);
  if (selects) {
    const SelectionShape shape{m.derived(prompts * lists.size), columns.size};
    return selection(m, p.selection, shape, kOptional | kWanted);
  }
  p.selection.indices = nullptr;
  m.none(FIELD(selection.count));
  m.none(FIELD(selection.valid));
  m.none(FIELD(selection.budget));
  m.none(FIELD(selection.segments));
  m.none(FIELD(selection.keep));
  m.none(FIELD(selection.drop));
  m.any_integer(FIELD(selection.k), 0);
}

void describe(Maker& m, exn_select_params& p) {
  const Dim rows = m.dim(0, 4, 20), columns = m.dim(0, 40, 600);
  const int64_t heads = m.random().pick({0, 1, 1, 3});
  const Dim all = heads > 1 ? m.derived(rows.size * heads) : rows;
  m.in(FIELD(scores), m.type(kFloats), {all, columns}, kRows);
  m.ids(FIELD(limit), {rows}, {0, columns.size, true}, kOptional);
  m.integer(FIELD(heads), heads, 0, INT64_MAX);
  selection(m, p.selection, {rows, columns.size}, kPlain);
}

void describe(Maker& m, exn_hired_budget_params& p) {
  const int64_t grid_rows = m.random().between(0, 3);
  const int64_t grid_cols = grid_rows == 0 ? 0 : m.random().between(1, 3);
  const int64_t patch_rows = std::max<int64_t>(grid_rows, 1) * m.random().between(1, 4);
  const int64_t patch_cols = std::max<int64_t>(grid_cols, 1) * m.random().between(1, 4);
  const Dim images = m.dim(0, 3, 9), patches = m.derived(patch_rows * patch_cols);
  m.in(FIELD(attention), kF32, {images, patches}, kRows);
  m.out(FIELD(budget), kI32, {images, m.derived(1 + grid_rows * grid_cols)});
  const int32_t score = m.choice(FIELD(score), EXN_HIRED_SUM, EXN_HIRED_TOP_COUNT);
  score == EXN_HIRED_TOP_COUNT ? (void)m.out(FIELD(marks), kU8, {images, patches}, kOptional)
                               : m.none(FIELD(marks));
  m.out(FIELD(valid), kU8, {images}, kOptional);
  m.real(FIELD(rate), Domain::kShare);
  m.real(FIELD(alpha), Domain::kShare);
  m.integer(FIELD(patch_rows), patch_rows, patch_rows, patch_rows);
  m.integer(FIELD(patch_cols), patch_cols, patch_cols, patch_cols);
  m.integer(FIELD(grid_rows), grid_rows, grid_rows, grid_rows);
  m.integer(FIELD(grid_cols), grid_cols, grid_cols, grid_cols);
  m.choice(FIELD(region), EXN_HIRED_GRID, EXN_HIRED_STRIP);
  m.choice(FIELD(remainder), EXN_HIRED_TRUNCATE, EXN_HIRED_LARGEST_REMAINDER);
  m.zero(FIELD(reserved));
}

void describe(Maker& m, exn_gather_params& p) {
  const Dim rows = m.dim(0, 9, 60), listed = m.dim(0, 5, 40), one = m.derived(1);
  const Dim count = m.dim(0, 3, EXN_GATHER_MAX_TENSORS);
  m.zero(FIELD(reserved));
  m.array_count(FIELD(tensor_count), count.size, 0, EXN_GATHER_MAX_TENSORS);
  m.integer(FIELD(rows), rows.size, 0, kMost32);
  int32_t* list = m.ids(FIELD(list), {listed}, {-1, rows.size - 1, false});
  // Ascending with negative entries behind, as an operation in place needs it.
  for (int64_t i = 0; i < listed.size && m.complete(); ++i)
    list[i] = i < rows.size ? static_cast<int32_t>(i) : -1;
  m.ids(FIELD(count), {one}, {0, listed.size, true}, kOptional);
  m.out(FIELD(moved), kI32, {one}, kOptional);
  exn_gather_tensor* tensors = m.array(FIELD(tensors), count.size);
  const auto describe_tensor = [&](exn_gather_tensor& tensor) {
    struct {
      exn_gather_tensor& tensors;
    } q{tensor};
#define TENSOR(field) q.tensors.field, "tensors[]." #field
    const TypeOf type = m.type(kAnything);
    const Dim columns = m.dim(0, 9, 60), heads = m.dim(0, 2, 4);
    const Dim enough = m.derived(listed.size + m.random().below(3));
    const Dim as_many = m.derived(rows.size);
    const Dim entries = in_some(m, 2) && rows.size >= listed.size ? as_many : enough;
    m.zero(TENSOR(reserved));
    const Tensor* input;
    if (in_some(m, 3)) {
      m.integer(TENSOR(axis), 1, 0, 2);
      input = m.in(TENSOR(input), type, {heads, rows, columns}, kAnyRank);
      m.out_over(TENSOR(out), input, type, {heads, entries, columns}, kAnyRank);
    } else {
      m.integer(TENSOR(axis), 0, 0, 1);
      input = m.in(TENSOR(input), type, {rows, columns}, kAnyRank | kRows);
      m.out_over(TENSOR(out), input, type, {entries, columns}, kAnyRank | kRows);
    }
#undef TENSOR
  };
  for (int64_t i = 0; i < count.size; ++i) describe_tensor(tensors[i]);
  const int32_t positions = m.choice(FIELD(positions), EXN_POSITIONS_KEEP, EXN_POSITIONS_RENUMBER);
  const bool renumbers = positions == EXN_POSITIONS_RENUMBER;
  m.integer(FIELD(first_position), renumbers ? m.random().below(9) : 0, renumbers ? kAny64 : 0,
            renumbers ? INT64_MAX : 0);
  const Dim enough = m.derived(listed.size + m.random().below(3));
  const bool placed = in_some(m, 2);
  const Tensor* position = nullptr;
  if (renumbers || !placed) {
    m.none(FIELD(position));
  } else {
    position = m.in(FIELD(position), kI32, {rows}, kOptional);
  }
  m.out_over(FIELD(position_out), position, kI32, {enough},
             kOptional | (placed ? kWanted : kNever));
}

void describe(Maker& m, exn_kv_compact_params& p) {
  const CacheShape from = cache_shape(m);
  const bool in_place = in_some(m, 2);
  CacheShape to = from;
  if (!in_place) {
    const int32_t layout = m.random().pick({EXN_KV_HEAD_MAJOR, EXN_KV_TOKEN_MAJOR, EXN_KV_PAGED});
    const Dim heads = m.derived(from.heads.size * m.random().between(1, 2));
    to = cache_shape(m, layout, from.sequences, heads, from.dim, from.type);
  }
  m.zero(FIELD(reserved));
  cache(m, p.destination, CACHE_NAMES("destination"), to, Role::kInOut);
  if (in_place) {
    const TensorField* half = m.fields();
    p.source = p.destination;
    m.any_integer(FIELD(source.layout), p.source.layout);
    m.zero(FIELD(source.reserved));
    m.again(FIELD(source.k), half[0].tensor);
    m.again(FIELD(source.v), half[1].tensor);
    half[2].tensor == nullptr ? m.none(FIELD(source.block_table))
                              : m.again(FIELD(source.block_table), half[2].tensor);
  } else {
    cache(m, p.source, CACHE_NAMES("source"), from, Role::kIn);
  }
  const int32_t per_head = m.choice(FIELD(per_head), 0, 1);
  const int64_t sequences = from.sequences.size;
  const int64_t lists = sequences * (per_head == 1 ? to.heads.size : 1);
  const Dim list_count = m.derived(lists), one = m.derived(1);
  const bool named = in_some(m, 2);  // as many as there are, in the other order
  const Dim batch = named ? m.derived(sequences) : from.sequences;
  int32_t* sequence = m.ids(FIELD(sequence), {batch}, {0, sequences - 1, true},
                            kOptional | (named ? kWanted : kNever));
  for (int64_t i = 0; sequence != nullptr && i < sequences && m.complete(); ++i)
    sequence[i] = static_cast<int32_t>(sequences - 1 - i);
  // Each list keeps the first `kept` of `used` slots.
  const int64_t used = std::min(from.slots, to.slots);
  const int64_t kept = m.random().between(0, used);
  const bool packed = in_some(m, 2);
  const Dim width = m.derived(packed ? lists * kept : kept + m.random().below(3));
  int32_t* list = packed ? m.ids(FIELD(list), {width}, {0, from.slots - 1, false})
                         : m.ids(FIELD(list), {list_count, width}, {0, from.slots - 1, false});
  const int64_t stride = packed ? kept : width.size;
  for (int64_t g = 0; g < lists && m.complete(); ++g) {
    for (int64_t i = 0; i < kept; ++i) list[g * stride + i] = static_cast<int32_t>(i);
  }
  if (packed) {
    int32_t* offsets = m.ids(FIELD(offsets), {m.derived(lists + 1)}, {0, lists * kept, true});
    for (int64_t g = 0; g <= lists && m.complete(); ++g)
      offsets[g] = static_cast<int32_t>(g * kept);
    m.none(FIELD(count));
  } else {
    m.none(FIELD(offsets));
    m.ids(FIELD(count), {list_count}, {0, kept, false});
  }
  const bool may_free = in_place && from.layout == EXN_KV_PAGED;
  const bool frees = may_free && in_some(m, 2);
  int32_t* length =
      m.ids(FIELD(length), {batch}, {0, from.slots, true}, frees ? kPlain : kOptional);
  for (int64_t i = 0; length != nullptr && i < sequences && m.complete(); ++i)
    length[i] = static_cast<int32_t>(m.random().between(used, from.slots));
  m.out(FIELD(new_length), kI32, {list_count}, kOptional);
  may_free
      ? (void)m.out(FIELD(freed), kI32, {m.dim(0, 9, 20)}, kOptional | (frees ? kWanted : kNever))
      : m.none(FIELD(freed));
  frees ? (void)m.out(FIELD(freed_count), kI32, {one}, kOptional) : m.none(FIELD(freed_count));
}

}  // namespace

#define EXN_UNDER_TEST(op, Args)                                                               \
  {"exn_" #op,                                                                                 \
   sizeof(exn_##op##_params),                                                                  \
   [](Maker& m, void* params) { describe(m, *static_cast<exn_##op##_params*>(params)); },      \
   [](const void* params) {                                                                    \
     return exn_##op##_supported(static_cast<const exn_##op##_params*>(params));               \
   },                                                                                          \
   [](const void* params, size_t* bytes) {                                                     \
     return exn_##op##_workspace_size(static_cast<const exn_##op##_params*>(params), bytes);   \
   },                                                                                          \
   [](const void* params, void* workspace, size_t bytes, exn_stream stream) {                  \
     return exn_##op(static_cast<const exn_##op##_params*>(params), workspace, bytes, stream); \
   }},
const OpUnderTest kOps[] = {EXN_FOR_EACH_OP(EXN_UNDER_TEST)};
const int kOpCount = sizeof kOps / sizeof *kOps;

}  // namespace exn::fuzz
