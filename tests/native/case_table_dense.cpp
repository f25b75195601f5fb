// SPDX-License-Identifier: Apache-2.0
#include "case_table_dense.h"

#include "table.h"

namespace exn::test {

namespace {

const std::vector<const char*> kNorms = {"none", "rms", "layer"};
const std::vector<const char*> kRopeStyles = {"interleaved", "half"};

}  // namespace

std::vector<NormCase> norm_cases() {
  return read_cases<NormCase>("norm", [](const Row& row, NormCase* c) {
                                c->input = read_matrix(row, "input", "rows", "dim", "special");
                                c->out_type = row.type("out");
                                c->out_pad = row.integer("out_pad");
                                c->out_offset = row.integer("out_offset");
                                c->norm = row.choice("norm", kNorms);
                                c->eps = row.number("eps");
                                c->bias = row.flag("bias");
                                c->in_place = row.flag("in_place");
                                if (c->in_place && c->out_type != c->input.type) {
                                  fail("in_place, but out has another dtype");
                                }
                              });
}

std::vector<RopeTableCase> rope_table_cases() {
  return read_cases<RopeTableCase>("rope_table", [](const Row& row, RopeTableCase* c) {
        c->positions = row.integer("positions");
        c->pairs = row.integer("pairs");
        c->offset = row.integer("offset");
        c->base = row.number("base");
        c->factor = row.number("factor");
        c->scaling = row.choice("scaling", {"none", "linear", "ntk"});
      });
}

std::vector<RopeCase> rope_cases() {
  return read_cases<RopeCase>("rope", [](const Row& row, RopeCase* c) {
                                c->input = read_matrix(row, "input", "rows", "dim", "special");
                                c->heads = row.integer("heads");
                                c->dim = row.integer("dim");
                                c->input.cols = c->heads * c->dim;
                                c->out_pad = row.integer("out_pad");
                                c->out_offset = row.integer("out_offset");
                                c->in_place = row.flag("in_place");
                                c->positions = row.integer("positions");
                                c->pairs = row.integer("pairs");
                                c->table = row.text("table");
                                c->position = row.text("position");
                                c->style = row.choice("style", kRopeStyles);
                              });
}

std::vector<LinearCase> linear_cases() {
  return read_cases<LinearCase>("linear", [](const Row& row, LinearCase* c) {
        c->input = read_matrix(row, "input", "rows", "dim", "special");
        c->weight = read_matrix(row, "weight", "cols", "dim");
        c->bias = row.text("bias");
        c->residual = row.text("residual");
        c->residual_pad = row.integer("residual_pad");
        c->out_type = row.type("out");
        c->out_pad = row.integer("out_pad");
        c->out_offset = row.integer("out_offset");
        c->in_place = row.flag("in_place");
        if (c->in_place && c->residual == "-") fail("in_place without a residual");
      });
}

std::vector<FfnCase> ffn_cases() {
  return read_cases<FfnCase>("ffn", [](const Row& row, FfnCase* c) {
        c->hidden = read_matrix(row, "hidden", "rows", "dim", "special");
        c->width = row.integer("width");
        c->weight_type = row.type("weight");
        c->weight_pad = row.integer("weight_pad");
        c->weight_offset = row.integer("weight_offset");
        c->weight_scale = row.number("weight_scale");
        c->gate = row.flag("gate");
        c->biases = row.flag("biases");
        c->skip = row.text("skip");
        c->norm = row.choice("norm", kNorms);
        c->norm_eps = row.number("norm_eps");
        c->norm_bias = row.flag("norm_bias");
        c->activation = row.choice("activation", {"silu", "gelu", "gelu_tanh"});
        c->out_pad = row.integer("out_pad");
        c->out_offset = row.integer("out_offset");
        c->in_place = row.flag("in_place");
        if (row.text("outputs") != "-") {
          c->outputs = row.subset("outputs", {"cosine", "branch_cosine"});
        }
      });
}

std::vector<KvPropagateCase> kv_propagate_cases() {
  return read_cases<KvPropagateCase>("kv_propagate", [](const Row& row, KvPropagateCase* c) {
        c->hidden = read_matrix(row, "hidden", "rows", "dim", "special");
        c->heads = row.integer("heads");
        c->head_dim = row.integer("head_dim");
        c->weight = read_matrix(row, "weight", "heads", "dim");
        c->weight.rows = c->heads * c->head_dim;
        c->bias = row.flag("bias");
        c->cache_type = row.type("cache");
        c->layout = row.choice("layout", {"head_major", "token_major", "paged"});
        c->sequences = row.integer("sequences");
        c->slots = row.integer("slots");
        c->page = row.integer("page");
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
        if (c->layout == EXN_KV_PAGED && c->slots % c->page != 0) {
          fail("slots are no multiple of page");
        }
        if (c->slots % 5 == 0) fail("slots are a multiple of 5, so rows would share one");
        if ((c->hidden.rows + c->sequences - 1) / c->sequences > c->slots) {
          fail("more rows than slots");
        }
      });
}

// ---- inputs -------------------------------------------------------------------------------------

namespace {

int64_t draw(uint64_t seed, uint64_t stream, int64_t i, int64_t below) {
  return static_cast<int64_t>(word(seed, stream, static_cast<uint64_t>(i)) %
                              static_cast<uint64_t>(below));
}

// Any numbers serve as cosines and sines: the ops read the table, whoever made it.
HostTensor make_table(int64_t positions, int64_t pairs, const std::string& kind, uint64_t seed) {
  HostTensor t = make_tensor(Type::kF32, {positions, pairs, 2});
  fill(&t, seed, 2, kind, kind == "normal" ? 0.5f : 1.0f, "-");
  return t;
}

HostTensor make_vector(const std::string& kind, int64_t size, uint64_t seed, uint64_t stream) {
  HostTensor t;
  if (kind == "-") return t;
  t = make_tensor(Type::kF32, {size});
  fill(&t, seed, stream, kind, 1, "-");
  return t;
}

}  // namespace

NormInputs make_inputs(const NormCase& c) {
  NormInputs in;
  in.input = make_matrix(c.input, c.seed, 0);
  if (c.norm != EXN_NORM_NONE) {
    in.weight = make_bell(Type::kF32, {c.input.cols}, c.seed, 1, 0.25f, 1);
  }
  if (c.bias) in.bias = make_bell(Type::kF32, {c.input.cols}, c.seed, 3, 0.25f);
  return in;
}

RopeInputs make_inputs(const RopeCase& c) {
  RopeInputs in;
  in.input = make_heads(c.input.type, c.input.rows, c.heads, c.dim, c.input.pad, c.input.offset);
  fill(&in.input, c.seed, 0, c.input.fill, c.input.scale, c.input.special);
  in.position = make_tensor(Type::kI32, {c.input.rows});
  for (int64_t r = 0; r < c.input.rows; ++r) {
    int64_t at = 0;
    if (c.position == "random") {
      at = draw(c.seed, 1, r, c.positions);
    } else if (c.position == "ascending") {
      at = r % c.positions;
    } else if (c.position == "last") {
      at = c.positions - 1;
    } else {
      fail("position: unknown word '" + c.position + "'");
    }
    in.position.set_integer(r, at);
  }
  in.table = make_table(c.positions, c.pairs, c.table, c.seed);
  return in;
}

LinearInputs make_inputs(const LinearCase& c) {
  LinearInputs in;
  in.input = make_matrix(c.input, c.seed, 0);
  in.weight = make_matrix(c.weight, c.seed, 1);
  in.bias = make_vector(c.bias, c.weight.rows, c.seed, 2);
  if (c.residual == "-") return in;
  const int64_t pad = c.in_place ? c.out_pad : c.residual_pad,
                offset = c.in_place ? c.out_offset : 0;
  in.residual = make_matrix(
      {c.input.rows, c.weight.rows, c.out_type, pad, offset, c.residual, 1, "-"}, c.seed, 3);
  return in;
}

namespace {

HostTensor make_skip(const FfnCase& c) {
  const int64_t rows = c.hidden.rows;
  HostTensor t = make_tensor(Type::kU8, {rows});
  for (int64_t r = 0; r < rows; ++r) {
    bool skips = false;
    if (c.skip == "all") {
      skips = true;
    } else if (c.skip == "some") {
      skips = draw(c.seed, 9, r, 3) == 0;
    } else if (c.skip == "alternate") {
      skips = r % 2 == 0;
    } else if (c.skip == "but_last") {
      skips = r + 1 < rows;
    } else if (c.skip != "none") {
      fail("skip: unknown word '" + c.skip + "'");
    }
    t.set_integer(r, skips ? 1 + 127 * (r % 3) : 0);  // 1, 128, 255
  }
  return t;
}

}  // namespace

FfnInputs make_inputs(const FfnCase& c) {
  const int64_t d = c.hidden.cols, f = c.width;
  const auto weight = [&](int64_t rows, int64_t cols, uint64_t stream) {
    return make_matrix(
        {rows, cols, c.weight_type, c.weight_pad, c.weight_offset, "normal", c.weight_scale, "-"},
        c.seed, stream);
  };
  FfnInputs in;
  in.hidden = make_matrix(c.hidden, c.seed, 0);
  if (c.gate) in.gate_weight = weight(f, d, 1);
  in.up_weight = weight(f, d, 2);
  in.down_weight = weight(d, f, 3);
  if (c.norm != EXN_NORM_NONE) in.norm_weight = make_bell(Type::kF32, {d}, c.seed, 4, 0.25f, 1);
  if (c.norm_bias) in.norm_bias = make_bell(Type::kF32, {d}, c.seed, 5, 0.25f);
  if (c.biases) {
    if (c.gate) in.gate_bias = make_bell(Type::kF32, {f}, c.seed, 6, 0.125f);
    in.up_bias = make_bell(Type::kF32, {f}, c.seed, 7, 0.125f);
    in.down_bias = make_bell(Type::kF32, {d}, c.seed, 8, 0.125f);
  }
  if (c.skip != "-") in.skip = make_skip(c);
  return in;
}

namespace {

int64_t exit_of(const KvPropagateCase& c, int64_t row) {
  if (c.exits == "zero") return 0;
  if (c.exits == "none") return -1;
  if (c.exits == "last") return c.model_layers;
  if (c.exits == "first") return c.first_layer;
  if (c.exits == "mixed") return row % 4 == 3 ? -1 : draw(c.seed, 10, row, c.model_layers + 1);
  fail("exits: unknown word '" + c.exits + "'");
}

// Distinct for the rows of one sequence, since 5 and the number of slots have no common divisor.
int64_t slot_of(const KvPropagateCase& c, int64_t layer, int64_t row) {
  if (c.slots_off && draw(c.seed, 11, layer * c.hidden.rows + row, 5) == 0) return -1;
  return (row / c.sequences * 5 + 3 + layer) % c.slots;
}

std::vector<int64_t> cache_shape(const KvPropagateCase& c) {
  if (c.layout == EXN_KV_PAGED) {
    return {c.sequences * (c.slots / c.page) + 1, c.page, c.heads, c.head_dim};
  }
  std::vector<int64_t> shape = {c.sequences, c.slots, c.heads, c.head_dim};
  if (c.layout == EXN_KV_HEAD_MAJOR) std::swap(shape[1], shape[2]);
  if (c.sequences == 1) shape.erase(shape.begin());
  return shape;
}

HostTensor make_cache(const KvPropagateCase& c, uint64_t stream) {
  HostTensor t = make_tensor(c.cache_type, cache_shape(c));
  fill(&t, c.seed, stream, "normal", 1, "-");
  return t;
}

HostTensor make_block_table(const KvPropagateCase& c) {
  HostTensor t;
  if (c.layout != EXN_KV_PAGED) return t;
  const int64_t blocks = c.slots / c.page, pages = c.sequences * blocks + 1;
  t = make_tensor(Type::kI32, {c.sequences, blocks});
  for (int64_t i = 0; i < c.sequences * blocks; ++i) t.set_integer(i, pages - 1 - i);
  return t;
}

KvLayerInputs make_layer(const KvPropagateCase& c, int64_t layer) {
  const uint64_t stream = 128 + 16 * static_cast<uint64_t>(layer);
  const int64_t width = c.heads * c.head_dim;
  KvLayerInputs in;
  in.index = static_cast<int32_t>(c.first_layer + layer * c.layer_step);
  in.k_weight = make_matrix(c.weight, c.seed, stream);
  in.v_weight = make_matrix(c.weight, c.seed, stream + 1);
  if (c.bias) {
    in.k_bias = make_bell(Type::kF32, {width}, c.seed, stream + 2, 0.25f);
    in.v_bias = make_bell(Type::kF32, {width}, c.seed, stream + 3, 0.25f);
  }
  if (c.norm != EXN_NORM_NONE) {
    in.norm_weight = make_bell(Type::kF32, {c.hidden.cols}, c.seed, stream + 4, 0.25f, 1);
  }
  if (c.norm_bias) in.norm_bias = make_bell(Type::kF32, {c.hidden.cols}, c.seed, stream + 5, 0.25f);
  in.k = make_cache(c, stream + 6);
  in.v = make_cache(c, stream + 7);
  in.block_table = make_block_table(c);
  return in;
}

}  // namespace

KvPropagateInputs make_inputs(const KvPropagateCase& c) {
  const int64_t rows = c.hidden.rows;
  KvPropagateInputs in;
  in.hidden = make_matrix(c.hidden, c.seed, 0);
  in.exit_layer = make_tensor(Type::kI32, {rows});
  if (c.sequences > 1) in.sequence = make_tensor(Type::kI32, {rows});
  in.slot = make_tensor(Type::kI32, c.slot_per_layer ? std::vector<int64_t>{c.layers, rows}
                                                     : std::vector<int64_t>{rows});
  if (c.pairs > 0) {
    in.position = make_tensor(Type::kI32, {rows});
    in.table = make_table(c.positions, c.pairs, c.table, c.seed);
  }
  for (int64_t r = 0; r < rows; ++r) {
    in.exit_layer.set_integer(r, exit_of(c, r));
    if (in.sequence.given()) in.sequence.set_integer(r, r % c.sequences);
    if (in.position.given()) in.position.set_integer(r, draw(c.seed, 12, r, c.positions));
    for (int64_t k = 0; k < (c.slot_per_layer ? c.layers : 1); ++k) {
      in.slot.set_integer(k * rows + r, slot_of(c, k, r));
    }
  }
  for (int64_t k = 0; k < c.layers; ++k) in.layers.push_back(make_layer(c, k));
  return in;
}

// ---- parts and sizes ----------------------------------------------------------------------------

HostTensor rows_of(const HostTensor& t, int64_t first, int64_t count) {
  HostTensor part = make_tensor(t.type, {count, t.cols}, t.stride - t.cols, t.offset);
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t c = 0; c < t.cols; ++c) part.set(r, c, t.at(first + r, c));
  }
  return part;
}

std::vector<unsigned char> row_bytes(const HostTensor& t, int64_t first, int64_t count) {
  std::vector<unsigned char> bytes;
  for (int64_t r = first; r < first + count; ++r) {
    const auto at = t.bytes.begin() + r * t.stride * size_of(t.type);
    bytes.insert(bytes.end(), at, at + t.cols * size_of(t.type));
  }
  return bytes;
}

int64_t elements_of(const NormCase& c) {
  return 2 * c.input.rows * c.input.cols + 2 * c.input.cols;
}

int64_t elements_of(const RopeTableCase& c) { return 2 * c.positions * c.pairs; }

int64_t elements_of(const RopeCase& c) {
  return 2 * c.input.rows * c.input.cols + 2 * c.positions * c.pairs;
}

int64_t elements_of(const LinearCase& c) {
  return c.input.rows * (c.input.cols + c.weight.rows) + c.weight.rows * c.weight.cols;
}

int64_t elements_of(const FfnCase& c) {
  return 2 * c.hidden.rows * c.hidden.cols + (c.gate ? 3 : 2) * c.width * c.hidden.cols;
}

int64_t elements_of(const KvPropagateCase& c) {
  int64_t cache = 1;
  for (int64_t extent : cache_shape(c)) cache *= extent;
  const int64_t layer = 2 * (c.weight.rows * c.weight.cols + cache);
  return c.hidden.rows * c.hidden.cols + 2 * c.positions * c.pairs + c.layers * layer;
}

}  // namespace exn::test
