// SPDX-License-Identifier: Apache-2.0
// What the cases of model.h are made of: tensors that the device makes and the host can make again,
// a call with its tensors, products in double precision, and how outputs are judged.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>
#include <thread>

#include "blocks.h"
#include "dense.h"
#include "judge.h"
#include "model.h"
#include "reals.h"
#include "stats.h"

namespace exn::gpu::model {

// ---- tensors ------------------------------------------------------------------------------------

// Streams of values (`word` in ops/common/tensor.h): one for each tensor of a call.
enum Source : uint64_t { kX, kW, kW2, kW3, kGain, kKeys, kValues, kTable };
constexpr uint64_t kLayerStreams = 64;  // of layer j: j * kLayerStreams + those above
constexpr uint64_t kSeed = 20260;
constexpr float kNormEps = 1e-5f;
constexpr float kLogitScale = 3;

// A tensor that the device makes, element by element, and so can the host.
struct Made {
  Type type = Type::kF32;
  uint64_t stream = 0;
  float scale = 1;

  double operator[](int64_t i) const {
    const float v = bell(word(kSeed, stream, static_cast<uint64_t>(i))) * scale;
    switch (type) {
      case Type::kF16:
        return static_cast<double>(float_from_f16(f16_from_float(v)));
      case Type::kBF16:
        return static_cast<double>(float_from_bf16(bf16_from_float(v)));
      default:
        return static_cast<double>(v);
    }
  }
  std::vector<double> row(int64_t row, int64_t cols) const {
    std::vector<double> values(at(cols));
    for (int64_t i = 0; i < cols; ++i) values[at(i)] = (*this)[row * cols + i];
    return values;
  }
};

// Rows of blocks, whose bytes are those of f16 numbers: so every d, m and dmin is one of them.
struct MadeBlocks {
  Made made;
  const BlockFormat* format;

  int64_t row_bytes(int64_t cols) const { return cols / format->elements * format->bytes; }
  std::vector<double> row(int64_t row, int64_t cols) const {
    const int64_t bytes = row_bytes(cols);
    HostTensor one = make_blocks(*format, 1, cols, 0, 0);
    for (int64_t i = 0; i < bytes / 2; ++i)
      store(one.bytes.data() + 2 * i, Type::kF16, made[row * bytes / 2 + i]);
    return unpacked_row(one, 0);
  }
};

inline int probe_type(Type type) {
  return type == Type::kF16    ? EXEUNT_PROBE_F16
         : type == Type::kBF16 ? EXEUNT_PROBE_BF16
                               : EXEUNT_PROBE_F32;
}

constexpr size_t kGuardBytes = GuardedMemory::kGuard;

// Between guards that may not be touched.
class DeviceTensor {
 public:
  DeviceTensor(Type type, std::vector<int64_t> shape)
      : type_(type), shape_(std::move(shape)), strides_(shape_.size(), 1) {
    for (size_t i = shape_.size(); i-- > 1;) strides_[i - 1] = strides_[i] * shape_[i];
    count_ = std::accumulate(shape_.begin(), shape_.end(), int64_t{1}, std::multiplies<int64_t>());
    memory_ = std::make_unique<test::DeviceMemory>(kDLCUDA, bytes() + 2 * kGuardBytes);
    guard_.assign(kGuardBytes, GuardedMemory::kGuardByte);
    copy(memory_->data(), kDLCUDA, guard_.data(), kDLCPU, kGuardBytes);
    copy(data() + bytes(), kDLCUDA, guard_.data(), kDLCPU, kGuardBytes);
    dl_.data = data();
    dl_.device = {kDLCUDA, 0};
    dl_.ndim = static_cast<int32_t>(shape_.size());
    dl_.dtype = dl_type(type_);
    dl_.shape = shape_.data();
    dl_.strides = strides_.data();
  }

  const DLTensor* dl() const { return &dl_; }
  size_t bytes() const { return static_cast<size_t>(count_ * size_of(type_)); }

  void make(const Made& made) {
    const auto count = static_cast<int64_t>(bytes()) / size_of(made.type);
    require_probe(probes().fill(data(), probe_type(made.type), count, kSeed, made.stream,
                                made.scale, nullptr),
                  "fill");
    require(exn_stream_synchronize(kDLCUDA, 0, nullptr), "exn_stream_synchronize");
  }
  void write(const void* values) { copy(data(), kDLCUDA, values, kDLCPU, bytes()); }
  // Some rows of `cols` elements, one after the other.
  HostTensor read(const std::vector<int64_t>& rows, int64_t cols) const {
    HostTensor host = make_tensor(type_, {static_cast<int64_t>(rows.size()), cols});
    const size_t row_bytes = static_cast<size_t>(cols * size_of(type_));
    for (size_t i = 0; i < rows.size(); ++i) {
      copy(host.bytes.data() + i * row_bytes, kDLCPU,
           data() + static_cast<size_t>(rows[i]) * row_bytes, kDLCUDA, row_bytes);
    }
    return host;
  }
  bool guards_intact() const {
    std::vector<unsigned char> before(kGuardBytes), after(kGuardBytes);
    copy(before.data(), kDLCPU, memory_->data(), kDLCUDA, kGuardBytes);
    copy(after.data(), kDLCPU, data() + bytes(), kDLCUDA, kGuardBytes);
    return before == guard_ && after == guard_;
  }

 private:
  unsigned char* data() const { return memory_->data() + kGuardBytes; }
  static void copy(void* to, int to_device, const void* from, int from_device, size_t bytes) {
    require(exn_copy(to, to_device, 0, from, from_device, 0, bytes, nullptr), "exn_copy");
    require(exn_stream_synchronize(kDLCUDA, 0, nullptr), "exn_stream_synchronize");
  }

  Type type_;
  std::vector<int64_t> shape_, strides_;
  int64_t count_ = 0;
  std::vector<unsigned char> guard_;
  std::unique_ptr<test::DeviceMemory> memory_;
  DLTensor dl_{};
};

// A call with its tensors, which `Params` point at.
class ModelRun : public Runnable {
 public:
  const DLTensor* made(const Made& values, std::vector<int64_t> shape) {
    tensors_.emplace_back(values.type, std::move(shape));
    tensors_.back().make(values);
    return tensors_.back().dl();
  }
  const DLTensor* made(const MadeBlocks& blocks, int64_t rows, int64_t cols) {
    tensors_.emplace_back(Type::kU8, std::vector<int64_t>{rows, blocks.row_bytes(cols)});
    tensors_.back().make(blocks.made);
    return tensors_.back().dl();
  }
  const DLTensor* integers(const std::vector<int32_t>& values, std::vector<int64_t> shape) {
    tensors_.emplace_back(Type::kI32, std::move(shape));
    tensors_.back().write(values.data());
    return tensors_.back().dl();
  }
  // Full of what no result is.
  const DLTensor* output(Type type, std::vector<int64_t> shape) {
    tensors_.emplace_back(type, std::move(shape));
    tensors_.back().write(std::vector<unsigned char>(tensors_.back().bytes(), 0xCD).data());
    return tensors_.back().dl();
  }
  template <class T>
  T* keep(std::vector<T> values) {
    const auto kept = std::make_shared<std::vector<T>>(std::move(values));
    kept_.push_back(kept);
    return kept->data();
  }
  template <class Params>
  void call(const Op<Params>& op, const Params& params) {
    call_ = bound(op, params);
    require(call_.workspace_size(&workspace_bytes_), call_.op);
    workspace_ =
        std::make_unique<test::DeviceMemory>(kDLCUDA, std::max<size_t>(workspace_bytes_, 64));
  }

  void run(exn_stream stream) override {
    require(call_.run(workspace_->data(), workspace_bytes_, stream), call_.op);
  }
  size_t bytes() const override {
    size_t bytes = 0;
    for (const DeviceTensor& tensor : tensors_) bytes += tensor.bytes();
    return bytes;
  }
  const DeviceTensor& at(const DLTensor* dl) const {
    return *std::find_if(tensors_.begin(), tensors_.end(),
                         [dl](const DeviceTensor& tensor) { return tensor.dl() == dl; });
  }
  // An output, or one row of it.
  HostTensor whole(const DLTensor* dl) const {
    const DeviceTensor& tensor = at(dl);
    const int64_t rows = dl->ndim > 1 ? dl->shape[0] : 1;
    std::vector<int64_t> all(test::at(rows));
    std::iota(all.begin(), all.end(), 0);
    const auto size = static_cast<int64_t>(tensor.bytes()) / (dl->dtype.bits / 8);
    return tensor.read(all, rows == 0 ? 0 : size / rows);
  }
  bool guards_intact() const {
    return std::all_of(tensors_.begin(), tensors_.end(),
                       [](const DeviceTensor& tensor) { return tensor.guards_intact(); });
  }

 private:
  std::deque<DeviceTensor> tensors_;
  std::vector<std::shared_ptr<void>> kept_;
  BoundCall call_;
  std::unique_ptr<test::DeviceMemory> workspace_;
  size_t workspace_bytes_ = 0;
};

// ---- double precision on the host ---------------------------------------------------------------

// f(i) for all i below n, on all cores.
inline void for_each(int64_t n, const std::function<void(int64_t)>& f) {
  constexpr int64_t kPiece = 4;
  std::atomic<int64_t> next{0};
  const auto work = [&] {
    for (int64_t begin; (begin = next.fetch_add(kPiece)) < n;) {
      for (int64_t i = begin; i < std::min(n, begin + kPiece); ++i) f(i);
    }
  };
  std::vector<std::thread> threads;
  for (unsigned t = 1; t < std::thread::hardware_concurrency(); ++t) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
}

// The first and the last row, and one between them.
inline std::vector<int64_t> sample(int64_t rows) {
  std::vector<int64_t> chosen = {0};
  for (const int64_t row : {rows / 2, rows - 1}) {
    if (row != chosen.back()) chosen.push_back(row);
  }
  return chosen;
}

// A vector of a computation in f32, with the error of each element: independent of the others, and
// relative to all alike.
struct Vector {
  std::vector<double> x, error;
  double shared = 0;

  explicit Vector(std::vector<double> exact = {}) : x(std::move(exact)), error(x.size(), 0.0) {}
};

inline void normalise(Vector* v, const Made& gain) {
  double squares = 0;
  for (const double x : v->x) squares += x * x;
  const double n = static_cast<double>(v->x.size());
  const double scale = 1 / std::sqrt(squares / n + static_cast<double>(kNormEps));
  v->shared = kUnit * (0.5 * sum_error(static_cast<int64_t>(v->x.size())) + 4);
  for (size_t i = 0; i < v->x.size(); ++i) {
    v->x[i] *= scale * gain[static_cast<int64_t>(i)];
    v->error[i] = 3 * kUnit * std::fabs(v->x[i]);
  }
}

// An element within its error of a boundary may be rounded to either side.
inline void round_to(Type type, Vector* v) {
  for (size_t i = 0; i < v->x.size(); ++i) {
    const double e = v->error[i] + v->shared * std::fabs(v->x[i]);
    const double rounded = rounded_to(type, v->x[i]);
    v->error[i] =
        std::max(rounded_to(type, v->x[i] + e) - rounded, rounded - rounded_to(type, v->x[i] - e));
    v->x[i] = rounded;
  }
  v->shared = 0;
}

struct Sum {
  double value = 0;
  double error = 0;
};

// Products of all vectors with row `row` of w.
inline void products(const std::vector<Vector>& vectors, const Made& w, int64_t row, Sum* out) {
  const auto n = static_cast<int64_t>(vectors[0].x.size());
  const std::vector<double> weight = w.row(row, n);
  for (size_t v = 0; v < vectors.size(); ++v) {
    double value = 0, magnitude = 0, independent = 0;
    for (size_t i = 0; i < weight.size(); ++i) {
      const double term = weight[i] * vectors[v].x[i], error = weight[i] * vectors[v].error[i];
      value += term;
      magnitude += std::fabs(term);
      independent += error * error;
    }
    out[v] = {value, kUnit * sum_error(n) * magnitude + kIndependent * std::sqrt(independent) +
                         vectors[v].shared * std::fabs(value)};
  }
}

// [vector][row of w], for the rows listed.
inline std::vector<std::vector<Sum>> products(const std::vector<Vector>& vectors, const Made& w,
                                              int64_t count,
                                              const std::function<int64_t(int64_t)>& row) {
  std::vector<std::vector<Sum>> all(vectors.size(), std::vector<Sum>(at(count)));
  for_each(count, [&](int64_t i) {
    std::vector<Sum> sums(vectors.size());
    products(vectors, w, row(i), sums.data());
    for (size_t v = 0; v < sums.size(); ++v) all[v][at(i)] = sums[v];
  });
  return all;
}

inline std::vector<std::vector<Sum>> products(const std::vector<Vector>& vectors, const Made& w,
                                              int64_t count) {
  return products(vectors, w, count, [](int64_t i) { return i; });
}

inline std::vector<Vector> rows_of(const Made& x, const std::vector<int64_t>& rows, int64_t cols) {
  std::vector<Vector> vectors;
  for (const int64_t row : rows) vectors.emplace_back(x.row(row, cols));
  return vectors;
}

// Softmax, and what its cross-entropy makes of it.
inline std::vector<double> softmax_of(const std::vector<double>& z, double* lse) {
  const double top = *std::max_element(z.begin(), z.end());
  std::vector<double> p(z.size());
  double sum = 0;
  for (size_t i = 0; i < z.size(); ++i) sum += p[i] = std::exp(z[i] - top);
  for (double& v : p) v /= sum;
  *lse = top + std::log(sum);
  return p;
}

// Weights such that outputs are as large as inputs.
inline float weight_scale(int64_t dim) { return 1 / std::sqrt(static_cast<float>(dim)); }

// Halves of a head turned by a row of the table; errors go along.
inline void rotate(std::vector<Sum>* head, size_t begin, const Made& table, int64_t position,
                   int64_t pairs) {
  for (int64_t i = 0; i < pairs; ++i) {
    const double cos = table[(position * pairs + i) * 2],
                 sin = table[(position * pairs + i) * 2 + 1];
    Sum &a = (*head)[begin + at(i)], &b = (*head)[begin + at(i + pairs)];
    const auto turned = [](const Sum& p, double by_p, const Sum& q, double by_q) {
      const double one = p.value * by_p, other = q.value * by_q;
      return Sum{one + other, p.error * std::fabs(by_p) + q.error * std::fabs(by_q) +
                                  2 * kUnit * (std::fabs(one) + std::fabs(other))};
    };
    const Sum first = turned(a, cos, b, -sin), second = turned(b, cos, a, sin);
    a = first, b = second;
  }
}

// ---- a case -------------------------------------------------------------------------------------

// What a call is made of: its tensors, and how its outputs are judged.
using Judge = std::function<Complaint(const ModelRun&)>;
using Build = std::function<Judge(ModelRun*)>;

inline ModelWork work(const char* op, const std::string& id, double bytes,
                      std::map<std::string, std::string> description, const Build& build) {
  ModelWork w;
  w.op = op;
  w.id = id;
  w.compulsory_bytes = bytes;
  w.arithmetic = arithmetic_of(op, description);
  w.description = std::move(description);
  w.make = [build] {
    auto run = std::make_unique<ModelRun>();
    build(run.get());
    return run;
  };
  w.check = [build]() -> Complaint {
    ModelRun run;
    const Judge judge = build(&run);
    run.run(nullptr);
    require(exn_stream_synchronize(kDLCUDA, 0, nullptr), "exn_stream_synchronize");
    const Complaint complaint = judge(run);
    if (!complaint.empty()) return complaint;
    return run.guards_intact() ? "" : "wrote outside an output";
  };
  return w;
}

inline std::string sized(const char* name, std::initializer_list<int64_t> sizes) {
  std::string id = name;
  const char* separator = "_";
  for (const int64_t size : sizes) {
    id += separator + text(size);
    separator = "x";
  }
  return id;
}

inline const std::string kBf16 = quoted("bf16"), kF32 = quoted("f32");

inline exn_stats all_stats(ModelRun* run, int64_t rows) {
  exn_stats out = {};
  out.argmax = run->output(Type::kI32, {rows});
  for (const DLTensor** place : {&out.max_logit, &out.lse, &out.p1, &out.p2, &out.margin,
                                 &out.entropy, &out.pow2_entropy, &out.mean_log_p}) {
    *place = run->output(Type::kF32, {rows});
  }
  out.valid = run->output(Type::kU8, {rows});
  return out;
}

// The statistics of the sampled rows, from all logits of each.
inline Complaint judge_rows(const ModelRun& run, const exn_stats& out,
                            const std::vector<int64_t>& rows, const std::vector<Logits>& logits) {
  std::vector<StatsExpected> expected(rows.size());
  for_each(static_cast<int64_t>(rows.size()),
           [&](int64_t i) { expected[at(i)] = stats_oracle(logits[at(i)], EXN_SOFTMAX, 1, 0); });
  Outputs got;
  for (const DLTensor* dl : {out.argmax, out.max_logit, out.lse, out.p1, out.p2, out.margin,
                             out.entropy, out.pow2_entropy, out.mean_log_p, out.valid}) {
    HostTensor sampled = run.at(dl).read(rows, 1);
    sampled.shape = {sampled.rows};
    sampled.cols = sampled.rows, sampled.rows = 1, sampled.stride = sampled.cols;
    got.push_back(std::move(sampled));
  }
  return judge_stats(kUnlabelled, expected, got);
}

inline Complaint compare_rows(const char* name, const std::vector<int64_t>& rows,
                              const std::vector<Expected>& expected, const HostTensor& got) {
  const int64_t cols = got.cols;
  for (size_t i = 0; i < expected.size(); ++i) {
    const int64_t row = static_cast<int64_t>(i) / cols, col = static_cast<int64_t>(i) % cols;
    const Complaint complaint =
        compare(name, place(rows[at(row)], col), expected[i], got.at(row, col));
    if (!complaint.empty()) return complaint;
  }
  return "";
}

// ---- the ops ------------------------------------------------------------------------------------

ModelWork row_stats(int64_t rows, int64_t vocab);
ModelWork stablemax(int64_t rows, int64_t vocab);
ModelWork cross_entropy(int64_t rows, int64_t vocab);
ModelWork select(int64_t rows, int64_t cols, int64_t k);
ModelWork linear(int64_t rows, int64_t dim, int64_t cols);
ModelWork linear_blocks(const char* format, int64_t rows, int64_t dim, int64_t cols);
ModelWork exit_head(int64_t rows, int64_t dim, int64_t vocab, int64_t shortlist);
ModelWork ffn(int64_t rows, int64_t dim, int64_t width);
ModelWork norm(int64_t rows, int64_t dim);
ModelWork rope(int64_t rows, int64_t heads, int64_t head_dim, Type type);
ModelWork kv_propagate(int64_t rows, int64_t layers, int64_t dim, int64_t heads, int64_t head_dim);
ModelWork attention(int64_t rows, int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t slots);
ModelWork attention_scores(int64_t window, int64_t heads, int64_t kv_heads, int64_t head_dim,
                           int64_t slots);

}  // namespace exn::gpu::model
