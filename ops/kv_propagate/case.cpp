// SPDX-License-Identifier: Apache-2.0
#include "kv_propagate/case.h"

#include <algorithm>

#include "dense.h"
#include "judge.h"
#include "parts.h"

namespace exn::test {
inline namespace kv_propagate_op {

std::vector<KvPropagateCase> kv_propagate_cases() {
  return read_cases<KvPropagateCase>("kv_propagate", [](const Row& row, KvPropagateCase* c) {
    c->hidden = read_matrix(row, "hidden", "rows", "dim", "special");
    CacheSpec& cache = c->cache;
    cache.layout = row.choice("layout", {"head_major", "token_major", "paged"});
    cache.sequences = row.integer("sequences");
    cache.sequence_axis = cache.sequences > 1;
    cache.heads = row.integer("heads");
    cache.slots = row.integer("slots");
    cache.page = row.integer("page");
    cache.dim = row.integer("head_dim");
    cache.type = row.type("cache");
    c->weights = read_matrices(row, "weight");
    c->bias = row.flag("bias");
    c->layers = row.integer("layers");
    c->first_layer = row.integer("first_layer");
    c->layer_step = row.integer("layer_step");
    c->model_layers = row.integer("model_layers");
    c->norm = row.choice("norm", kNorms);
    c->norm_eps = row.number("norm_eps");
    c->norm_bias = row.flag("norm_bias");
    c->pairs = row.integer("pairs");
    c->positions = row.integer("positions");
    c->table = row.text("table");
    c->rope_style = row.choice("rope_style", kRopeStyles);
    c->exits = row.text("exits");
    c->slot_per_layer = row.choice("slot", {"shared", "per_layer"}) == 1;
    c->slots_off = row.flag("slots_off");
    if (cache.layout == EXN_KV_PAGED && cache.slots % cache.page != 0) {
      fail("slots are no multiple of page");
    }
    if (cache.slots % 5 == 0) fail("slots are a multiple of 5, so rows would share one");
    if ((c->hidden.rows + cache.sequences - 1) / cache.sequences > cache.slots) {
      fail("more rows than slots");
    }
  });
}

namespace {

int64_t make_exit(const KvPropagateCase& c, int64_t row) {
  if (c.exits == "zero") return 0;
  if (c.exits == "none") return -1;
  if (c.exits == "last") return c.model_layers;
  if (c.exits == "first") return c.first_layer;
  if (c.exits == "mixed") return row % 4 == 3 ? -1 : pick(c.seed, 10, row, c.model_layers + 1);
  fail("exits: unknown word '" + c.exits + "'");
}

// Distinct for the rows of one sequence, since 5 and the number of slots have no common divisor.
int64_t make_slot(const KvPropagateCase& c, int64_t layer, int64_t row) {
  if (c.slots_off && pick(c.seed, 11, layer * c.hidden.rows + row, 5) == 0) return -1;
  return (row / c.cache.sequences * 5 + 3 + layer) % c.cache.slots;
}

KvLayerInputs make_layer(const KvPropagateCase& c, int64_t layer) {
  const uint64_t stream = 128 + 16 * static_cast<uint64_t>(layer);
  const int64_t width = c.cache.columns(), dim = c.hidden.cols;
  KvLayerInputs in;
  in.index = static_cast<int32_t>(c.first_layer + layer * c.layer_step);
  in.k_weight = make_matrix(c.k_weight(layer), c.seed, stream);
  in.v_weight = make_matrix(c.v_weight(layer), c.seed, stream + 1);
  if (c.bias) {
    in.k_bias = make_bell(Type::kF32, {width}, c.seed, stream + 2, 0.25f);
    in.v_bias = make_bell(Type::kF32, {width}, c.seed, stream + 3, 0.25f);
  }
  if (c.norm != EXN_NORM_NONE) {
    in.norm_weight = make_bell(Type::kF32, {dim}, c.seed, stream + 4, 0.25f, 1);
  }
  if (c.norm_bias) in.norm_bias = make_bell(Type::kF32, {dim}, c.seed, stream + 5, 0.25f);
  in.cache = full_cache(c.cache, c.seed, stream + 6);
  return in;
}

}  // namespace

KvPropagateInputs make_inputs(const KvPropagateCase& c) {
  const int64_t rows = c.hidden.rows;
  KvPropagateInputs in;
  in.hidden = make_matrix(c.hidden, c.seed, 0);
  in.exit_layer = make_tensor(Type::kI32, {rows});
  if (c.cache.sequences > 1) in.sequence = make_tensor(Type::kI32, {rows});
  in.slot = make_tensor(Type::kI32, c.slot_per_layer ? std::vector<int64_t>{c.layers, rows}
                                                     : std::vector<int64_t>{rows});
  if (c.pairs > 0) {
    in.position = make_tensor(Type::kI32, {rows});
    in.table = make_rope_table(c.positions, c.pairs, c.table, c.seed);
  }
  for (int64_t r = 0; r < rows; ++r) {
    in.exit_layer.set_integer(r, make_exit(c, r));
    if (in.sequence.given()) in.sequence.set_integer(r, r % c.cache.sequences);
    if (in.position.given()) in.position.set_integer(r, pick(c.seed, 12, r, c.positions));
    for (int64_t k = 0; k < (c.slot_per_layer ? c.layers : 1); ++k) {
      in.slot.set_integer(k * rows + r, make_slot(c, k, r));
    }
  }
  for (int64_t k = 0; k < c.layers; ++k) in.layers.push_back(make_layer(c, k));
  return in;
}

int64_t KvPropagateInputs::slot_of(size_t layer, int64_t row) const {
  const bool per_layer = slot.shape.size() == 2;
  return slot.integer_at(per_layer ? static_cast<int64_t>(layer) * hidden.rows + row : row);
}

bool KvPropagateInputs::owes(size_t layer, int64_t row) const {
  const int64_t exit = exit_layer.integer_at(row);
  return exit >= 0 && exit <= layers[layer].index && slot_of(layer, row) >= 0;
}

namespace {

std::vector<Expected> unchanged(const HostTensor& t) {
  std::vector<Expected> values;
  for (int64_t i = 0; i < t.cols; ++i) values.push_back({t.at(0, i), 0});
  return values;
}

// Rounded to a 16-bit type, an element within its error of a boundary to either side.
void round_values(Type type, Values* values) {
  for (Approximate& v : *values) {
    const double rounded = rounded_to(type, v.x);
    const double low = rounded_to(type, v.x - v.error());
    const double high = rounded_to(type, v.x + v.error());
    v = {rounded, std::max(high - rounded, rounded - low), 0};
  }
}

KvLayerExpected layer_oracle(const KvPropagateCase& c, const KvPropagateInputs& in, size_t entry) {
  const KvLayerInputs& layer = in.layers[entry];
  const Matrix k_weight = matrix_of(layer.k_weight), v_weight = matrix_of(layer.v_weight);
  KvLayerExpected expected = {unchanged(layer.cache.k), unchanged(layer.cache.v),
                              k_weight.quantised};
  for (int64_t r = 0; r < c.hidden.rows; ++r) {
    if (!in.owes(entry, r)) continue;
    Values x = exact_values(in.hidden, r);
    normalise(&x, c.norm, c.norm_eps, layer.norm_weight, layer.norm_bias);
    if (c.hidden.type == c.k_weight(0).type && is_16_bit(c.hidden.type)) {
      round_values(c.hidden.type, &x);
    }
    Values k = projected(k_weight, layer.k_bias, x);
    const Values v = projected(v_weight, layer.v_bias, x);
    const int64_t sequence = in.sequence.given() ? in.sequence.integer_at(r) : 0;
    const int64_t slot = in.slot_of(entry, r), dim = c.cache.dim;
    for (int64_t h = 0; h < c.cache.heads; ++h) {
      if (c.pairs > 0) {
        rotate(&k[at(h * dim)], in.table, c.pairs, in.position.integer_at(r), c.rope_style);
      }
      const int64_t to = cache_index(c.cache, layer.cache.block_table, sequence, slot, h, 0);
      for (int64_t i = 0; i < dim; ++i) {
        expected.k[at(to + i)] = stored(c.cache.type, k[at(h * dim + i)], c.exact);
        expected.v[at(to + i)] = stored(c.cache.type, v[at(h * dim + i)], c.exact);
      }
    }
  }
  return expected;
}

}  // namespace

std::vector<KvLayerExpected> kv_propagate_oracle(const KvPropagateCase& c,
                                                 const KvPropagateInputs& in) {
  std::vector<KvLayerExpected> expected;
  for (size_t entry = 0; entry < in.layers.size(); ++entry) {
    expected.push_back(layer_oracle(c, in, entry));
  }
  return expected;
}

namespace {

exn_kv_layer layer_on(Instance* instance, const KvPropagateCase& c, const KvLayerInputs& in) {
  exn_kv_layer layer = {};
  layer.norm_weight = instance->input(in.norm_weight);
  layer.norm_bias = instance->input(in.norm_bias);
  layer.k_weight = instance->input(in.k_weight);
  layer.k_bias = instance->input(in.k_bias);
  layer.v_weight = instance->input(in.v_weight);
  layer.v_bias = instance->input(in.v_bias);
  layer.k_blocks = in.k_weight.blocks;
  layer.v_blocks = in.v_weight.blocks;
  layer.cache = in_out_cache(instance, c.cache, in.cache, "layer " + text(in.index) + " ");
  layer.index = in.index;
  return layer;
}

}  // namespace

std::unique_ptr<Instance> instantiate(const KvPropagateCase& c, const KvPropagateInputs& in,
                                      int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  exn_kv_propagate_params params = {};
  params.struct_size = sizeof params;
  params.hidden = instance->input(in.hidden);
  params.exit_layer = instance->input(in.exit_layer);
  params.sequence = instance->input(in.sequence);
  params.slot = instance->input(in.slot);
  params.position = instance->input(in.position);
  params.rope_table = instance->input(in.table);
  std::vector<exn_kv_layer> layers;
  for (const KvLayerInputs& layer : in.layers) layers.push_back(layer_on(instance.get(), c, layer));
  params.layer_count = static_cast<int32_t>(layers.size());
  params.layers = instance->keep(std::move(layers));
  params.model_layers = static_cast<int32_t>(c.model_layers);
  params.rope_style = c.rope_style;
  params.norm = c.norm;
  params.norm_eps = c.norm_eps;
  instance->call(EXN_TEST_OP(kv_propagate), params);
  return instance;
}

Complaint judge(const std::vector<KvLayerExpected>& expected, const Outputs& got) {
  const bool quantised = expected[0].quantised;
  const auto side = [&](const char* name, const std::vector<Expected>& values,
                        const HostTensor& cache) {
    return compare(name, values, quantised ? without_infinities(values, cache) : cache);
  };
  Complaint complaint;
  for (size_t i = 0; i < expected.size() && complaint.empty(); ++i) {
    complaint =
        first_of({side("k", expected[i].k, got[2 * i]), side("v", expected[i].v, got[2 * i + 1])});
    if (!complaint.empty()) complaint = "entry " + text(static_cast<int64_t>(i)) + " " + complaint;
  }
  return complaint;
}

namespace {

// Weights of the layers that some row owes, and what is written.
double compulsory_bytes(const KvPropagateCase& c) {
  const KvPropagateInputs in = make_inputs(c);
  double bytes = 0;
  for (size_t entry = 0; entry < in.layers.size(); ++entry) {
    int64_t owed = 0;
    for (int64_t r = 0; r < c.hidden.rows; ++r) owed += in.owes(entry, r);
    const auto layer = static_cast<int64_t>(entry);
    bytes += passes_over_weights(owed) *
             (weight_bytes(c.k_weight(layer)) + weight_bytes(c.v_weight(layer)));
    bytes += 2 * bytes_of(owed * c.cache.columns(), c.cache.type);
  }
  return bytes;
}

Case make_case(const KvPropagateCase& c) {
  Case result;
  const auto in = lazily([c] { return make_inputs(c); });
  result.instantiate = [c, in](int32_t device_type) { return instantiate(c, in(), device_type); };
  const auto oracle = lazily([c, in] { return kv_propagate_oracle(c, in()); });
  result.judge = [oracle](const Outputs& got) { return judge(oracle(), got); };
  result.compulsory_bytes = compulsory_bytes(c);
  result.description = {{"rows", text(c.hidden.rows)},
                        {"dim", text(c.hidden.cols)},
                        {"heads", text(c.cache.heads)},
                        {"head_dim", text(c.cache.dim)},
                        {"layers", text(c.layers)},
                        {"dtype", quoted(name_of(c.hidden.type))},
                        {"weight_dtype", quoted(weight_name(c.k_weight(0)))},
                        {"cache_dtype", quoted(name_of(c.cache.type))},
                        {"norm", text(c.norm)},
                        {"pairs", text(c.pairs)},
                        {"style", text(c.rope_style)},
                        {"mixed", text(c.exits == "mixed")}};
  return result;
}

// Of formats of which one may be null.
bool shorter(const BlockFormat* a, const BlockFormat* b) {
  const auto elements = [](const BlockFormat* f) { return f == nullptr ? 0 : f->elements; };
  return elements(a) < elements(b);
}

void describe(Maker& m, exn_kv_propagate_params& p) {
  constexpr CacheNames kNames = CACHE_NAMES("layers[].cache");
  const Dim rows = m.dim("rows", 0, 3, 66), count = m.count(1, 2, 3);
  exn_kv_layer* layers = m.array(FIELD(layers), count.size);
#define LAYER(field) q.layers.field, "layers[]." #field
  struct Layer {
    exn_kv_layer& layers;
  };
  const BlockFormat *k_blocks[3] = {}, *v_blocks[3] = {};
  for (int64_t j = 0; j < count.size; ++j) {
    Layer q{layers[j]};
    k_blocks[j] = j == 0 ? m.blocks(LAYER(k_blocks)) : m.blocks_as(k_blocks[0], LAYER(k_blocks));
    v_blocks[j] = m.blocks_as(k_blocks[0], LAYER(v_blocks));
  }
  const Dim columns = m.columns({*std::max_element(k_blocks, k_blocks + 3, shorter),
                                 *std::max_element(v_blocks, v_blocks + 3, shorter)},
                                "columns", 1, 20, 130);
  const CacheShape c = cache_shape(m, kNames);
  const Dim width = m.fixed(times(c.heads.size, c.dim.size));
  m.in(FIELD(hidden), m.type(kFloats), {rows, columns}, kRows);
  m.array_count(FIELD(layer_count), count.size, 1, EXN_KV_PROPAGATE_MAX_LAYERS);
  m.integer(FIELD(model_layers), 8, 1, INT64_MAX);
  m.zero(FIELD(reserved));
  m.ids(FIELD(exit_layer), {rows}, {-1, p.model_layers, true});
  const int32_t* sequence =
      m.ids(FIELD(sequence), {rows}, {0, c.sequences.size - 1, false}, kOptional);
  const Ids slots{-1, c.slots - 1, false};
  const bool per_layer = m.some("slot_of_each_layer", 2);
  int32_t* slot = per_layer ? m.ids(FIELD(slot), {count, rows}, slots, kAnyRank)
                            : m.ids(FIELD(slot), {rows}, slots, kAnyRank);
  for (int64_t j = 0; j < (per_layer ? count.size : 1) && m.complete(); ++j)
    distinct_slots(m, slot + j * rows.size, sequence, rows.size, c.slots);
  const Dim positions = m.dim("positions", 1, 9, 60);
  const bool turned = c.dim.size >= 2 && m.some("turned", 2);
  const Dim pairs = m.derived(turned ? m.within("pairs", 1, c.dim.size / 2) : 1);
  m.in(FIELD(rope_table), kF32, {positions, pairs, m.fixed(2)},
       kOptional | (turned ? kWanted : kNever));
  m.ids(FIELD(position), {rows}, {0, positions.size - 1, false}, turned ? kPlain : kOptional);
  m.choice(FIELD(rope_style), EXN_ROPE_INTERLEAVED, EXN_ROPE_HALF);
  const int32_t norm = m.choice(FIELD(norm), EXN_NORM_NONE, EXN_NORM_LAYER);
  m.real(FIELD(norm_eps), Domain::kNotNegative);
  const TypeOf weights = m.type(kFloats);
  for (int64_t j = 0; j < count.size; ++j) {
    Layer q{layers[j]};
    CacheShape own = c;  // layers may differ in their slots
    own.run = m.derived(c.run.size);
    own.blocks = m.derived(c.blocks.size);
    own.pages = m.derived(c.pages.size);
    norm_of(m, norm, LAYER(norm_weight), LAYER(norm_bias), columns);
    m.weights(LAYER(k_weight), k_blocks[j], weights, {width, columns});
    m.in(LAYER(k_bias), kF32, {width}, kOptional);
    m.weights(LAYER(v_weight), v_blocks[j], weights, {width, columns});
    m.in(LAYER(v_bias), kF32, {width}, kOptional);
    cache(m, q.layers.cache, kNames, own, Role::kInOut);
    m.integer(LAYER(index), 2 * j + 1, 0, 7);
  }
#undef LAYER
}

const Described kDescribed = EXN_DESCRIBED(kv_propagate);

const RegisteredOp kRegistered("kv_propagate", [] {
  return listed("kv_propagate", kv_propagate_cases(), make_case);
});

}  // namespace

}  // namespace kv_propagate_op
}  // namespace exn::test
