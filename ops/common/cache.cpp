// SPDX-License-Identifier: Apache-2.0
#include "cache.h"

#include <algorithm>

#include "judge.h"
#include "reals.h"

namespace exn::test {

// ---- tables -------------------------------------------------------------------------------------

namespace {

const std::vector<const char*> kLayouts = {"head", "token", "paged"};

}  // namespace

void read_layout(const Row& row, const char* layout, const char* sequences, const char* slots,
                 const char* page, CacheSpec* c) {
  c->layout = row.choice(layout, kLayouts);
  c->sequence_axis = row.text(sequences) != "-";
  c->sequences = c->sequence_axis ? row.integer(sequences) : 1;
  c->slots = row.integer(slots);
  const bool paged = c->layout == EXN_KV_PAGED;
  if (paged != (row.text(page) != "-")) fail(std::string(page) + " goes with the paged layout");
  if (!paged) return;
  c->page = row.integer(page);
  if (!c->sequence_axis || c->slots % c->page != 0)
    fail(std::string(page) + " does not divide the slots of a sequence");
}

CacheSpec read_cache(const Row& row, const char* dtype, const char* offset) {
  CacheSpec c;
  read_layout(row, "layout", "sequences", "slots", "page", &c);
  c.heads = row.integer("heads");
  c.dim = row.integer("dim");
  c.type = row.type(dtype);
  c.offset = row.integer(offset);
  return c;
}

std::string layout_name(const CacheSpec& c) { return quoted(kLayouts[at(c.layout)]); }

// ---- contents -----------------------------------------------------------------------------------

int64_t cache_index(const CacheSpec& c, const HostTensor& block_table, int64_t sequence,
                    int64_t slot, int64_t head, int64_t element) {
  if (c.layout == EXN_KV_HEAD_MAJOR)
    return ((sequence * c.heads + head) * c.slots + slot) * c.dim + element;
  int64_t row = sequence * c.slots + slot;
  if (c.layout == EXN_KV_PAGED) {
    row = block_table.integer_at(sequence * c.blocks() + slot / c.page) * c.page + slot % c.page;
  }
  return (row * c.heads + head) * c.dim + element;
}

namespace {

std::vector<int64_t> shape_of(const CacheSpec& c) {
  if (c.layout == EXN_KV_PAGED) return {c.pages(), c.page, c.heads, c.dim};
  std::vector<int64_t> shape = c.layout == EXN_KV_HEAD_MAJOR
                                   ? std::vector<int64_t>{c.heads, c.slots, c.dim}
                                   : std::vector<int64_t>{c.slots, c.heads, c.dim};
  if (c.sequence_axis) shape.insert(shape.begin(), c.sequences);
  return shape;
}

}  // namespace

CacheTensors empty_cache(const CacheSpec& c, uint64_t seed) {
  CacheTensors t;
  if (c.layout == EXN_KV_PAGED) {
    const std::vector<int64_t> pages = shuffled(c.pages(), seed, 7);
    t.block_table = make_tensor(Type::kI32, {c.sequences, c.blocks()});
    for (int64_t i = 0; i < c.sequences * c.blocks(); ++i)
      t.block_table.set_integer(i, pages[at(i)]);
  }
  for (HostTensor* side : {&t.k, &t.v}) {
    *side = make_tensor(c.type, shape_of(c), 0, c.offset);
    if (side->cols == 0) continue;
    side->set(0, 0, kNaN);
    const size_t size = at(size_of(c.type));
    unsigned char* first = side->bytes.data();
    for (size_t i = size; i < side->bytes.size(); i += size) std::memcpy(first + i, first, size);
  }
  return t;
}

CacheTensors full_cache(const CacheSpec& c, uint64_t seed, uint64_t stream) {
  CacheTensors t = empty_cache(c, seed);
  const std::vector<int64_t> all(at(c.sequences), c.slots);
  fill_seen(c, t.block_table, all, "normal", 1, seed, stream, &t.k);
  fill_seen(c, t.block_table, all, "normal", 1, seed, stream + 1, &t.v);
  return t;
}

CacheTensors zero_cache(const CacheSpec& c) {
  CacheTensors t = empty_cache(c, 1);
  for (HostTensor* side : {&t.k, &t.v}) std::fill(side->bytes.begin(), side->bytes.end(), 0);
  return t;
}

void scatter(const CacheSpec& c, const HostTensor& block_table, const HostTensor& values,
             HostTensor* side) {
  for (int64_t row = 0; row < values.rows; ++row) {
    for (int64_t head = 0; head < c.heads; ++head) {
      const int64_t to = cache_index(c, block_table, row / c.slots, row % c.slots, head, 0);
      for (int64_t i = 0; i < c.dim; ++i) side->set(0, to + i, values.at(row, head * c.dim + i));
    }
  }
}

void fill_seen(const CacheSpec& c, const HostTensor& block_table, const std::vector<int64_t>& seen,
               const std::string& kind, float scale, uint64_t seed, uint64_t stream,
               HostTensor* side) {
  HostTensor values = make_tensor(c.type, {c.sequences * c.slots, c.columns()});
  fill(&values, seed, stream, kind, scale, "-");
  for (int64_t row = 0; row < values.rows; ++row) {
    const bool hidden = row % c.slots >= seen[at(row / c.slots)];
    for (int64_t i = 0; hidden && i < values.cols; ++i) values.set(row, i, kNaN);
  }
  scatter(c, block_table, values, side);
}

void put_special(const CacheSpec& c, uint64_t seed, const std::string& special,
                 CacheTensors* cache) {
  HostTensor* side = special[0] == 'k' ? &cache->k : &cache->v;
  const std::string what = special.substr(1);
  const bool half = special == "k_ninf_half";
  if (what != "_nan" && what != "_pinf" && what != "_ninf" && !half)
    fail("cache_special: unknown word '" + special + "'");
  const double value = what == "_nan" ? kNaN : what == "_pinf" ? kInf : -kInf;
  const int64_t element = pick(seed, 6, 0, c.dim), middle = c.slots / 2;
  for (int64_t slot = half ? 0 : middle; slot <= middle; ++slot)
    side->set(0, cache_index(c, cache->block_table, 0, slot, c.heads - 1, element), value);
}

HostTensor make_sequences(const std::string& kind, int64_t rows, int64_t sequences, uint64_t seed,
                          uint64_t stream) {
  if (kind == "-") return {};
  if (kind != "mod" && kind != "random") fail("sequence: unknown word '" + kind + "'");
  HostTensor t = make_tensor(Type::kI32, {rows});
  for (int64_t r = 0; r < rows; ++r)
    t.set_integer(r, kind == "mod" ? r % sequences : pick(seed, stream, r, sequences));
  return t;
}

HostTensor make_head_rows(const MatrixSpec& m, int64_t dim, uint64_t seed, uint64_t stream) {
  HostTensor t = make_heads(m.type, m.rows, m.cols / dim, dim, m.pad, m.offset);
  fill(&t, seed, stream, m.fill, m.scale, m.special);
  return t;
}

// ---- on a device --------------------------------------------------------------------------------

exn_kv_cache input_cache(Instance* instance, const CacheSpec& c, const CacheTensors& tensors) {
  const DLTensor* k = instance->input(tensors.k);
  const DLTensor* v = instance->input(tensors.v);
  return {k, v, instance->input(tensors.block_table), c.layout, 0};
}

exn_kv_cache in_out_cache(Instance* instance, const CacheSpec& c, const CacheTensors& tensors,
                          const std::string& prefix) {
  const DLTensor* k = instance->in_out(prefix + "k", tensors.k);
  const DLTensor* v = instance->in_out(prefix + "v", tensors.v);
  return {k, v, instance->input(tensors.block_table), c.layout, 0};
}

CacheSpec little_cache(int32_t layout) {
  CacheSpec c;
  c.layout = layout;
  c.sequences = 2;
  c.heads = 2;
  c.slots = 4;
  c.page = 2;
  c.dim = 8;
  return c;
}

}  // namespace exn::test
