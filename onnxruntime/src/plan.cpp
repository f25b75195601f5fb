// SPDX-License-Identifier: Apache-2.0
#include "plan.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "elementwise.h"
#include "head.h"

namespace exn::ort {
namespace {

// Rows of a part.
constexpr int64_t kRowsTogether = 128;
// Rows that are read together and lie a multiple of so many bytes apart displace one another.
constexpr int64_t kAliased = 4096;

// The extent of a shape in an axis of one that has `rank` axes, to which it is broadcast.
int64_t extent_of(const std::vector<int64_t>& shape, size_t axis, size_t rank) {
  return axis + shape.size() < rank ? 1 : shape[axis + shape.size() - rank];
}

// The shape of a sum.
std::vector<int64_t> broadcast(const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
  std::vector<int64_t> out(std::max(a.size(), b.size()));
  for (size_t i = 0; i < out.size(); ++i) {
    const int64_t x = extent_of(a, i, out.size()), y = extent_of(b, i, out.size());
    if (x != y && x != 1 && y != 1) {
      throw Failure(kInvalidArgument, "exeunt: Add of " + text_of(a) + " and " + text_of(b) +
                                          ", which differ in " + std::to_string(x) + " and " +
                                          std::to_string(y));
    }
    out[i] = x == 1 ? y : x;
  }
  return out;
}

// The elements of a sum's operand from one index of each axis to the next; 0: it is broadcast.
std::vector<int64_t> steps_of(const TensorView& view, const std::vector<int64_t>& sum) {
  std::vector<int64_t> steps(sum.size());
  int64_t step = 1;
  for (size_t i = sum.size(); i-- > 0;) {
    const int64_t extent = extent_of(view.shape, i, sum.size());
    steps[i] = extent == 1 ? 0 : step;
    step *= extent;
  }
  return steps;
}

// A row of an operand by that of the sum.
const float* row_of(const TensorView& view, const std::vector<int64_t>& steps,
                    const std::vector<int64_t>& sum, int64_t r) {
  int64_t at = 0;
  for (size_t i = sum.size() - 1; i-- > 0; r /= sum[i]) at += r % sum[i] * steps[i];
  return view.as<float>() + at;
}

// out = a + b over the shape of `out`, which both are broadcast to; none of them is empty, and the
// rows of `a` are as long as the sum's.
void add(const Api& api, const OrtKernelContext* context, const TensorView& a, const TensorView& b,
         const TensorView& out) {
  const std::vector<int64_t> of_a = steps_of(a, out.shape), of_b = steps_of(b, out.shape);
  const int64_t width = out.last(), rows = out.count() / width;
  const int64_t step = std::max<int64_t>(1, kWorthAThread / width);
  parallel(api, context, (rows + step - 1) / step, [&](int64_t i) {
    for (int64_t r = i * step; r < std::min(rows, (i + 1) * step); ++r) {
      const float *p = row_of(a, of_a, out.shape, r), *q = row_of(b, of_b, out.shape, r);
      auto* to = out.as<float>() + r * width;
      if (b.last() == width) {
        if (to != p) std::memmove(to, p, static_cast<size_t>(width) * sizeof(float));
        accumulate(q, to, 1, width, width);
      } else {
        for (int64_t k = 0; k < width; ++k) to[k] = p[k] + q[0];
      }
    }
  });
}

size_t bytes_in(const TensorView& view) {
  return static_cast<size_t>(view.count() * bytes_of(view.type));
}

}  // namespace

Plan::Plan(const Graph& g, const Group& group, const Settings& settings)
    : api_(g.api),
      threads_(settings.threads),
      input_(g.slot(group.input)),
      columns_(group.products[0].columns) {
  prologue_norm_ = group.prologue_norm;
  prologue_eps_ = group.prologue_eps;
  prologue_weight_ = g.floats(group.prologue_weight);
  prologue_bias_ = g.floats(group.prologue_bias);
  const int32_t type = group.products[0].product_type;
  // A narrower input is faster only where there are products of pairs of bf16.
  const std::string isa = exn_cpu_isa();
  pairs_ = type == kBfloat16 && (isa == "avx512" || isa == "amx");
  prologue_type_ = pairs_ ? type : input_.type;
  if (prologue_norm_ != EXN_NORM_NONE && !pairs_) prologue_type_ = kFloat;
}

void Plan::prepare(const Graph& g, const Product& p, Store* store) {
  const auto outputs = [&](const std::vector<int>& values) {
    std::vector<Output> list;
    for (const int value : values) {
      const bool reduced = std::find(p.reduced.begin(), p.reduced.end(), value) != p.reduced.end();
      list.push_back({g.slot(value), reduced});
    }
    return list;
  };
  Linear linear;
  linear.weights = store->get(g, p, !p.head && !pairs_);
  linear.bias = g.floats(p.bias);
  linear.matrix = p.matrix;
  linear.activation = p.activation;
  linear.added = p.residual >= 0;
  if (linear.added) linear.residual = g.slot(p.residual);
  linear.adds_c = p.adds_c;
  linear.norm = p.norm;
  linear.norm_weight = g.floats(p.norm_weight);
  linear.norm_bias = g.floats(p.norm_bias);
  linear.eps = p.eps;
  linear.head = p.head;
  if (!p.head) linear.outputs = outputs({p.output});
  linear.argmaxes = outputs(p.argmaxes);
  linear.p1s = outputs(p.p1s);
  linear.max_logits = outputs(p.max_logits);
  linears_.push_back(std::move(linear));
}

void Plan::bind(const Places& inputs, const Places& outputs) {
  input_.require(inputs);
  const auto bound = [&](std::vector<Output>* list) {
    list->erase(std::remove_if(list->begin(), list->end(),
                               [&](Output& output) { return !output.slot.bind(outputs); }),
                list->end());
    return !list->empty();
  };
  for (size_t i = 0; i < linears_.size();) {
    Linear& linear = linears_[i];
    if (linear.added) linear.residual.require(inputs);
    bool read = false;
    for (auto* list : {&linear.outputs, &linear.argmaxes, &linear.p1s, &linear.max_logits}) {
      read |= bound(list);
    }
    if (read) {
      ++i;
    } else {
      linears_.erase(linears_.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
}

void Plan::check_input(const TensorView& input) const {
  if (input.shape.empty() || input.last() != columns_) {
    throw Failure(kInvalidArgument, "exeunt: the rows of a product's input have " +
                                        std::to_string(input.last()) + " elements, expected " +
                                        std::to_string(columns_));
  }
  for (const Linear& linear : linears_) {
    if (linear.matrix && input.shape.size() > 2) {
      throw Failure(kInvalidArgument,
                    "exeunt: A of Gemm is " + text_of(input.shape) + ", expected two axes");
    }
  }
}

// Of rows of so many elements in place of those of the input. One row is a matrix to Gemm.
std::vector<int64_t> Plan::shape_of(const Linear& linear, const TensorView& input,
                                    int64_t elements) {
  std::vector<int64_t> shape = input.shape;
  shape.back() = elements;
  if (linear.matrix && shape.size() == 1) shape.insert(shape.begin(), 1);
  return shape;
}

void Plan::run(Frame& frame) const {
  const TensorView input = frame.input(input_);
  check_input(input);
  const int64_t rows = input.count() / columns_;
  const bool prepares = prologue_norm_ != EXN_NORM_NONE || prologue_type_ != input.type;
  const auto bytes = prepares ? static_cast<size_t>(rows * columns_ * bytes_of(prologue_type_)) : 0;
  Scratch::Block block(scratch_, rounded(bytes));
  const TensorView x = prepares ? prepared(frame, input, &block) : input;
  for (const Linear& linear : linears_) {
    if (linear.head) run_heads(frame, linear, x);
  }
  run_linears(frame, x);
}

// The input after cast and norm.
TensorView Plan::prepared(Frame& frame, const TensorView& input, Scratch::Block* block) const {
  const int64_t cols = input.last(), rows = input.count() / cols;
  TensorView out{block->take(static_cast<size_t>(rows * cols * bytes_of(prologue_type_))),
                 prologue_type_, input.shape};
  const int64_t step = std::max<int64_t>(1, kWorthAThread / cols);
  parallel(api_, frame.context, (rows + step - 1) / step, [&](int64_t i) {
    const int64_t begin = i * step, n = std::min(rows - begin, step);
    normalise(prologue_norm_, prologue_eps_, or_null(prologue_weight_), or_null(prologue_bias_),
              input.as<char>() + begin * cols * bytes_of(input.type), input.type,
              out.as<char>() + begin * cols * bytes_of(out.type), out.type, n, cols);
  });
  return out;
}

std::vector<Plan::Part> Plan::parts(int64_t rows) const {
  std::vector<Part> out;
  for (size_t i = 0; i < linears_.size(); ++i) {
    const Weights& w = *linears_[i].weights;
    if (linears_[i].head) continue;
    const int64_t work = rows * w.rows * w.columns;
    const int64_t pieces = std::max<int64_t>(1, std::min(threads_, work / kWorthAThread));
    // Whole panels; of rows 16, so that no line of the output is two threads'.
    const int64_t unit = w.panels ? 32 : 16;
    const int64_t step = ((w.rows + pieces - 1) / pieces + unit - 1) / unit * unit;
    // Of panels few rows at a time, whose results stay near until they are what they become.
    const int64_t blocks = w.panels ? (rows + kRowsTogether - 1) / kRowsTogether : 1;
    const int64_t each = (rows + blocks - 1) / blocks;
    for (int64_t begin = 0; begin < w.rows; begin += step) {
      const int64_t end = std::min(w.rows, begin + step);
      for (int64_t row = 0; row < rows; row += each) {
        out.push_back({i, begin, end, row, std::min(each, rows - row)});
      }
    }
  }
  return out;
}

void Plan::run_linears(Frame& frame, const TensorView& input) const {
  const int64_t rows = input.count() / columns_;
  std::vector<Target> targets(linears_.size());
  size_t bytes = 0;
  for (size_t i = 0; i < linears_.size(); ++i) {
    const Linear& linear = linears_[i];
    if (linear.head) continue;
    Target& t = targets[i];
    const Slot& output = linear.outputs[0].slot;
    std::vector<int64_t> shape = shape_of(linear, input, linear.weights->rows);
    t.plain = {nullptr, output.type, shape};
    if (linear.added) {
      t.residual = frame.input(linear.residual);
      t.fused = t.residual.shape == shape;
      if (!t.fused) shape = broadcast(shape, t.residual.shape);
    }
    if (linear.adds_c && shape != t.plain.shape) {
      throw Failure(kInvalidArgument, "exeunt: C of Gemm is " + text_of(t.residual.shape) +
                                          ", its result " + text_of(t.plain.shape));
    }
    // Only rows of one element can have become longer.
    if (linear.added && shape.back() != linear.weights->rows) {
      throw Failure(kInvalidArgument, "exeunt: a product has rows of one element, what is added " +
                                          text_of(t.residual.shape) + ", expected such rows too");
    }
    t.out = frame.output(output, shape);
    if (linear.activation != Activation::kNone || linear.norm != EXN_NORM_NONE || linear.added) {
      t.plain.type = kFloat;
    }
    const bool alone = !linear.added || (t.fused && linear.activation == Activation::kNone);
    t.narrowed = linear.norm == EXN_NORM_NONE && alone && t.plain.type != t.out.type;
    if (t.plain.type == t.out.type && (!linear.added || t.fused)) {
      t.plain.data = t.out.data;
    } else if (!t.narrowed) {
      bytes += rounded(bytes_in(t.plain));
    }
    if (linear.added) {
      if (t.residual.type != kFloat)
        bytes += rounded(bytes_in({nullptr, kFloat, t.residual.shape}));
      t.sum = t.plain;
      if (!t.fused) {
        t.sum = {t.out.type == kFloat ? t.out.data : nullptr, kFloat, shape};
        if (t.sum.data == nullptr) bytes += rounded(bytes_in(t.sum));
      }
    }
  }
  if (rows == 0) return;
  Scratch::Block plain(scratch_, bytes);
  for (size_t i = 0; i < linears_.size(); ++i) {
    Target& t = targets[i];
    if (linears_[i].head) continue;
    if (t.plain.data == nullptr && !t.narrowed) t.plain.data = plain.take(bytes_in(t.plain));
    if (!linears_[i].added) continue;
    if (!t.fused && t.sum.data == nullptr) t.sum.data = plain.take(bytes_in(t.sum));
    if (t.residual.type != kFloat) {
      const TensorView narrow = t.residual;
      t.residual.type = kFloat;
      t.residual.data = plain.take(bytes_in(t.residual));
      convert(api_, frame.context, narrow, t.residual.data, kFloat);
    }
  }
  run_parts(frame, input, targets);
  for (size_t i = 0; i < linears_.size(); ++i) {
    if (!linears_[i].head && targets[i].out.count() > 0) finish(frame, linears_[i], targets[i]);
  }
}

// A sum that is broadcast, a norm, and the type of the output.
void Plan::finish(Frame& frame, const Linear& linear, const Target& t) const {
  TensorView from = t.plain;
  if (linear.added && !t.fused) {
    add(api_, frame.context, t.plain, t.residual, t.sum);
    from = t.sum;
  }
  if (t.narrowed || (linear.norm == EXN_NORM_NONE && from.data == t.out.data)) return;
  const int64_t width = t.out.last(), count = t.out.count() / width;
  const int64_t step = std::max<int64_t>(1, kWorthAThread / width);
  parallel(api_, frame.context, (count + step - 1) / step, [&](int64_t k) {
    const int64_t begin = k * step, m = std::min(count - begin, step);
    normalise(linear.norm, linear.eps, or_null(linear.norm_weight), or_null(linear.norm_bias),
              from.as<char>() + begin * width * bytes_of(from.type), from.type,
              t.out.as<char>() + begin * width * bytes_of(t.out.type), t.out.type, m, width);
  });
}

void Plan::run_parts(Frame& frame, const TensorView& input,
                     const std::vector<Target>& targets) const {
  const int64_t cols = input.last(), rows = input.count() / cols;
  // What all parts would convert or copy for themselves.
  const bool panels = std::any_of(linears_.begin(), linears_.end(),
                                  [](const Linear& linear) { return linear.weights->panels; });
  const bool aliased = rows > 1 && cols * 4 % kAliased == 0;
  const bool copied = panels && (aliased || input.type != kFloat);
  const Rows plain{input.as<char>(), input.type, cols};
  Rows wide = plain;
  if (copied) wide = {nullptr, kFloat, aliased ? cols + 16 : cols};
  const auto copy_bytes = copied ? static_cast<size_t>(rows * wide.stride * 4) : 0;
  Scratch::Block own(scratch_, copy_bytes);
  if (copied) {
    wide.data = static_cast<char*>(own.take(copy_bytes));
    const int64_t step = std::max<int64_t>(1, kWorthAThread / cols);
    parallel(api_, frame.context, (rows + step - 1) / step, [&](int64_t i) {
      const int64_t begin = i * step, n = std::min(rows - begin, step);
      normalise(EXN_NORM_NONE, 0, nullptr, nullptr, plain.row(begin), plain.type, wide.row(begin),
                kFloat, n, cols, wide.stride);
    });
  }
  const std::vector<Part> list = parts(rows);
  parallel(api_, frame.context, static_cast<int64_t>(list.size()), [&](int64_t i) {
    const Part& part = list[i];
    run_part(part, linears_[part.product].weights->panels ? wide : plain, targets[part.product]);
  });
}

void Plan::run_part(const Part& part, const Rows& x, const Target& t) const {
  const Linear& linear = linears_[part.product];
  const Weights& w = *linear.weights;
  const int64_t n = part.end - part.begin, at = part.row * w.rows + part.begin;
  Scratch::Block own(scratch_, t.narrowed ? static_cast<size_t>(part.rows * n * 4) : 0);
  const int64_t stride = t.narrowed ? n : w.rows;
  void* const to = t.narrowed ? own.take(static_cast<size_t>(part.rows * n * 4))
                              : t.plain.as<char>() + at * bytes_of(t.plain.type);
  Tensor input(x.row(part.row), x.type, {part.rows, w.columns}, x.stride);
  Tensor weight(w.row(part.begin), w.type, {n, w.type == kUint8 ? w.row_bytes : w.columns});
  Tensor out(to, t.plain.type, {part.rows, n}, stride), bias, residual;
  if (!linear.bias.empty()) {
    bias = Tensor(const_cast<float*>(linear.bias.data()) + part.begin, kFloat, {n});
  }
  const bool later = t.fused && linear.activation != Activation::kNone;
  if (t.fused && !later) {
    residual = Tensor(t.residual.as<float>() + at, kFloat, {part.rows, n}, w.rows);
  }
  multiply(&input, &weight, w.blocks, &bias, &residual, &out);
  activate(linear.activation, static_cast<float*>(to), part.rows, n, stride);
  if (later) {
    accumulate(t.residual.as<float>() + at, static_cast<float*>(to), part.rows, n, stride);
  }
  if (t.narrowed) {
    normalise(EXN_NORM_NONE, 0, nullptr, nullptr, to, kFloat,
              t.out.as<char>() + at * bytes_of(t.out.type), t.out.type, part.rows, n, w.rows);
  }
}

void Plan::run_heads(Frame& frame, const Linear& linear, const TensorView& input) const {
  const Weights& w = *linear.weights;
  Head head;
  head.weight = w.row(0);
  head.type = w.type;
  head.blocks = w.blocks;
  head.rows = w.rows;
  head.columns = w.columns;
  head.row_bytes = w.row_bytes;
  head.bias = or_null(linear.bias);
  std::vector<RowOfHead> rows = run_head(api_, frame.context, head, input, threads_, &scratch_);
  for (size_t r = 0; r < rows.size(); ++r) {
    if (!rows[r].valid) rows[r] = unclear(linear, input, static_cast<int64_t>(r));
  }
  const auto write = [&](const std::vector<Output>& outputs, const auto& value) {
    for (const Output& output : outputs) {
      std::vector<int64_t> shape = shape_of(linear, input, 1);
      if (output.reduced) shape.pop_back();
      const TensorView out = frame.output(output.slot, shape);
      for (size_t r = 0; r < rows.size(); ++r) value(out, r);
    }
  };
  write(linear.argmaxes,
        [&](const TensorView& out, size_t r) { out.as<int64_t>()[r] = rows[r].argmax; });
  write(linear.max_logits,
        [&](const TensorView& out, size_t r) { out.as<float>()[r] = rows[r].max_logit; });
  write(linear.p1s, [&](const TensorView& out, size_t r) { out.as<float>()[r] = rows[r].p1; });
}

// A row whose logits are not finite has no statistics here, but an index and a maximum elsewhere:
// those of its logits, as comparisons find them.
RowOfHead Plan::unclear(const Linear& linear, const TensorView& input, int64_t row) const {
  const Weights& w = *linear.weights;
  std::vector<float> logits(static_cast<size_t>(w.rows));
  Tensor x(input.as<char>() + row * w.columns * bytes_of(input.type), input.type, {1, w.columns});
  Tensor weight(w.row(0), w.type, {w.rows, w.type == kUint8 ? w.row_bytes : w.columns});
  Tensor out(logits.data(), kFloat, {1, w.rows}), bias;
  if (!linear.bias.empty()) {
    bias = Tensor(const_cast<float*>(linear.bias.data()), kFloat, {w.rows});
  }
  multiply(&x, &weight, w.blocks, &bias, nullptr, &out);
  size_t best = 0;
  for (size_t i = 1; i < logits.size(); ++i) {
    if (logits[i] > logits[best]) best = i;
  }
  return {static_cast<int32_t>(best), logits[best], NAN, NAN, NAN, NAN, false};
}

void Plan::multiply(Tensor* x, Tensor* weight, int32_t blocks, Tensor* bias, Tensor* residual,
                    Tensor* out) const {
  exn_linear_params params = {};
  params.struct_size = sizeof params;
  params.weight_blocks = blocks;
  params.input = x->get();
  params.weight = weight->get();
  params.bias = bias->get();
  params.residual = residual != nullptr ? residual->get() : nullptr;
  params.out = out->get();
  size_t bytes = 0;
  check(exn_linear_workspace_size(&params, &bytes));
  Scratch::Block workspace(scratch_, bytes);
  check(exn_linear(&params, workspace.take(bytes), bytes, nullptr));
}

}  // namespace exn::ort
