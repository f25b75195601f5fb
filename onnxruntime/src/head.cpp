// SPDX-License-Identifier: Apache-2.0
#include "head.h"

#include <algorithm>
#include <cmath>

namespace exn::ort {
namespace {

float* mutable_of(const float* data) { return const_cast<float*>(data); }

// The statistics of all rows over some of the vocabulary, and the call that makes them.
struct Part {
  int64_t begin, end;
  std::vector<int32_t> argmax;
  std::vector<float> max_logit, lse, p1, p2, entropy;
  std::vector<uint8_t> valid;
  Tensor tensors[12];
  exn_exit_head_params params = {};
  size_t bytes = 0;

  Part(const Head& head, const TensorView& hidden, int64_t from, int64_t to)
      : begin(from), end(to) {
    const int64_t rows = hidden.count() / head.columns;
    const auto n = static_cast<size_t>(rows);
    argmax.resize(n);
    valid.resize(n);
    for (auto* list : {&max_logit, &lse, &p1, &p2, &entropy}) list->resize(n);
    auto* data = const_cast<char*>(static_cast<const char*>(head.weight)) + begin * head.row_bytes;
    Tensor* next = tensors;
    const auto tensor = [&](void* at, int32_t type, std::initializer_list<int64_t> shape) {
      *next = Tensor(at, type, shape);
      return (next++)->get();
    };
    exn_exit_head_params& p = params;
    p.struct_size = sizeof p;
    p.hidden = tensor(hidden.data, hidden.type, {rows, head.columns});
    p.weight = tensor(data, head.type, {end - begin, head.blocks ? head.row_bytes : head.columns});
    p.bias = head.bias ? tensor(mutable_of(head.bias) + begin, kFloat, {end - begin}) : nullptr;
    p.norm_weight =
        head.norm_weight ? tensor(mutable_of(head.norm_weight), kFloat, {head.columns}) : nullptr;
    p.norm_bias =
        head.norm_bias ? tensor(mutable_of(head.norm_bias), kFloat, {head.columns}) : nullptr;
    p.norm = head.norm;
    p.norm_eps = head.norm_eps;
    p.normalizer = head.normalizer;
    p.temperature = head.temperature;
    p.softcap = head.softcap;
    p.weight_blocks = head.blocks;
    p.out.argmax = tensor(argmax.data(), kInt32, {rows});
    p.out.max_logit = tensor(max_logit.data(), kFloat, {rows});
    p.out.lse = tensor(lse.data(), kFloat, {rows});
    p.out.p1 = tensor(p1.data(), kFloat, {rows});
    p.out.p2 = tensor(p2.data(), kFloat, {rows});
    p.out.entropy = tensor(entropy.data(), kFloat, {rows});
    p.out.valid = tensor(valid.data(), kUint8, {rows});
    check(exn_exit_head_workspace_size(&p, &bytes));
  }
  Part(const Part&) = delete;

  RowOfHead row(size_t r) const {
    return {argmax[r] + static_cast<int32_t>(begin),
            max_logit[r],
            lse[r],
            p1[r],
            p2[r],
            entropy[r],
            valid[r] != 0};
  }
};

// Of two parts of a vocabulary, the first of which comes first. With a share m of the sum of all
// weights, p = m q, and the entropy is the sum of m (H - ln m).
RowOfHead merged(const RowOfHead& a, const RowOfHead& b) {
  const float high = std::max(a.lse, b.lse), low = std::min(a.lse, b.lse);
  const float lse = high + std::log1p(std::exp(low - high));
  const float ma = std::exp(a.lse - lse), mb = std::exp(b.lse - lse);
  RowOfHead out = b.max_logit > a.max_logit ? b : a;
  out.lse = lse;
  const float largest[] = {ma * a.p1, ma * a.p2, mb * b.p1, mb * b.p2};
  out.p1 = std::max(largest[0], largest[2]);
  out.p2 = std::max(std::min(largest[0], largest[2]), std::max(largest[1], largest[3]));
  const auto share = [](float m, float h) { return m > 0 ? m * (h - std::log(m)) : 0; };
  out.entropy = share(ma, a.entropy) + share(mb, b.entropy);
  return out;
}

}  // namespace

std::vector<RowOfHead> run_head(const Api& api, const OrtKernelContext* context, const Head& head,
                                const TensorView& hidden, int64_t threads, Scratch* scratch) {
  if (hidden.last() != head.columns) {
    throw Failure(kInvalidArgument, "exeunt: the rows of hidden have " +
                                        std::to_string(hidden.last()) + " elements, expected " +
                                        std::to_string(head.columns) + ", as weight has");
  }
  const int64_t rows = hidden.count() / head.columns;
  std::vector<RowOfHead> out(static_cast<size_t>(rows));
  const int64_t work = rows * head.rows * head.columns;
  const int64_t pieces = std::max<int64_t>(1, std::min(threads, work / kWorthAThread));
  const int64_t step = (head.rows + pieces - 1) / pieces;
  std::vector<std::unique_ptr<Part>> parts;
  size_t bytes = 0;
  for (int64_t begin = 0; begin < head.rows; begin += step) {
    const int64_t end = std::min(head.rows, begin + step);
    parts.push_back(std::make_unique<Part>(head, hidden, begin, end));
    bytes += rounded(parts.back()->bytes);
  }
  Scratch::Block block(*scratch, bytes);
  std::vector<void*> workspaces;
  for (const auto& part : parts) workspaces.push_back(block.take(part->bytes));
  parallel(api, context, static_cast<int64_t>(parts.size()), [&](int64_t i) {
    check(exn_exit_head(&parts[i]->params, workspaces[i], parts[i]->bytes, nullptr));
  });
  bool unclear = false;
  for (size_t r = 0; r < out.size(); ++r) {
    out[r] = parts[0]->row(r);
    for (size_t i = 1; i < parts.size() && out[r].valid; ++i) {
      const RowOfHead next = parts[i]->row(r);
      if (next.valid) {
        out[r] = merged(out[r], next);
      } else {
        out[r].valid = false;
      }
    }
    unclear |= parts.size() > 1 && !out[r].valid;
  }
  if (unclear) {  // a NaN somewhere, or a part with nothing but -inf, which only the whole can tell
    Part whole(head, hidden, 0, head.rows);
    Scratch::Block more(*scratch, whole.bytes);
    check(exn_exit_head(&whole.params, more.take(whole.bytes), whole.bytes, nullptr));
    for (size_t r = 0; r < out.size(); ++r) {
      if (!out[r].valid) out[r] = whole.row(r);
    }
  }
  return out;
}

}  // namespace exn::ort
