// SPDX-License-Identifier: Apache-2.0
#include "plan.h"

#include <algorithm>
#include <cstring>

#include "elementwise.h"
#include "head.h"

namespace exn::ort {
namespace {

// Rows of a part.
constexpr int64_t kRowsTogether = 128;
// Rows that are read together and lie a multiple of so many bytes apart displace one another.
constexpr int64_t kAliased = 4096;

void put(void* at, uint16_t value) { std::memcpy(at, &value, sizeof value); }

// Packs rows without blocks.
void pack(const void* rows, Weights* out) {
  Tensor weight(const_cast<void*>(rows), out->type, {out->rows, out->columns});
  exn_pack_params params = {};
  params.struct_size = sizeof params;
  params.weight = weight.get();
  size_t bytes = 0;
  check(exn_pack_size(&params, &bytes));
  Memory image(bytes);
  Tensor to(image.data(), kUint8, {static_cast<int64_t>(bytes)});
  params.image = to.get();
  check(exn_pack_build(&params));
  params.weight = nullptr;
  exn_pack_info info = {};
  check(exn_pack_check(&params, &info));
  out->memory = std::move(image);
  out->offset = info.offset;
  out->panels = true;
  out->type = kUint8;
  out->blocks = info.blocks;
}

Weights dense(const Graph& g, const Product& p, bool panels) {
  const TensorView in = view_of(g.api, g.values[p.weight].constant);
  Weights out;
  out.rows = p.rows;
  out.columns = p.columns;
  out.type = in.type;
  const int64_t n = p.rows * p.columns;
  std::vector<uint16_t> narrow;
  const void* data = in.data;
  if (in.type == kFloat) {
    const auto* words = in.as<uint32_t>();
    if (std::all_of(words, words + n, [](uint32_t w) { return (w & 0xffff) == 0; })) {
      narrow.resize(static_cast<size_t>(n));
      for (int64_t i = 0; i < n; ++i) narrow[i] = static_cast<uint16_t>(words[i] >> 16);
      out.type = kBfloat16;
      data = narrow.data();
    }
  }
  const int64_t bytes = bytes_of(out.type);
  out.row_bytes = p.columns * bytes;
  if (!p.transposed || !panels) out.memory = Memory(static_cast<size_t>(n * bytes));
  if (!p.transposed) {
    transpose(data, p.columns, p.rows, bytes, out.memory.data());
    data = out.memory.data();
  } else if (!panels) {
    std::memcpy(out.memory.data(), data, static_cast<size_t>(n * bytes));
  }
  if (panels) pack(data, &out);
  return out;
}

Weights blocks(const Product& p, int32_t format) {
  Weights out;
  out.rows = p.rows;
  out.columns = p.columns;
  out.type = kUint8;
  out.blocks = format;
  check(exn_blocks_row_bytes(format, p.columns, &out.row_bytes));
  out.memory = Memory(static_cast<size_t>(p.rows * out.row_bytes));
  return out;
}

// MatMulNBits: [N, K / block, block * bits / 8] bytes, elements from the low bits on; a scale for
// each block; zero points of 4 bits, packed for each row, or 2^(bits - 1).
Weights of_bits(const Graph& g, const Product& p) {
  const TensorView in = view_of(g.api, g.values[p.weight].constant);
  const TensorView scales = view_of(g.api, g.values[p.scales].constant);
  const TensorView zeros = p.zeros >= 0 ? view_of(g.api, g.values[p.zeros].constant) : TensorView{};
  const int64_t per_row = p.columns / p.block, packed = (per_row + 1) / 2;
  const int32_t format = p.bits == 8  ? EXN_BLOCKS_Q8_0
                         : zeros.data ? EXN_BLOCKS_Q4_1
                                      : EXN_BLOCKS_Q4_0;
  Weights out = blocks(p, format);
  auto* to = out.memory.as<uint8_t>();
  for (int64_t n = 0; n < p.rows; ++n) {
    for (int64_t k = 0; k < p.columns; k += 32) {
      const int64_t b = k / p.block;
      const float scale = to_float(scales, n * per_row + b);
      put(to, half_of(scale));
      to += 2;
      if (p.bits == 8) {
        const uint8_t* q = in.as<uint8_t>() + n * p.columns + k;
        for (int i = 0; i < 32; ++i) to[i] = static_cast<uint8_t>(q[i] ^ 0x80);  // q - 128
        to += 32;
        continue;
      }
      if (zeros.data) {
        const uint8_t pair = zeros.as<uint8_t>()[n * packed + b / 2];
        put(to, half_of(-scale * static_cast<float>(b % 2 ? pair >> 4 : pair & 15)));
        to += 2;
      }
      const uint8_t* q = in.as<uint8_t>() + (n * p.columns + k) / 2;
      const auto element = [&](int i) { return i % 2 ? q[i / 2] >> 4 : q[i / 2] & 15; };
      for (int i = 0; i < 16; ++i) {
        to[i] = static_cast<uint8_t>(element(i) | element(i + 16) << 4);
      }
      to += 16;
    }
  }
  return out;
}

// DequantizeLinear of bytes: (q - zero) scale.
Weights dequantised(const Graph& g, const Product& p) {
  const TensorView in = view_of(g.api, g.values[p.weight].constant);
  const TensorView scales = view_of(g.api, g.values[p.scales].constant);
  const TensorView zeros = p.zeros >= 0 ? view_of(g.api, g.values[p.zeros].constant) : TensorView{};
  Weights out = blocks(p, EXN_BLOCKS_Q8_0);
  auto* to = out.memory.as<uint8_t>();
  const auto byte = [](const TensorView& t, int64_t i) {
    return t.type == kInt8 ? int32_t{t.as<int8_t>()[i]} : int32_t{t.as<uint8_t>()[i]};
  };
  for (int64_t n = 0; n < p.rows; ++n) {
    for (int64_t k = 0; k < p.columns; k += 32) {
      const int64_t per_row = p.block > 0 ? p.columns / p.block : 1;
      const int64_t s = p.block < 0    ? 0
                        : p.block == 0 ? n
                        : p.transposed ? n * per_row + k / p.block
                                       : k / p.block * p.rows + n;
      put(to, half_of(to_float(scales, s)));
      to += 2;
      const int32_t zero = zeros.data ? byte(zeros, zeros.count() == 1 ? 0 : s) : 0;
      for (int64_t i = k; i < k + 32; ++i) {
        const int32_t q = byte(in, p.transposed ? n * p.columns + i : i * p.rows + n) - zero;
        if (q < -128 || q > 127) {
          throw Failure(kInvalidArgument, "exeunt: a weight less its zero point is " +
                                              std::to_string(q) + ", which no byte holds");
        }
        *to++ = static_cast<uint8_t>(q);
      }
    }
  }
  return out;
}

Weights weights_of(const Graph& g, const Product& p, bool panels) {
  switch (p.storage) {
    case Storage::kDense:
      return dense(g, p, panels);
    case Storage::kBits:
      return of_bits(g, p);
    default:
      return dequantised(g, p);
  }
}

// The shape of a sum.
std::vector<int64_t> broadcast(const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
  std::vector<int64_t> out(a.size());
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] != b[i] && a[i] != 1 && b[i] != 1) {
      throw Failure(kInvalidArgument, "exeunt: Add of extents " + std::to_string(a[i]) + " and " +
                                          std::to_string(b[i]) + " in axis " + std::to_string(i));
    }
    out[i] = a[i] == 1 ? b[i] : a[i];
  }
  return out;
}

// out = a + b over `shape`, as many axes as both have.
void add(const TensorView& a, const TensorView& b, const TensorView& out) {
  const size_t rank = out.shape.size();
  std::vector<int64_t> at(rank), step_a(rank), step_b(rank);
  for (int64_t i = static_cast<int64_t>(rank) - 1, sa = 1, sb = 1; i >= 0; --i) {
    step_a[i] = a.shape[i] == 1 ? 0 : sa;
    step_b[i] = b.shape[i] == 1 ? 0 : sb;
    sa *= a.shape[i];
    sb *= b.shape[i];
  }
  for (int64_t k = 0, n = out.count(); k < n; ++k) {
    int64_t ia = 0, ib = 0;
    for (size_t i = 0; i < rank; ++i) {
      ia += at[i] * step_a[i];
      ib += at[i] * step_b[i];
    }
    out.as<float>()[k] = a.as<float>()[ia] + b.as<float>()[ib];
    for (size_t i = rank; i-- > 0;) {
      if (++at[i] < out.shape[i]) break;
      at[i] = 0;
    }
  }
}

size_t bytes_in(const TensorView& view) {
  return static_cast<size_t>(view.count() * bytes_of(view.type));
}

}  // namespace

Plan::Plan(const Graph& g, const Group& group, const std::vector<std::string>& inputs,
           const std::vector<std::string>& outputs, const Settings& settings)
    : api_(g.api), threads_(settings.threads) {
  // An output that nobody reads is none of the fused node's.
  const auto output = [&](int value, const Product& p, std::vector<Output>* list) {
    const auto at = std::find(outputs.begin(), outputs.end(), g.values[value].name);
    if (at == outputs.end()) return;
    const bool reduced = std::find(p.reduced.begin(), p.reduced.end(), value) != p.reduced.end();
    list->push_back({static_cast<size_t>(at - outputs.begin()), g.values[value].type, reduced});
  };
  input_ = place_of(inputs, g.values[group.input].name);
  prologue_norm_ = group.prologue_norm;
  prologue_eps_ = group.prologue_eps;
  prologue_weight_ = g.floats(group.prologue_weight);
  prologue_bias_ = g.floats(group.prologue_bias);
  const int32_t type = group.products[0].product_type;
  // A narrower input is faster only where there are products of pairs of bf16.
  const std::string isa = exn_cpu_isa();
  const bool pairs = type == kBfloat16 && (isa == "avx512" || isa == "amx");
  prologue_type_ = pairs ? type : g.values[group.input].type;
  if (prologue_norm_ != EXN_NORM_NONE && !pairs) prologue_type_ = kFloat;
  for (const Product& p : group.products) {
    Linear linear;
    linear.weights = weights_of(g, p, !p.head && !pairs);
    linear.bias = g.floats(p.bias);
    linear.activation = p.activation;
    linear.norm = p.norm;
    linear.norm_weight = g.floats(p.norm_weight);
    linear.norm_bias = g.floats(p.norm_bias);
    linear.eps = p.eps;
    linear.head = p.head;
    if (p.residual >= 0) {
      linear.residual = static_cast<int>(place_of(inputs, g.values[p.residual].name));
    }
    if (p.head) {
      for (const int value : p.argmaxes) output(value, p, &linear.argmaxes);
      for (const int value : p.p1s) output(value, p, &linear.p1s);
      for (const int value : p.max_logits) output(value, p, &linear.max_logits);
    } else {
      std::vector<Output> read;
      output(p.output, p, &read);
      if (read.empty()) continue;
      linear.output = read[0];
    }
    linears_.push_back(std::move(linear));
  }
}

void Plan::run(OrtKernelContext* context) const {
  if (linears_.empty()) return;
  const TensorView input = input_of(api_, context, input_);
  if (input.shape.empty() || input.last() != linears_[0].weights.columns) {
    throw Failure(kInvalidArgument, "exeunt: the rows of a product's input have " +
                                        std::to_string(input.last()) + " elements, expected " +
                                        std::to_string(linears_[0].weights.columns));
  }
  const int64_t rows = input.count() / input.last();
  const size_t bytes = prologue_norm_ != EXN_NORM_NONE || prologue_type_ != input.type
                           ? static_cast<size_t>(rows * input.last() * bytes_of(prologue_type_))
                           : 0;
  Scratch::Block block(scratch_, rounded(bytes));
  const TensorView x = bytes > 0 ? prepared(context, input, &block) : input;
  for (const Linear& linear : linears_) {
    if (linear.head) run_heads(context, linear, x);
  }
  run_linears(context, x);
}

// The input behind cast and norm.
TensorView Plan::prepared(OrtKernelContext* context, const TensorView& input,
                          Scratch::Block* block) const {
  const int64_t cols = input.last(), rows = input.count() / cols;
  TensorView out{block->take(static_cast<size_t>(rows * cols * bytes_of(prologue_type_))),
                 prologue_type_, input.shape};
  const int64_t step = std::max<int64_t>(1, kWorthAThread / cols);
  parallel(api_, context, (rows + step - 1) / step, [&](int64_t i) {
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
    const Weights& w = linears_[i].weights;
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

void Plan::run_linears(OrtKernelContext* context, const TensorView& input) const {
  const int64_t rows = input.count() / input.last();
  std::vector<Target> targets(linears_.size());
  size_t bytes = 0;
  for (size_t i = 0; i < linears_.size(); ++i) {
    const Linear& linear = linears_[i];
    if (linear.head) continue;
    Target& t = targets[i];
    std::vector<int64_t> shape = input.shape;
    shape.back() = linear.weights.rows;
    t.plain = {nullptr, linear.output.type, shape};
    if (linear.residual >= 0) {
      t.residual = input_of(api_, context, static_cast<size_t>(linear.residual));
      t.fused = t.residual.shape == shape;
      if (!t.fused) shape = broadcast(shape, t.residual.shape);
    }
    t.out = output_of(api_, context, linear.output.index, linear.output.type, shape);
    if (linear.activation != Activation::kNone || linear.norm != EXN_NORM_NONE ||
        linear.residual >= 0) {
      t.plain.type = kFloat;
    }
    const bool alone = linear.residual < 0 || (t.fused && linear.activation == Activation::kNone);
    t.narrowed = linear.norm == EXN_NORM_NONE && alone && t.plain.type != t.out.type;
    if (t.plain.type == t.out.type && (linear.residual < 0 || t.fused)) {
      t.plain.data = t.out.data;
    } else if (!t.narrowed) {
      bytes += rounded(bytes_in(t.plain));
    }
    if (linear.residual >= 0) {
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
    if (linears_[i].residual < 0) continue;
    if (!t.fused && t.sum.data == nullptr) t.sum.data = plain.take(bytes_in(t.sum));
    if (t.residual.type != kFloat) {
      const TensorView narrow = t.residual;
      t.residual.type = kFloat;
      t.residual.data = plain.take(bytes_in(t.residual));
      convert(api_, context, narrow, t.residual.data, kFloat);
    }
  }
  run_parts(context, input, targets);
  for (size_t i = 0; i < linears_.size(); ++i) {
    const Linear& linear = linears_[i];
    const Target& t = targets[i];
    if (linear.head) continue;
    TensorView from = t.plain;
    if (linear.residual >= 0 && !t.fused) {
      add(t.plain, t.residual, t.sum);
      from = t.sum;
    }
    if (t.narrowed || (linear.norm == EXN_NORM_NONE && from.data == t.out.data)) continue;
    const int64_t width = t.out.last(), count = t.out.count() / width;
    const int64_t step = std::max<int64_t>(1, kWorthAThread / width);
    parallel(api_, context, (count + step - 1) / step, [&](int64_t k) {
      const int64_t begin = k * step, m = std::min(count - begin, step);
      normalise(linear.norm, linear.eps, or_null(linear.norm_weight), or_null(linear.norm_bias),
                from.as<char>() + begin * width * bytes_of(from.type), from.type,
                t.out.as<char>() + begin * width * bytes_of(t.out.type), t.out.type, m, width);
    });
  }
}

void Plan::run_parts(OrtKernelContext* context, const TensorView& input,
                     const std::vector<Target>& targets) const {
  const int64_t cols = input.last(), rows = input.count() / cols;
  // What all parts would convert or copy for themselves.
  const bool panels = std::any_of(linears_.begin(), linears_.end(),
                                  [](const Linear& linear) { return linear.weights.panels; });
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
    parallel(api_, context, (rows + step - 1) / step, [&](int64_t i) {
      const int64_t begin = i * step, n = std::min(rows - begin, step);
      normalise(EXN_NORM_NONE, 0, nullptr, nullptr, plain.row(begin), plain.type, wide.row(begin),
                kFloat, n, cols, wide.stride);
    });
  }
  const std::vector<Part> list = parts(rows);
  parallel(api_, context, static_cast<int64_t>(list.size()), [&](int64_t i) {
    const Part& part = list[i];
    run_part(part, linears_[part.product].weights.panels ? wide : plain, targets[part.product]);
  });
}

void Plan::run_part(const Part& part, const Rows& x, const Target& t) const {
  const Linear& linear = linears_[part.product];
  const Weights& w = linear.weights;
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
  exn_linear_params params = {};
  params.struct_size = sizeof params;
  params.weight_blocks = w.blocks;
  params.input = input.get();
  params.weight = weight.get();
  params.bias = bias.get();
  params.residual = residual.get();
  params.out = out.get();
  size_t bytes = 0;
  check(exn_linear_workspace_size(&params, &bytes));
  Scratch::Block workspace(scratch_, bytes);
  check(exn_linear(&params, workspace.take(bytes), bytes, nullptr));
  activate(linear.activation, static_cast<float*>(to), part.rows, n, stride);
  if (later) {
    accumulate(t.residual.as<float>() + at, static_cast<float*>(to), part.rows, n, stride);
  }
  if (t.narrowed) {
    normalise(EXN_NORM_NONE, 0, nullptr, nullptr, to, kFloat,
              t.out.as<char>() + at * bytes_of(t.out.type), t.out.type, part.rows, n, w.rows);
  }
}

void Plan::run_heads(OrtKernelContext* context, const Linear& linear,
                     const TensorView& input) const {
  const Weights& w = linear.weights;
  Head head;
  head.weight = w.row(0);
  head.type = w.type;
  head.blocks = w.blocks;
  head.rows = w.rows;
  head.columns = w.columns;
  head.row_bytes = w.row_bytes;
  head.bias = or_null(linear.bias);
  const std::vector<RowOfHead> rows = run_head(api_, context, head, input, threads_, &scratch_);
  const auto write = [&](const std::vector<Output>& outputs, const auto& value) {
    for (const Output& output : outputs) {
      std::vector<int64_t> shape = input.shape;
      shape.back() = 1;
      if (output.reduced) shape.pop_back();
      const TensorView out = output_of(api_, context, output.index, output.type, shape);
      for (size_t r = 0; r < rows.size(); ++r) value(out, r);
    }
  };
  write(linear.argmaxes,
        [&](const TensorView& out, size_t r) { out.as<int64_t>()[r] = rows[r].argmax; });
  write(linear.max_logits,
        [&](const TensorView& out, size_t r) { out.as<float>()[r] = rows[r].max_logit; });
  write(linear.p1s, [&](const TensorView& out, size_t r) { out.as<float>()[r] = rows[r].p1; });
}

}  // namespace exn::ort
