// SPDX-License-Identifier: Apache-2.0
#include "prune_mask/case.h"

#include <algorithm>
#include <cmath>

#include "judge.h"
#include "maker.h"

namespace exn::test {
inline namespace prune_mask_op {

namespace {

struct PruneMaskCase : CaseBase {
  std::vector<MatrixSpec> weights;
  int64_t mask_pad = 0;
  int64_t mask_offset = 0;
  std::string norm;
  float old = -1;  // share that is pruned already; -1: `first`
  PruneOptions options;
};

MatrixSpec matrix_in(const std::string& text) {
  const size_t colon = text.find(':'), by = text.find('x');
  if (colon == std::string::npos || by == std::string::npos) fail("tensors: '" + text + "'");
  MatrixSpec m;
  m.type = type_in("tensors", text.substr(0, colon));
  m.rows = number_in("tensors", text.substr(colon + 1, by - colon - 1));
  m.cols = number_in("tensors", text.substr(by + 1));
  return m;
}

void read_case(const Row& row, PruneMaskCase* c) {
  for (const std::string& word : read_words(row.text("tensors"), ',')) {
    MatrixSpec m = matrix_in(word);
    m.pad = row.integer("pad");
    m.offset = row.integer("offset");
    m.fill = row.text("fill");
    m.scale = row.number("scale");
    m.special = row.text("special");
    c->weights.push_back(m);
  }
  c->mask_pad = row.integer("mask_pad");
  c->mask_offset = row.integer("mask_offset");
  c->norm = row.text("norm");
  row.choice("norm", {"-", "unit", "ints", "nan", "second"});
  c->old = row.text("old") == "-" ? -1 : row.number("old");
  c->options.first = c->old < 0;
  c->options.ratio = std::stod(row.text("ratio"));
  c->options.scope = row.choice("scope", {"row", "tensor", "global"});
  c->options.which = row.choice("which", {"smallest", "largest"});
  c->options.rounding = row.choice("rounding", {"down", "nearest"});
}

HostTensor make_norm(const PruneMaskCase& c, size_t which) {
  HostTensor norm;
  if (c.norm == "-" || (c.norm == "second" && which % 2 == 0)) return norm;
  norm = make_tensor(Type::kF32, {c.weights[which].cols});
  for (int64_t j = 0; j < norm.cols; ++j) {
    const uint64_t w = word(c.seed, 64 + which, static_cast<uint64_t>(j));
    const bool is_nan = c.norm == "nan" && w % 5 == 0;
    norm.set(0, j,
             is_nan             ? std::nan("")
             : c.norm == "ints" ? static_cast<double>((w >> 8) % 4)
                                : static_cast<double>(unit(w)));
  }
  return norm;
}

HostTensor make_mask(const PruneMaskCase& c, size_t which) {
  const MatrixSpec& m = c.weights[which];
  HostTensor mask = make_tensor(Type::kU8, {m.rows, m.cols}, c.mask_pad, c.mask_offset);
  for (int64_t i = 0; i < mask.size(); ++i) {
    const uint64_t w = word(c.seed, 128 + which, static_cast<uint64_t>(i));
    const bool pruned = c.old >= 0 && unit(w) < c.old;
    mask.bytes[static_cast<size_t>(i / m.cols * mask.stride + i % m.cols)] =
        pruned ? 0 : static_cast<unsigned char>(1 + w % 255);
  }
  return mask;
}

std::vector<PruneInput> make_inputs(const PruneMaskCase& c) {
  std::vector<PruneInput> tensors;
  for (size_t t = 0; t < c.weights.size(); ++t)
    tensors.push_back({make_matrix(c.weights[t], c.seed, t), make_norm(c, t), make_mask(c, t)});
  return tensors;
}

struct Element {
  size_t tensor;
  int64_t row;
  int64_t col;
  float score;
};

unsigned char& mask_of(std::vector<HostTensor>* masks, const Element& e) {
  HostTensor& mask = (*masks)[e.tensor];
  return mask.bytes[static_cast<size_t>(e.row * mask.stride + e.col)];
}

// Sorts what is left of a scope, and takes as many as are wanted.
void prune(const std::vector<Element>& scope, const PruneOptions& o,
           std::vector<HostTensor>* masks) {
  const auto n = static_cast<double>(scope.size());
  int64_t wanted = 0;
  if (o.rounding == EXN_PRUNE_NEAREST) {
    wanted = std::lrint(o.ratio * n);
  } else if (o.which == EXN_PRUNE_LARGEST) {
    wanted = static_cast<int64_t>(n) - static_cast<int64_t>((1 - o.ratio) * n);
  } else {
    wanted = static_cast<int64_t>(o.ratio * n);
  }
  std::vector<Element> left;
  for (const Element& e : scope) {
    if (o.first || mask_of(masks, e) != 0) {
      left.push_back(e);
    } else {
      --wanted;
    }
  }
  std::stable_sort(left.begin(), left.end(), [](const Element& a, const Element& b) {
    if (std::isnan(a.score) || std::isnan(b.score)) return !std::isnan(a.score);
    return a.score < b.score;
  });
  const auto all = static_cast<int64_t>(left.size());
  for (int64_t i = 0; i < all; ++i) {
    const bool taken = o.which == EXN_PRUNE_LARGEST ? i >= all - wanted : i < wanted;
    mask_of(masks, left[static_cast<size_t>(i)]) = taken ? 0 : 1;
  }
}

}  // namespace

std::vector<HostTensor> prune_oracle(const std::vector<PruneInput>& tensors,
                                     const PruneOptions& options) {
  std::vector<HostTensor> masks;
  for (const PruneInput& t : tensors) masks.push_back(t.mask);
  std::vector<Element> scope;
  const auto end_scope = [&] {
    prune(scope, options, &masks);
    scope.clear();
  };
  for (size_t t = 0; t < tensors.size(); ++t) {
    const HostTensor& w = tensors[t].weight;
    for (int64_t i = 0; i < w.rows; ++i) {
      for (int64_t j = 0; j < w.cols; ++j) {
        // In double, the product of two f32 is exact.
        const double factor = tensors[t].norm.given() ? tensors[t].norm.at(0, j) : 1;
        scope.push_back({t, i, j, static_cast<float>(std::fabs(w.at(i, j) * factor))});
      }
      if (options.scope == EXN_PRUNE_ROW) end_scope();
    }
    if (options.scope == EXN_PRUNE_TENSOR) end_scope();
  }
  if (options.scope == EXN_PRUNE_GLOBAL) end_scope();
  return masks;
}

namespace {

std::string name_of_mask(size_t which) { return "mask " + std::to_string(which); }

std::unique_ptr<Instance> instantiate(const PruneMaskCase& c, const std::vector<PruneInput>& in,
                                      int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  std::vector<exn_prune_mask_tensor> tensors;
  for (size_t t = 0; t < in.size(); ++t) {
    const DLTensor* weight = instance->input(in[t].weight);
    const DLTensor* norm = instance->input(in[t].norm);
    tensors.push_back({weight, norm, instance->in_out(name_of_mask(t), in[t].mask)});
  }
  exn_prune_mask_params params = {};
  params.struct_size = sizeof params;
  params.tensor_count = static_cast<int32_t>(tensors.size());
  params.tensors = instance->keep(std::move(tensors));
  params.ratio = c.options.ratio;
  params.scope = c.options.scope;
  params.which = c.options.which;
  params.rounding = c.options.rounding;
  params.first = c.options.first ? 1 : 0;
  instance->call(EXN_TEST_OP(prune_mask), params);
  return instance;
}

Case make_case(const PruneMaskCase& c) {
  Case result;
  const auto in = lazily([c] { return make_inputs(c); });
  result.instantiate = [c, in](int32_t device_type) { return instantiate(c, in(), device_type); };
  const auto oracle = lazily([c, in] { return prune_oracle(in(), c.options); });
  result.judge = [oracle](const Outputs& got) -> Complaint {
    for (size_t t = 0; t < oracle().size(); ++t) {
      const Complaint complaint = compare_bytes(name_of_mask(t), oracle()[t], got[t]);
      if (!complaint.empty()) return complaint;
    }
    return "";
  };
  int64_t elements = 0;
  for (const MatrixSpec& m : c.weights) {
    elements += m.rows * m.cols;
    result.compulsory_bytes += weight_bytes(m);
  }
  result.compulsory_bytes += static_cast<double>((c.options.first ? 1 : 2) * elements);
  result.description = {{"elements", text(elements)},
                        {"tensors", text(static_cast<int64_t>(c.weights.size()))},
                        {"scope", text(c.options.scope)},
                        {"norm", text(c.norm == "-" ? 0 : 1)}};
  return result;
}

void describe(Maker& m, exn_prune_mask_params& p) {
  const Dim count = m.count(1, 2, 6);
  m.array_count(FIELD(tensor_count), count.size, 1, EXN_PRUNE_MAX_TENSORS);
  m.real(FIELD(ratio), Domain::kShare);
  m.choice(FIELD(scope), EXN_PRUNE_ROW, EXN_PRUNE_GLOBAL);
  m.choice(FIELD(which), EXN_PRUNE_SMALLEST, EXN_PRUNE_LARGEST);
  m.choice(FIELD(rounding), EXN_PRUNE_DOWN, EXN_PRUNE_NEAREST);
  m.choice(FIELD(first), 0, 1);
  m.zero(FIELD(reserved));
  exn_prune_mask_tensor* tensors = m.array(FIELD(tensors), count.size);
  for (int64_t i = 0; i < count.size; ++i) {
    struct {
      exn_prune_mask_tensor& tensors;
    } q{tensors[i]};
#define TENSOR(field) q.tensors.field, "tensors[]." #field
    const Dim rows = m.dim("rows", 0, 5, 40), columns = m.dim("columns", 0, 20, 300);
    m.in(TENSOR(weight), m.type(kFloats), {rows, columns}, kRows);
    m.in(TENSOR(norm), kF32, {columns}, kOptional);
    m.in_out(TENSOR(mask), kU8, {rows, columns}, kRows);
#undef TENSOR
  }
}

const Described kDescribed = EXN_DESCRIBED(prune_mask);

const RegisteredOp kRegistered("prune_mask", [] {
  return listed("prune_mask", read_cases<PruneMaskCase>("prune_mask", read_case), make_case);
});

}  // namespace

}  // namespace prune_mask_op
}  // namespace exn::test
