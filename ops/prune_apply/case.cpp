// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "judge.h"
#include "maker.h"

namespace exn::test {
inline namespace prune_apply_op {

namespace {

constexpr const char* kNames[] = {"weight", "grad", "momentum", "variance"};

struct PruneApplyCase : CaseBase {
  std::vector<std::vector<int64_t>> shapes;
  std::vector<std::string> values;  // a dtype or "-" for each of kNames
  int64_t pad = 0;
  int64_t offset = 0;
  int64_t mask_pad = 0;
  int64_t mask_offset = 0;
  float pruned = 0;
};

void read_case(const Row& row, PruneApplyCase* c) {
  for (const std::string& word : read_words(row.text("shapes"), ','))
    c->shapes.push_back(read_list(word, 'x'));
  c->values = read_words(row.text("values"), ',');
  if (c->values.size() != std::size(kNames)) fail("values: four words are expected");
  c->pad = row.integer("pad");
  c->offset = row.integer("offset");
  c->mask_pad = row.integer("mask_pad");
  c->mask_offset = row.integer("mask_offset");
  c->pruned = row.number("pruned");
}

struct Input {
  HostTensor mask;
  HostTensor values[std::size(kNames)];
};

// Elements of any bits: NaNs of all kinds among them.
Input make_input(const PruneApplyCase& c, size_t which) {
  const int64_t rows = c.shapes[which][0], cols = c.shapes[which][1];
  const uint64_t stream = 16 * which;
  Input in;
  in.mask = make_tensor(Type::kU8, {rows, cols}, c.mask_pad, c.mask_offset);
  for (size_t k = 0; k < std::size(kNames); ++k) {
    if (c.values[k] == "-") continue;
    in.values[k] = make_tensor(type_in("values", c.values[k]), {rows, cols}, c.pad, c.offset);
  }
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < cols; ++j) {
      const uint64_t w = word(c.seed, stream, static_cast<uint64_t>(i * cols + j));
      in.mask.bytes[static_cast<size_t>(i * in.mask.stride + j)] =
          unit(w) < c.pruned ? 0 : static_cast<unsigned char>(1 + w % 255);
    }
    for (size_t k = 0; k < std::size(kNames); ++k) {
      HostTensor& t = in.values[k];
      if (!t.given()) continue;
      put_words(&t, static_cast<size_t>(i * t.stride * size_of(t.type)), cols, c.seed,
                stream + 1 + k, i * cols);
    }
  }
  return in;
}

std::vector<Input> make_inputs(const PruneApplyCase& c) {
  std::vector<Input> all;
  for (size_t t = 0; t < c.shapes.size(); ++t) all.push_back(make_input(c, t));
  return all;
}

HostTensor zeroed(const HostTensor& mask, HostTensor t) {
  const int64_t size = size_of(t.type);
  for (int64_t i = 0; i < t.rows; ++i) {
    for (int64_t j = 0; j < t.cols; ++j) {
      if (mask.bytes[static_cast<size_t>(i * mask.stride + j)] != 0) continue;
      std::fill_n(t.bytes.begin() + (i * t.stride + j) * size, size, static_cast<unsigned char>(0));
    }
  }
  return t;
}

ExactOutputs expected(const std::vector<Input>& in) {
  ExactOutputs all;
  for (size_t t = 0; t < in.size(); ++t) {
    for (size_t k = 0; k < std::size(kNames); ++k) {
      if (!in[t].values[k].given()) continue;
      all.emplace_back(kNames[k] + (" " + std::to_string(t)), zeroed(in[t].mask, in[t].values[k]));
    }
  }
  return all;
}

std::unique_ptr<Instance> instantiate(const std::vector<Input>& in, int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  std::vector<exn_prune_apply_tensor> tensors;
  for (size_t t = 0; t < in.size(); ++t) {
    const DLTensor* values[std::size(kNames)] = {};
    for (size_t k = 0; k < std::size(kNames); ++k) {
      if (in[t].values[k].given())
        values[k] = instance->in_out(kNames[k] + (" " + std::to_string(t)), in[t].values[k]);
    }
    tensors.push_back({instance->input(in[t].mask), values[0], values[1], values[2], values[3]});
  }
  exn_prune_apply_params params = {};
  params.struct_size = sizeof params;
  params.tensor_count = static_cast<int32_t>(tensors.size());
  params.tensors = instance->keep(std::move(tensors));
  instance->call(EXN_TEST_OP(prune_apply), params);
  return instance;
}

Case make_case(const PruneApplyCase& c) {
  Case result;
  const auto in = lazily([c] { return make_inputs(c); });
  result.instantiate = [in](int32_t device_type) { return instantiate(in(), device_type); };
  const auto oracle = lazily([in] { return expected(in()); });
  result.judge = [oracle](const Outputs& got) { return compare_bytes(oracle(), got); };
  int64_t elements = 0;
  for (const std::vector<int64_t>& shape : c.shapes) elements += shape[0] * shape[1];
  result.compulsory_bytes = static_cast<double>(elements);
  int64_t tensors = 0;
  for (const std::string& word : c.values) {
    if (word == "-") continue;
    ++tensors;
    result.compulsory_bytes += 2 * bytes_of(elements, type_in("values", word));
  }
  result.description = {{"elements", text(elements)}, {"values", text(tensors)}};
  return result;
}

void describe(Maker& m, exn_prune_apply_params& p) {
  const Dim count = m.count(1, 2, 6);
  m.array_count(FIELD(tensor_count), count.size, 1, EXN_PRUNE_MAX_TENSORS);
  m.zero(FIELD(reserved));
  exn_prune_apply_tensor* tensors = m.array(FIELD(tensors), count.size);
  for (int64_t i = 0; i < count.size; ++i) {
    struct {
      exn_prune_apply_tensor& tensors;
    } q{tensors[i]};
#define TENSOR(field) q.tensors.field, "tensors[]." #field
    const Dim rows = m.dim("rows", 0, 5, 40), columns = m.dim("columns", 0, 20, 300);
    m.in(TENSOR(mask), kU8, {rows, columns}, kRows);
    m.in_out(TENSOR(weight), m.type(kFloatsAndF64), {rows, columns}, kRows | kOptional);
    m.in_out(TENSOR(grad), m.type(kFloatsAndF64), {rows, columns}, kRows | kOptional);
    m.in_out(TENSOR(momentum), m.type(kFloatsAndF64), {rows, columns}, kRows | kOptional);
    m.in_out(TENSOR(variance), m.type(kFloatsAndF64), {rows, columns}, kRows | kOptional);
#undef TENSOR
  }
}

const Described kDescribed = EXN_DESCRIBED(prune_apply);

const RegisteredOp kRegistered("prune_apply", [] {
  return listed("prune_apply", read_cases<PruneApplyCase>("prune_apply", read_case), make_case);
});

}  // namespace

}  // namespace prune_apply_op
}  // namespace exn::test
