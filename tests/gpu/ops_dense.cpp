// SPDX-License-Identifier: Apache-2.0
//
// The ops with dense rows and weights: norm, rope_table, rope, linear, ffn, kv_propagate.
#include <algorithm>
#include <deque>

#include "table.h"
#include "case_table_dense.h"
#include "judge.h"
#include "oracle_dense.h"

namespace exn::test {

namespace {

constexpr unsigned char kUntouched = 0xCD;
constexpr int64_t kMostRowsOfABlock = 64;

std::string text_of(Type type) { return quoted(name_of(type)); }

double passes(int64_t rows) {
  return static_cast<double>((rows + kMostRowsOfABlock - 1) / kMostRowsOfABlock);
}

// ---- rows to rows -------------------------------------------------------------------------------

Case make_case(const NormCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) {
    auto instance = std::make_unique<Instance>(device_type);
    const NormInputs in = make_inputs(c);
    exn_norm_params params = {};
    params.struct_size = sizeof params;
    params.input = c.in_place ? instance->in_out("out", in.input) : instance->input(in.input);
    params.weight = instance->input(in.weight);
    params.bias = instance->input(in.bias);
    params.out = c.in_place ? params.input
                            : instance->output("out", c.out_type, in.input.shape, c.out_pad,
                                               c.out_offset);
    params.norm = c.norm;
    params.eps = c.eps;
    instance->call(EXN_TEST_OP(norm), params);
    return instance;
  };
  const auto oracle = lazily([c] { return norm_oracle(c, make_inputs(c)); });
  result.judge = [oracle](const Outputs& got) { return compare("out", oracle(), got[0]); };
  const int64_t elements = c.input.rows * c.input.cols;
  const int64_t coefficients = (c.norm != EXN_NORM_NONE ? 1 : 0) + (c.bias ? 1 : 0);
  result.compulsory_bytes = bytes_of(elements, c.input.type) + bytes_of(elements, c.out_type) +
                            bytes_of(coefficients * c.input.cols, Type::kF32);
  result.description = {{"rows", text(c.input.rows)},
                        {"dim", text(c.input.cols)},
                        {"dtype", text_of(c.input.type)},
                        {"out_dtype", text_of(c.out_type)},
                        {"norm", text(c.norm)}};
  return result;
}

Case make_case(const RopeTableCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) {
    auto instance = std::make_unique<Instance>(device_type);
    exn_rope_table_params params = {};
    params.struct_size = sizeof params;
    params.table = instance->output("table", Type::kF32, {c.positions, c.pairs, 2}, 0, c.offset);
    params.base = static_cast<double>(c.base);
    params.factor = static_cast<double>(c.factor);
    params.scaling = c.scaling;
    instance->call(EXN_TEST_OP(rope_table), params);
    return instance;
  };
  const auto oracle = lazily([c] { return rope_table_oracle(c); });
  result.judge = [oracle](const Outputs& got) { return compare("table", oracle(), got[0]); };
  result.compulsory_bytes = bytes_of(2 * c.positions * c.pairs, Type::kF32);
  result.description = {{"positions", text(c.positions)},
                        {"pairs", text(c.pairs)},
                        {"elements", text(2 * c.positions * c.pairs)}};
  return result;
}

HostTensor untouched_heads(const RopeCase& c) {
  HostTensor tensor =
      make_heads(c.input.type, c.input.rows, c.heads, c.dim, c.out_pad, c.out_offset);
  std::fill(tensor.bytes.begin(), tensor.bytes.end(), kUntouched);
  return tensor;
}

Case make_case(const RopeCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) {
    auto instance = std::make_unique<Instance>(device_type);
    const RopeInputs in = make_inputs(c);
    exn_rope_params params = {};
    params.struct_size = sizeof params;
    params.input = c.in_place ? instance->in_out("out", in.input) : instance->input(in.input);
    params.position = instance->input(in.position);
    params.table = instance->input(in.table);
    params.out = c.in_place ? params.input : instance->in_out("out", untouched_heads(c));
    params.style = c.style;
    instance->call(EXN_TEST_OP(rope), params);
    return instance;
  };
  const auto oracle = lazily([c] { return rope_oracle(c, make_inputs(c)); });
  result.judge = [oracle](const Outputs& got) { return compare("out", oracle(), got[0]); };
  const int64_t rows = c.input.rows;
  result.compulsory_bytes = 2 * bytes_of(rows * c.heads * c.dim, c.input.type) +
                            bytes_of(2 * rows * c.pairs, Type::kF32);
  result.description = {{"rows", text(rows)},           {"heads", text(c.heads)},
                        {"head_dim", text(c.dim)},      {"cols", text(c.heads * c.dim)},
                        {"dtype", text_of(c.input.type)}, {"pairs", text(c.pairs)},
                        {"positions", text(c.positions)}, {"style", text(c.style)}};
  return result;
}

// ---- products -----------------------------------------------------------------------------------

Case make_case(const LinearCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) {
    auto instance = std::make_unique<Instance>(device_type);
    const LinearInputs in = make_inputs(c);
    exn_linear_params params = {};
    params.struct_size = sizeof params;
    params.input = instance->input(in.input);
    params.weight = instance->input(in.weight);
    params.bias = instance->input(in.bias);
    params.residual =
        c.in_place ? instance->in_out("out", in.residual) : instance->input(in.residual);
    params.out = c.in_place ? params.residual
                            : instance->output("out", c.out_type, {c.input.rows, c.weight.rows},
                                               c.out_pad, c.out_offset);
    instance->call(EXN_TEST_OP(linear), params);
    return instance;
  };
  const auto oracle = lazily([c] { return linear_oracle(c, make_inputs(c)); });
  result.judge = [oracle](const Outputs& got) { return compare("out", oracle(), got[0]); };
  const int64_t rows = c.input.rows, dim = c.input.cols, cols = c.weight.rows;
  result.compulsory_bytes = passes(rows) * bytes_of(cols * dim, c.weight.type) +
                            bytes_of(rows * dim, c.input.type) +
                            (c.residual == "-" ? 1 : 2) * bytes_of(rows * cols, c.out_type);
  result.description = {{"rows", text(rows)},
                        {"dim", text(dim)},
                        {"cols", text(cols)},
                        {"dtype", text_of(c.input.type)},
                        {"weight_dtype", text_of(c.weight.type)},
                        {"out_dtype", text_of(c.out_type)},
                        {"residual", text(c.residual != "-")}};
  return result;
}

bool asks_for(const FfnCase& c, FfnOutput output) { return (c.outputs >> output & 1) != 0; }

std::unique_ptr<Instance> instantiate(const FfnCase& c, int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  const FfnInputs in = make_inputs(c);
  exn_ffn_params params = {};
  params.struct_size = sizeof params;
  params.hidden = c.in_place ? instance->in_out("out", in.hidden) : instance->input(in.hidden);
  params.norm_weight = instance->input(in.norm_weight);
  params.norm_bias = instance->input(in.norm_bias);
  params.gate_weight = instance->input(in.gate_weight);
  params.gate_bias = instance->input(in.gate_bias);
  params.up_weight = instance->input(in.up_weight);
  params.up_bias = instance->input(in.up_bias);
  params.down_weight = instance->input(in.down_weight);
  params.down_bias = instance->input(in.down_bias);
  params.skip = instance->input(in.skip);
  params.out = c.in_place ? params.hidden
                          : instance->output("out", c.hidden.type, in.hidden.shape, c.out_pad,
                                             c.out_offset);
  if (asks_for(c, kFfnCosine)) {
    params.cosine = instance->output("cosine", Type::kF32, {c.hidden.rows});
  }
  if (asks_for(c, kFfnBranchCosine)) {
    params.branch_cosine = instance->output("branch_cosine", Type::kF32, {c.hidden.rows});
  }
  params.norm = c.norm;
  params.norm_eps = c.norm_eps;
  params.activation = c.activation;
  instance->call(EXN_TEST_OP(ffn), params);
  return instance;
}

Complaint judge(const FfnCase& c, const FfnExpected& expected, const Outputs& got) {
  size_t next = 1;
  Complaint first = compare("out", expected.out, got[0]);
  if (first.empty() && asks_for(c, kFfnCosine)) {
    first = compare("cosine", expected.cosine, got[next]);
  }
  if (asks_for(c, kFfnCosine)) ++next;
  if (first.empty() && asks_for(c, kFfnBranchCosine)) {
    first = compare("branch_cosine", expected.branch_cosine, got[next]);
  }
  return first;
}

int64_t running_rows(const FfnCase& c) {
  const HostTensor skip = make_inputs(c).skip;
  if (!skip.given()) return c.hidden.rows;
  int64_t count = 0;
  for (int64_t r = 0; r < c.hidden.rows; ++r) count += skip.integer_at(r) == 0;
  return count;
}

Case make_case(const FfnCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) { return instantiate(c, device_type); };
  const auto oracle = lazily([c] { return ffn_oracle(c, make_inputs(c)); });
  result.judge = [c, oracle](const Outputs& got) { return judge(c, oracle(), got); };
  const int64_t rows = c.hidden.rows, dim = c.hidden.cols;
  const int64_t running = running_rows(c);
  result.compulsory_bytes =
      passes(running) * bytes_of((c.gate ? 3 : 2) * c.width * dim, c.weight_type) +
      bytes_of((c.in_place ? 2 * running : 2 * rows) * dim, c.hidden.type);
  result.description = {{"rows", text(rows)},
                        {"dim", text(dim)},
                        {"width", text(c.width)},
                        {"dtype", text_of(c.hidden.type)},
                        {"weight_dtype", text_of(c.weight_type)},
                        {"gate", text(c.gate)},
                        {"norm", text(c.norm)},
                        {"activation", text(c.activation)},
                        {"cosines", text(asks_for(c, kFfnCosine) + asks_for(c, kFfnBranchCosine))},
                        {"running", text(running)}};
  return result;
}

// ---- keys and values of layers that were left out -----------------------------------------------

using Layers = std::vector<exn_kv_layer>;

exn_kv_layer layer_on(Instance* instance, const KvPropagateCase& c, const KvLayerInputs& in) {
  exn_kv_layer layer = {};
  layer.norm_weight = instance->input(in.norm_weight);
  layer.norm_bias = instance->input(in.norm_bias);
  layer.k_weight = instance->input(in.k_weight);
  layer.k_bias = instance->input(in.k_bias);
  layer.v_weight = instance->input(in.v_weight);
  layer.v_bias = instance->input(in.v_bias);
  layer.cache.k = instance->in_out("layer " + text(in.index) + " k", in.k);
  layer.cache.v = instance->in_out("layer " + text(in.index) + " v", in.v);
  layer.cache.block_table = instance->input(in.block_table);
  layer.cache.layout = c.layout;
  layer.index = in.index;
  return layer;
}

// `layers` must outlive the instance: a call's parameters point to it.
std::unique_ptr<Instance> instantiate(const KvPropagateCase& c, const KvPropagateInputs& in,
                                      int32_t device_type, Layers* layers) {
  auto instance = std::make_unique<Instance>(device_type);
  exn_kv_propagate_params params = {};
  params.struct_size = sizeof params;
  params.hidden = instance->input(in.hidden);
  params.exit_layer = instance->input(in.exit_layer);
  params.sequence = instance->input(in.sequence);
  params.slot = instance->input(in.slot);
  params.position = instance->input(in.position);
  params.rope_table = instance->input(in.table);
  for (const KvLayerInputs& layer : in.layers) {
    layers->push_back(layer_on(instance.get(), c, layer));
  }
  params.layers = layers->data();
  params.layer_count = static_cast<int32_t>(layers->size());
  params.model_layers = static_cast<int32_t>(c.model_layers);
  params.rope_style = c.rope_style;
  params.norm = c.norm;
  params.norm_eps = c.norm_eps;
  instance->call(EXN_TEST_OP(kv_propagate), params);
  return instance;
}

Complaint judge(const std::vector<KvLayerExpected>& expected, const Outputs& got) {
  for (size_t i = 0; i < expected.size(); ++i) {
    const std::string layer = "entry " + std::to_string(i);
    const Complaint complaint = first_of({compare(layer + " k", expected[i].k, got[2 * i]),
                                          compare(layer + " v", expected[i].v, got[2 * i + 1])});
    if (!complaint.empty()) return complaint;
  }
  return "";
}

// Weights of the layers that some row owes, and what is written.
double compulsory_bytes(const KvPropagateCase& c, const KvPropagateInputs& in) {
  double bytes = 0;
  for (size_t i = 0; i < in.layers.size(); ++i) {
    int64_t owed = 0;
    for (int64_t r = 0; r < c.hidden.rows; ++r) {
      const int64_t ran = in.exit_layer.integer_at(r);
      const int64_t place = (c.slot_per_layer ? static_cast<int64_t>(i) * c.hidden.rows : 0) + r;
      owed += ran >= 0 && ran <= in.layers[i].index && in.slot.integer_at(place) >= 0;
    }
    bytes += passes(owed) * 2 * bytes_of(c.weight.rows * c.weight.cols, c.weight.type) +
             2 * bytes_of(owed * c.weight.rows, c.cache_type);
  }
  return bytes;
}

Case make_case(const KvPropagateCase& c) {
  Case result;
  const auto all_layers = std::make_shared<std::deque<Layers>>();
  result.instantiate = [c, all_layers](int32_t device_type) {
    all_layers->emplace_back();
    return instantiate(c, make_inputs(c), device_type, &all_layers->back());
  };
  const auto oracle = lazily([c] { return kv_propagate_oracle(c, make_inputs(c)); });
  result.judge = [oracle](const Outputs& got) { return judge(oracle(), got); };
  result.compulsory_bytes = compulsory_bytes(c, make_inputs(c));
  result.description = {{"rows", text(c.hidden.rows)},
                        {"dim", text(c.hidden.cols)},
                        {"heads", text(c.heads)},
                        {"head_dim", text(c.head_dim)},
                        {"layers", text(c.layers)},
                        {"dtype", text_of(c.hidden.type)},
                        {"weight_dtype", text_of(c.weight.type)},
                        {"cache_dtype", text_of(c.cache_type)},
                        {"norm", text(c.norm)},
                        {"pairs", text(c.pairs)},
                        {"style", text(c.rope_style)},
                        {"mixed", text(c.exits == "mixed")}};
  return result;
}

const Room kNorm("norm", [] { return listed("norm", norm_cases(), make_case); });
const Room kRopeTable("rope_table", [] { return listed("rope_table", rope_table_cases(), make_case); });
const Room kRope("rope", [] { return listed("rope", rope_cases(), make_case); });
const Room kLinear("linear", [] { return listed("linear", linear_cases(), make_case); });
const Room kFfn("ffn", [] { return listed("ffn", ffn_cases(), make_case); });
const Room kKvPropagate("kv_propagate", [] { return listed("kv_propagate", kv_propagate_cases(), make_case); });

}  // namespace

}  // namespace exn::test
