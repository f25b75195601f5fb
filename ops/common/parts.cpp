// SPDX-License-Identifier: Apache-2.0
#include "parts.h"

namespace exn::test {
namespace {

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

// Ascending pairs within 0..columns.
void ranges(Maker& m, const DLTensor*& field, const char* name, const char* per_row_name,
            const SelectionShape& s) {
  const Dim count = m.dim(name, 0, 2, 4), two = m.fixed(2);
  const bool per_row = m.some(per_row_name, 2);
  int32_t* pairs =
      per_row ? m.integers(field, name, Role::kIn, {s.rows, count, two}, kOptional | kAnyRank)
              : m.integers(field, name, Role::kIn, {count, two}, kOptional | kAnyRank);
  TensorField& f = m.fields()[m.field_count() - 1];
  f.has_ids = true;
  f.ids = {0, s.columns, s.rows.size > 0};
  const int64_t total = times(per_row ? s.rows.size : 1, count.size);
  for (int64_t i = 0; pairs != nullptr && i < total && m.complete(); ++i) {
    pairs[2 * i] = static_cast<int32_t>(m.random().between(0, s.columns));
    pairs[2 * i + 1] = static_cast<int32_t>(m.random().between(pairs[2 * i], s.columns));
  }
}

}  // namespace

void stats(Maker& m, exn_stats& out, Dim rows, Dim columns, bool softmax) {
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
  if (m.some("labels", 2)) {
    m.ids(FIELD(out.labels), {rows}, {-1, columns.size - 1, rows.size > 0});
    m.out(FIELD(out.label_log_p), kF32, {rows});
  } else {
    m.none(FIELD(out.labels));
    m.none(FIELD(out.label_log_p));
  }
  if (softmax && m.some("draws", 2)) {
    m.in(FIELD(out.draw_key), kI64, {rows});
    m.in(FIELD(out.draw_counter), kI64, {rows});
    Tensor* temperature = m.in(FIELD(out.draw_temperature), kF32, {rows}, kOptional);
    for (int64_t i = 0; temperature != nullptr && i < temperature->elements; ++i)
      temperature->data<float>()[i] = static_cast<float>(i % 5) / 2;
    m.out(FIELD(out.draw), kI32, {rows});
  } else {
    m.none(FIELD(out.draw_key));
    m.none(FIELD(out.draw_counter));
    m.none(FIELD(out.draw_temperature));
    m.none(FIELD(out.draw));
  }
}

void norm_of(Maker& m, int32_t norm, const DLTensor*& weight, const char* weight_name,
             const DLTensor*& bias, const char* bias_name, Dim columns) {
  norm == EXN_NORM_NONE ? m.none(weight, weight_name)
                        : (void)m.in(weight, weight_name, kF32, {columns});
  norm != EXN_NORM_LAYER ? m.none(bias, bias_name)
                         : (void)m.in(bias, bias_name, kF32, {columns}, kOptional);
}

CacheShape cache_shape(Maker& m, const CacheNames& names, int32_t layout, Dim sequences, Dim heads,
                       Dim dim, TypeOf type) {
  CacheShape c{};
  const bool paged = layout == EXN_KV_PAGED;
  c.layout = layout;
  c.heads = heads;
  c.dim = dim;
  c.type = type;
  c.sequences = sequences;
  c.run = paged ? m.dim(names.page, 1, 4, 16) : m.dim(names.slots, 0, 9, 40);
  c.blocks = paged ? m.dim(names.blocks, 0, 3, 5) : m.derived(0);
  c.slots = paged ? times(c.run.size, c.blocks.size) : c.run.size;
  const int64_t pages = times(c.sequences.size, c.blocks.size);
  c.pages = m.derived(paged ? m.size(names.pages, plus(pages, m.random().below(3))) : 0);
  c.has_one = !paged && c.sequences.size == 1 && m.some("no_sequence_axis", 2);
  return c;
}

CacheShape cache_shape(Maker& m, const CacheNames& names) {
  const int32_t layout = cache_layout(m, names);
  const Dim sequences = m.dim(names.sequences, 1, 3, 5), heads = m.dim("heads", 1, 3, 5),
            dim = m.dim("head_dim", 1, 20, 130);
  return cache_shape(m, names, layout, sequences, heads, dim, m.type(kFloats));
}

int32_t cache_layout(Maker& m, const CacheNames& names) {
  return m.one_of(names.layout, EXN_KV_HEAD_MAJOR, EXN_KV_PAGED);
}

void cache(Maker& m, exn_kv_cache& p, const CacheNames& names, const CacheShape& c, Role role,
           unsigned v_flags) {
  m.integer(p.layout, names.layout, c.layout, EXN_KV_HEAD_MAJOR, EXN_KV_PAGED);
  m.zero(p.reserved, names.reserved);
  cache_half(m, p.k, names.k, c, role, kAnyRank);
  cache_half(m, p.v, names.v, c, role, kAnyRank | v_flags);
  if (c.layout != EXN_KV_PAGED) return m.none(p.block_table, names.block_table);
  // All pages different, in an order that is not theirs. Which entries a call looks at depends on
  // its slots, so that a strange one need not be refused.
  int32_t* pages = m.ids(p.block_table, names.block_table, {c.sequences, c.blocks},
                         {0, c.pages.size - 1, false});
  const int64_t used = times(c.sequences.size, c.blocks.size);
  for (int64_t i = 0; i < used && m.complete(); ++i)
    pages[i] = static_cast<int32_t>(c.pages.size - 1 - i);
}

void cache_again(Maker& m, exn_kv_cache& p, const CacheNames& names, const exn_kv_cache& first) {
  const TensorField* of_first = m.fields();
  p = first;
  m.any_integer(p.layout, names.layout, p.layout);
  m.zero(p.reserved, names.reserved);
  m.again(p.k, names.k, of_first[0].tensor);
  m.again(p.v, names.v, of_first[1].tensor);
  of_first[2].tensor == nullptr ? m.none(p.block_table, names.block_table)
                                : m.again(p.block_table, names.block_table, of_first[2].tensor);
}

void distinct_slots(Maker& m, int32_t* slots, const int32_t* sequences, int64_t rows,
                    int64_t capacity) {
  int32_t next[16] = {};
  for (int64_t r = 0; r < rows && m.complete(); ++r) {
    const int32_t sequence = sequences != nullptr ? sequences[r] & 15 : 0;
    const bool off = next[sequence] >= capacity || m.some("left_out", 12);
    slots[r] = off ? -1 : next[sequence]++;
  }
}

void selection(Maker& m, exn_selection& given, const SelectionShape& s, unsigned needed) {
  struct {
    exn_selection& selection;
  } p{given};
  const int64_t k = m.within("k", 0, plus(s.columns, 1));
  const Dim capacity = m.derived(m.size("capacity", plus(k, m.random().below(3))));
  m.out(FIELD(selection.indices), kI32, {s.rows, capacity}, needed);
  m.out(FIELD(selection.count), kI32, {s.rows}, kOptional);
  m.out(FIELD(selection.valid), kU8, {s.rows}, kOptional);
  const bool segmented = m.some("segmented", 3), budgeted = m.some("budgeted", 2);
  const Dim segments = m.dim("segments", 1, 3, 6), ends = m.derived(plus(segments.size, 1));
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
  const Ids counts{0, plus(s.columns, 3), false};
  if (segmented && budgeted) {
    m.ids(FIELD(selection.budget), {s.rows, segments}, counts, kOptional);
  } else {
    m.ids(FIELD(selection.budget), {s.rows}, counts,
          kOptional | (budgeted && !segmented ? kWanted : kNever));
  }
  ranges(m, FIELD(selection.keep), "keep_of_each_row", s);
  ranges(m, FIELD(selection.drop), "drop_of_each_row", s);
  // Without a budget there must be space for k, unless segments say otherwise.
  const bool enforced = given.budget == nullptr;
  m.integer(FIELD(selection.k), k, enforced ? 0 : INT64_MIN, INT64_MAX);
}

}  // namespace exn::test
