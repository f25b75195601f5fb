// SPDX-License-Identifier: Apache-2.0
#include "row_norm.h"

#include <algorithm>

#include "elementwise.h"

namespace exn::ort {
namespace {

// Rows of fewer elements together are not worth another thread.
constexpr int64_t kElements = 16384;

int place_or_none(const std::vector<std::string>& names, const std::string& name) {
  const auto found = std::find(names.begin(), names.end(), name);
  return found == names.end() ? -1 : static_cast<int>(found - names.begin());
}

}  // namespace

RowNorm::RowNorm(const Graph& g, const Norm& norm, const std::vector<std::string>& inputs,
                 const std::vector<std::string>& outputs)
    : api_(g.api),
      kind_(norm.kind),
      softmax_(norm.softmax),
      eps_(norm.eps),
      weight_(g.floats(norm.weight)),
      bias_(g.floats(norm.bias)),
      add_(g.floats(norm.add)),
      input_(place_of(inputs, g.values[norm.input].name)),
      skips_(norm.skip >= 0),
      output_(place_or_none(outputs, g.values[norm.output].name)),
      type_(g.values[norm.input].type) {
  if (skips_) skip_ = place_of(inputs, g.values[norm.skip].name);
  if (norm.sum >= 0) sum_ = place_or_none(outputs, g.values[norm.sum].name);
}

void RowNorm::run(OrtKernelContext* context) const {
  const TensorView x = input_of(api_, context, input_);
  const auto width = softmax_ ? x.last() : static_cast<int64_t>(weight_.size());
  if (x.last() != width) {
    throw Failure(kInvalidArgument, "exeunt: the rows of a norm have " + std::to_string(x.last()) +
                                        " elements, expected " + std::to_string(width));
  }
  const TensorView skip = skips_ ? input_of(api_, context, skip_) : TensorView{};
  if (skips_ && (skip.last() != width ||
                 (x.count() > 0 && (skip.count() == 0 || x.count() % skip.count() != 0)))) {
    throw Failure(kInvalidArgument, "exeunt: skip has " + std::to_string(skip.count()) +
                                        " elements, which are not rows of an input of " +
                                        std::to_string(x.count()));
  }
  const auto output = [&](int place) {
    if (place < 0) return TensorView{};
    return output_of(api_, context, static_cast<size_t>(place), type_, x.shape);
  };
  const TensorView out = output(output_), sum = output(sum_);
  if (x.count() == 0 || (out.data == nullptr && sum.data == nullptr)) return;
  const int64_t rows = x.count() / width, size = bytes_of(type_);
  const int64_t step = std::max<int64_t>(1, kElements / width);
  parallel(api_, context, (rows + step - 1) / step, [&](int64_t i) {
    const int64_t begin = i * step, n = std::min(rows - begin, step);
    const auto at = [&](const TensorView& view, int64_t row) {
      return view.as<char>() + row * width * size;
    };
    if (softmax_) {
      Tensor logits(at(x, begin), type_, {n, width}),
          probabilities(at(out, begin), type_, {n, width});
      exn_stablemax_params params = {};
      params.struct_size = sizeof params;
      params.logits = logits.get();
      params.out = probabilities.get();
      params.normalizer = EXN_SOFTMAX;
      size_t bytes = 0;
      check(exn_stablemax_workspace_size(&params, &bytes));
      Scratch::Block workspace(scratch_, bytes);
      check(exn_stablemax(&params, workspace.take(bytes), bytes, nullptr));
      return;
    }
    if (!skips_) {
      if (out.data != nullptr) {
        normalise(kind_, eps_, or_null(weight_), or_null(bias_), at(x, begin), type_,
                  at(out, begin), type_, n, width);
      }
      return;
    }
    const auto bytes = static_cast<size_t>(width) * sizeof(float);
    Scratch::Block block(scratch_, 2 * rounded(bytes));
    auto* total = static_cast<float*>(block.take(bytes));
    auto* other = static_cast<float*>(block.take(bytes));
    const int64_t skip_rows = skip.count() / width;
    for (int64_t r = begin; r < begin + n; ++r) {
      convert({at(x, r), type_, {width}}, total, kFloat);
      convert({at(skip, r % skip_rows), type_, {width}}, other, kFloat);
      accumulate(other, total, 1, width, width);
      if (!add_.empty()) accumulate(add_.data(), total, 1, width, width);
      if (sum.data != nullptr) convert({total, kFloat, {width}}, at(sum, r), type_);
      if (out.data == nullptr) continue;
      normalise(kind_, eps_, or_null(weight_), or_null(bias_), total, kFloat, at(out, r), type_, 1,
                width);
    }
  });
}

}  // namespace exn::ort
