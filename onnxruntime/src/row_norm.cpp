// SPDX-License-Identifier: Apache-2.0
#include "row_norm.h"

#include <algorithm>

#include "elementwise.h"

namespace exn::ort {
namespace {

// Rows of fewer elements together are not worth another thread.
constexpr int64_t kElements = 16384;

// Skip has the shape of the input, or lacks the axis of its batches, or has one batch for all.
void check_skip(const std::vector<int64_t>& input, const std::vector<int64_t>& skip) {
  std::vector<int64_t> one = input;
  if (input.size() == 3) one[0] = 1;
  if ((input.size() != 2 && input.size() != 3) ||
      (skip != input && skip != one &&
       !(input.size() == 3 && skip == std::vector<int64_t>(input.begin() + 1, input.end())))) {
    throw Failure(kInvalidArgument, "exeunt: skip is " + text_of(skip) + ", input " +
                                        text_of(input) + ", expected the same, or a batch of it");
  }
}

}  // namespace

RowNorm::RowNorm(const Graph& g, const Norm& norm)
    : api_(g.api),
      kind_(norm.kind),
      softmax_(norm.softmax),
      eps_(norm.eps),
      weight_(g.floats(norm.weight)),
      bias_(g.floats(norm.bias)),
      add_(g.floats(norm.add)),
      skips_(norm.skip >= 0),
      input_(g.slot(norm.input)),
      output_(g.slot(norm.output)) {
  if (skips_) skip_ = g.slot(norm.skip);
  if (norm.sum >= 0) sum_ = g.slot(norm.sum);
}

void RowNorm::bind(const Places& inputs, const Places& outputs) {
  input_.require(inputs);
  if (skips_) skip_.require(inputs);
  writes_ = output_.bind(outputs);
  writes_sum_ = !sum_.name.empty() && sum_.bind(outputs);
}

void RowNorm::run(Frame& frame) const {
  const TensorView x = frame.input(input_);
  const int32_t type = x.type;
  const auto width = softmax_ ? x.last() : static_cast<int64_t>(weight_.size());
  if (x.shape.empty() || x.last() != width) {
    throw Failure(kInvalidArgument, "exeunt: the rows of a norm have " + std::to_string(x.last()) +
                                        " elements, expected " + std::to_string(width));
  }
  const TensorView skip = skips_ ? frame.input(skip_) : TensorView{};
  if (skips_) check_skip(x.shape, skip.shape);
  const auto output = [&](bool read, const Slot& slot) {
    return read ? frame.output(slot, x.shape) : TensorView{};
  };
  const TensorView out = output(writes_, output_), sum = output(writes_sum_, sum_);
  if (x.count() == 0 || (out.data == nullptr && sum.data == nullptr)) return;
  const int64_t rows = x.count() / width;
  const int64_t step = std::max<int64_t>(1, kElements / width);
  parallel(api_, frame.context, (rows + step - 1) / step, [&](int64_t i) {
    const int64_t begin = i * step, n = std::min(rows - begin, step);
    const auto at = [&](const TensorView& view, int64_t row) {
      return view.as<char>() + row * width * bytes_of(view.type);
    };
    if (softmax_) {
      Tensor logits(at(x, begin), type, {n, width}),
          probabilities(at(out, begin), out.type, {n, width});
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
        normalise(kind_, eps_, or_null(weight_), or_null(bias_), at(x, begin), type, at(out, begin),
                  out.type, n, width);
      }
      return;
    }
    const auto bytes = static_cast<size_t>(width) * sizeof(float);
    Scratch::Block block(scratch_, 2 * rounded(bytes));
    auto* total = static_cast<float*>(block.take(bytes));
    auto* other = static_cast<float*>(block.take(bytes));
    const int64_t skip_rows = skip.count() / width;
    for (int64_t r = begin; r < begin + n; ++r) {
      convert({at(x, r), type, {width}}, total, kFloat);
      convert({at(skip, r % skip_rows), skip.type, {width}}, other, kFloat);
      accumulate(other, total, 1, width, width);
      if (!add_.empty()) accumulate(add_.data(), total, 1, width, width);
      if (sum.data != nullptr) convert({total, kFloat, {width}}, at(sum, r), sum.type);
      if (out.data == nullptr) continue;
      normalise(kind_, eps_, or_null(weight_), or_null(bias_), total, kFloat, at(out, r), out.type,
                1, width);
    }
  });
}

}  // namespace exn::ort
