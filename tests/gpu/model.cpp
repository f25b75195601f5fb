// SPDX-License-Identifier: Apache-2.0
#include "model.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>
#include <thread>

#include "judge.h"
#include "reals.h"
#include "stats.h"

namespace exn::gpu {

ModelShape rehearsal_shape() {
  ModelShape small;
  small.dim = 96, small.vocab = 384, small.width = 112;
  small.kv_heads = 2, small.head_dim = 32;
  small.shortlist = 48;
  small.batches = {1, 3};
  small.slots = {64, 144};
  small.layers = {1, 3};
  small.windows = {2, 4};
  small.scored_slots = small.slots;
  small.other_widths = {40};
  return small;
}

ModelShape counted_shape() {
  ModelShape shape;
  shape.scored_slots = {512};
  shape.other_widths = {64, 80, 96, 192, 256};
  return shape;
}

namespace {

// ---- tensors ------------------------------------------------------------------------------------

// Streams of values (`word` in ops/common/tensor.h): one for each tensor of a call.
enum Source : uint64_t { kX, kW, kW2, kW3, kGain, kKeys, kValues, kTable };
constexpr uint64_t kLayerStreams = 64;  // of layer j: j * kLayerStreams + those above
constexpr uint64_t kSeed = 20260;
constexpr float kNormEps = 1e-5f;

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

int probe_type(Type type) {
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
    require_probe(
        probes().fill(data(), probe_type(type_), count_, kSeed, made.stream, made.scale, nullptr),
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
void for_each(int64_t n, const std::function<void(int64_t)>& f) {
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
std::vector<int64_t> sample(int64_t rows) {
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

void normalise(Vector* v, const Made& gain) {
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
void round_to(Type type, Vector* v) {
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
void products(const std::vector<Vector>& vectors, const Made& w, int64_t row, Sum* out) {
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
std::vector<std::vector<Sum>> products(const std::vector<Vector>& vectors, const Made& w,
                                       int64_t count, const std::function<int64_t(int64_t)>& row) {
  std::vector<std::vector<Sum>> all(vectors.size(), std::vector<Sum>(at(count)));
  for_each(count, [&](int64_t i) {
    std::vector<Sum> sums(vectors.size());
    products(vectors, w, row(i), sums.data());
    for (size_t v = 0; v < sums.size(); ++v) all[v][at(i)] = sums[v];
  });
  return all;
}

std::vector<std::vector<Sum>> products(const std::vector<Vector>& vectors, const Made& w,
                                       int64_t count) {
  return products(vectors, w, count, [](int64_t i) { return i; });
}

std::vector<Vector> rows_of(const Made& x, const std::vector<int64_t>& rows, int64_t cols) {
  std::vector<Vector> vectors;
  for (const int64_t row : rows) vectors.emplace_back(x.row(row, cols));
  return vectors;
}

// ---- a case -------------------------------------------------------------------------------------

// What a call is made of: its tensors, and how its outputs are judged.
using Judge = std::function<Complaint(const ModelRun&)>;
using Build = std::function<Judge(ModelRun*)>;

ModelWork work(const char* op, const std::string& id, double bytes,
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

std::string sized(const char* name, std::initializer_list<int64_t> sizes) {
  std::string id = name;
  const char* separator = "_";
  for (const int64_t size : sizes) {
    id += separator + text(size);
    separator = "x";
  }
  return id;
}

const std::string kBf16 = quoted("bf16"), kF32 = quoted("f32");
constexpr uint32_t kAllStats = (1u << kStats) - 1;

exn_stats all_stats(ModelRun* run, int64_t rows) {
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
Complaint judge_rows(const ModelRun& run, const exn_stats& out, const std::vector<int64_t>& rows,
                     const std::vector<Logits>& logits) {
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
  return judge_stats(kAllStats, expected, got);
}

Complaint compare_rows(const char* name, const std::vector<int64_t>& rows,
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

// ---- rows of logits -----------------------------------------------------------------------------

constexpr float kLogitScale = 3;

ModelWork row_stats(int64_t rows, int64_t vocab) {
  const Made x{Type::kBF16, kX, kLogitScale};
  return work("row_stats", sized("8b", {rows, vocab}), bytes_of(rows * vocab, x.type),
              {{"rows", text(rows)},
               {"cols", text(vocab)},
               {"dtype", kBf16},
               {"normalizer", text(EXN_SOFTMAX)},
               {"outputs", stat_names(kAllStats)}},
              [=](ModelRun* run) -> Judge {
                exn_row_stats_params p = {};
                p.struct_size = sizeof p;
                p.logits = run->made(x, {rows, vocab});
                p.normalizer = EXN_SOFTMAX;
                p.temperature = 1;
                p.out = all_stats(run, rows);
                run->call(EXN_TEST_OP(row_stats), p);
                return [=](const ModelRun& done) {
                  const std::vector<int64_t> rows_seen = sample(rows);
                  std::vector<Logits> logits;
                  for (const int64_t row : rows_seen) {
                    logits.push_back({x.row(row, vocab), std::vector<double>(at(vocab), 0.0), {}});
                  }
                  return judge_rows(done, p.out, rows_seen, logits);
                };
              });
}

// Softmax, and what its cross-entropy makes of it.
std::vector<double> softmax_of(const std::vector<double>& z, double* lse) {
  const double top = *std::max_element(z.begin(), z.end());
  std::vector<double> p(z.size());
  double sum = 0;
  for (size_t i = 0; i < z.size(); ++i) sum += p[i] = std::exp(z[i] - top);
  for (double& v : p) v /= sum;
  *lse = top + std::log(sum);
  return p;
}

// What the header promises of a probability.
double probability_error(double p, double lse, double z, double top) {
  return p * (kStatsError + 2 * kUnit * (top - z)) + kUnit * p * (1 + std::fabs(z - lse)) +
         smallest(Type::kF32);
}

ModelWork stablemax(int64_t rows, int64_t vocab) {
  const Made x{Type::kBF16, kX, kLogitScale};
  return work(
      "stablemax", sized("8b_softmax", {rows, vocab}), 2 * bytes_of(rows * vocab, x.type),
      {{"rows", text(rows)},
       {"cols", text(vocab)},
       {"dtype", kBf16},
       {"normalizer", text(EXN_SOFTMAX)},
       {"log", "0"}},
      [=](ModelRun* run) -> Judge {
        exn_stablemax_params p = {};
        p.struct_size = sizeof p;
        p.logits = run->made(x, {rows, vocab});
        p.out = run->output(x.type, {rows, vocab});
        p.normalizer = EXN_SOFTMAX;
        run->call(EXN_TEST_OP(stablemax), p);
        return [=](const ModelRun& done) {
          const std::vector<int64_t> seen = sample(rows);
          std::vector<Expected> expected;
          for (const int64_t row : seen) {
            const std::vector<double> z = x.row(row, vocab);
            const double top = *std::max_element(z.begin(), z.end());
            double lse = 0;
            const std::vector<double> q = softmax_of(z, &lse);
            for (size_t i = 0; i < z.size(); ++i) {
              expected.push_back(stored(x.type, q[i], probability_error(q[i], lse, z[i], top)));
            }
          }
          return compare_rows("out", seen, expected, done.at(p.out).read(seen, vocab));
        };
      });
}

ModelWork cross_entropy(int64_t rows, int64_t vocab) {
  const Made x{Type::kBF16, kX, kLogitScale};
  const auto label = [=](int64_t row) { return pick(kSeed, kW, row, vocab); };
  return work("cross_entropy", sized("8b", {rows, vocab}), 2 * bytes_of(rows * vocab, x.type),
              {{"rows", text(rows)},
               {"cols", text(vocab)},
               {"dtype", kBf16},
               {"normalizer", text(EXN_SOFTMAX)},
               {"grad", "1"}},
              [=](ModelRun* run) -> Judge {
                std::vector<int32_t> labels;
                for (int64_t r = 0; r < rows; ++r) labels.push_back(static_cast<int32_t>(label(r)));
                exn_cross_entropy_params p = {};
                p.struct_size = sizeof p;
                p.logits = run->made(x, {rows, vocab});
                p.labels = run->integers(labels, {rows});
                p.loss = run->output(Type::kF32, {rows});
                p.grad = run->output(x.type, {rows, vocab});
                p.ignore_index = -100;
                p.normalizer = EXN_SOFTMAX;
                p.reduction = EXN_REDUCE_NONE;
                run->call(EXN_TEST_OP(cross_entropy), p);
                return [=](const ModelRun& done) {
                  const std::vector<int64_t> seen = sample(rows);
                  std::vector<Expected> losses, gradients;
                  for (const int64_t row : seen) {
                    const std::vector<double> z = x.row(row, vocab);
                    const double top = *std::max_element(z.begin(), z.end());
                    double lse = 0;
                    const std::vector<double> q = softmax_of(z, &lse);
                    const double loss = lse - z[at(label(row))];
                    losses.push_back(stored(Type::kF32, loss,
                                            kStatsError + 4 * kUnit * (loss + std::fabs(lse))));
                    for (size_t i = 0; i < z.size(); ++i) {
                      const double g = q[i] - (static_cast<int64_t>(i) == label(row) ? 1 : 0);
                      gradients.push_back(
                          stored(x.type, g, probability_error(q[i], lse, z[i], top) + 2 * kUnit));
                    }
                  }
                  return first_of(
                      {compare_rows("loss", seen, losses, done.at(p.loss).read(seen, 1)),
                       compare_rows("grad", seen, gradients, done.at(p.grad).read(seen, vocab))});
                };
              });
}

// All indices of all rows.
Complaint judge_selection(const Made& x, int64_t rows, int64_t cols, int64_t k,
                          const HostTensor& got) {
  for (int64_t row = 0; row < rows; ++row) {
    const std::vector<double> z = x.row(row, cols);
    std::vector<int64_t> order(z.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&z](int64_t a, int64_t b) { return z[at(a)] > z[at(b)]; });
    order.resize(at(k));
    std::sort(order.begin(), order.end());
    for (int64_t i = 0; i < k; ++i) {
      const int64_t index = got.integer_at(row * k + i);
      if (index == order[at(i)]) continue;
      return "indices" + place(row, i) + ": got " + text(index) + ", expected " +
             text(order[at(i)]);
    }
  }
  return "";
}

// CUB's selection of the same.
class CubRun : public Runnable {
 public:
  CubRun(int way, const Made& x, int64_t rows, int64_t cols, int64_t k)
      : scores_(x.type, {rows, cols}),
        indices_(Type::kI32, {rows, k}),
        peer_(cub_peers().make(way, rows, cols, k)) {
    if (peer_ == nullptr) fail("CUB does not take it");
    scores_.make(x);
  }
  ~CubRun() override { cub_peers().free(peer_); }

  void run(exn_stream stream) override {
    require_probe(cub_peers().run(peer_, static_cast<const float*>(scores_.dl()->data),
                                  static_cast<int*>(indices_.dl()->data), stream),
                  "CUB");
  }
  size_t bytes() const override { return scores_.bytes() + indices_.bytes(); }
  HostTensor indices() const {
    return indices_.read({0}, indices_.dl()->shape[0] * indices_.dl()->shape[1]);
  }

 private:
  DeviceTensor scores_, indices_;
  void* peer_;
};

std::vector<PeerWork> cub_selections(const ModelWork& of, const Made& x, int64_t rows, int64_t cols,
                                     int64_t k) {
  std::vector<PeerWork> peers;
  if (cub_peers().name == nullptr) return peers;
  for (int way = 0; cub_peers().name(way) != nullptr; ++way) {
    PeerWork peer;
    static_cast<Work&>(peer) = of;
    peer.peer = cub_peers().name(way);
    peer.make = [=] { return std::make_unique<CubRun>(way, x, rows, cols, k); };
    peer.check = [=] {
      CubRun run(way, x, rows, cols, k);
      run.run(nullptr);
      require(exn_stream_synchronize(kDLCUDA, 0, nullptr), "exn_stream_synchronize");
      return judge_selection(x, rows, cols, k, run.indices());
    };
    peers.push_back(std::move(peer));
  }
  return peers;
}

ModelWork select(int64_t rows, int64_t cols, int64_t k) {
  const Made x{Type::kF32, kX, 1};
  ModelWork selection = work(
      "select", sized("8b", {rows, cols, k}),
      bytes_of(rows * cols, x.type) + 4.0 * static_cast<double>(rows * k),
      {{"rows", text(rows)}, {"heads", "0"}, {"cols", text(cols)}, {"dtype", kF32}, {"k", text(k)}},
      [=](ModelRun* run) -> Judge {
        exn_select_params p = {};
        p.struct_size = sizeof p;
        p.scores = run->made(x, {rows, cols});
        p.selection.indices = run->output(Type::kI32, {rows, k});
        p.selection.k = k;
        run->call(EXN_TEST_OP(select), p);
        return [=](const ModelRun& done) {
          return judge_selection(x, rows, cols, k, done.whole(p.selection.indices));
        };
      });
  selection.peers = cub_selections(selection, x, rows, cols, k);
  return selection;
}

// ---- products -----------------------------------------------------------------------------------

// Weights such that outputs are as large as inputs.
float weight_scale(int64_t dim) { return 1 / std::sqrt(static_cast<float>(dim)); }

ModelWork linear(int64_t rows, int64_t dim, int64_t cols) {
  const Made x{Type::kBF16, kX, 1}, w{Type::kBF16, kW, weight_scale(dim)};
  return work("linear", sized("8b", {rows, dim, cols}),
              passes_over_weights(rows) * bytes_of(cols * dim, w.type) +
                  bytes_of(rows * (dim + cols), x.type),
              {{"rows", text(rows)},
               {"dim", text(dim)},
               {"cols", text(cols)},
               {"dtype", kBf16},
               {"weight_dtype", kBf16},
               {"out_dtype", kBf16},
               {"residual", "0"}},
              [=](ModelRun* run) -> Judge {
                exn_linear_params p = {};
                p.struct_size = sizeof p;
                p.input = run->made(x, {rows, dim});
                p.weight = run->made(w, {cols, dim});
                p.out = run->output(x.type, {rows, cols});
                run->call(EXN_TEST_OP(linear), p);
                return [=](const ModelRun& done) {
                  const std::vector<int64_t> seen = sample(rows);
                  std::vector<Expected> expected;
                  for (const auto& row : products(rows_of(x, seen, dim), w, cols)) {
                    for (const Sum& sum : row)
                      expected.push_back(stored(x.type, sum.value, sum.error));
                  }
                  return compare_rows("out", seen, expected, done.at(p.out).read(seen, cols));
                };
              });
}

ModelWork exit_head(int64_t rows, int64_t dim, int64_t vocab, int64_t shortlist) {
  const Made x{Type::kBF16, kX, 1}, w{Type::kBF16, kW, kLogitScale * weight_scale(dim)},
      gain{Type::kF32, kGain, 0.5f};
  const int64_t count = shortlist > 0 ? shortlist : vocab;
  const int64_t step = vocab / count;
  const auto id = [=](int64_t i) { return i * step; };
  const std::string name =
      shortlist > 0 ? sized("8b_listed", {rows, dim, shortlist}) : sized("8b", {rows, dim, vocab});
  return work(
      "exit_head", name,
      passes_over_weights(rows) * bytes_of(count * dim, w.type) + bytes_of(rows * dim, x.type),
      {{"rows", text(rows)},
       {"dim", text(dim)},
       {"vocab", text(vocab)},
       {"dtype", kBf16},
       {"weight_dtype", kBf16},
       {"norm", text(EXN_NORM_RMS)},
       {"shortlist", text(shortlist)},
       {"normalizer", text(EXN_SOFTMAX)},
       {"screen", quoted("-")},
       {"outputs", stat_names(kAllStats)}},
      [=](ModelRun* run) -> Judge {
        exn_exit_head_params p = {};
        p.struct_size = sizeof p;
        p.hidden = run->made(x, {rows, dim});
        p.weight = run->made(w, {vocab, dim});
        p.norm_weight = run->made(gain, {dim});
        if (shortlist > 0) {
          std::vector<int32_t> list;
          for (int64_t i = 0; i < count; ++i) list.push_back(static_cast<int32_t>(id(i)));
          p.shortlist = run->integers(list, {count});
        }
        p.norm = EXN_NORM_RMS;
        p.norm_eps = kNormEps;
        p.normalizer = EXN_SOFTMAX;
        p.temperature = 1;
        p.out = all_stats(run, rows);
        run->call(EXN_TEST_OP(exit_head), p);
        return [=](const ModelRun& done) {
          const std::vector<int64_t> seen = sample(rows);
          std::vector<Vector> states = rows_of(x, seen, dim);
          for (Vector& state : states) {
            normalise(&state, gain);
            round_to(x.type, &state);
          }
          std::vector<Logits> logits;
          for (const auto& row : products(states, w, count, id)) {
            logits.emplace_back();
            for (int64_t i = 0; i < count; ++i) {
              const Sum& sum = row[at(i)];
              logits.back().z.push_back(sum.value);
              logits.back().error.push_back(sum.error + kUnit * std::fabs(sum.value));
              if (shortlist > 0) logits.back().ids.push_back(id(i));
            }
          }
          return judge_rows(done, p.out, seen, logits);
        };
      });
}

ModelWork ffn(int64_t rows, int64_t dim, int64_t width) {
  const Made x{Type::kBF16, kX, 1}, gate{Type::kBF16, kW, weight_scale(dim)},
      up{Type::kBF16, kW2, weight_scale(dim)}, down{Type::kBF16, kW3, weight_scale(width)},
      gain{Type::kF32, kGain, 0.5f};
  return work("ffn", sized("8b", {rows, dim, width}),
              passes_over_weights(rows) * bytes_of(3 * dim * width, up.type) +
                  2 * bytes_of(rows * dim, x.type),
              {{"rows", text(rows)},
               {"dim", text(dim)},
               {"width", text(width)},
               {"dtype", kBf16},
               {"weight_dtype", kBf16},
               {"gate", "1"},
               {"norm", text(EXN_NORM_RMS)},
               {"activation", text(EXN_ACT_SILU)},
               {"cosines", "0"},
               {"running", text(rows)}},
              [=](ModelRun* run) -> Judge {
                exn_ffn_params p = {};
                p.struct_size = sizeof p;
                p.hidden = run->made(x, {rows, dim});
                p.norm_weight = run->made(gain, {dim});
                p.gate_weight = run->made(gate, {width, dim});
                p.up_weight = run->made(up, {width, dim});
                p.down_weight = run->made(down, {dim, width});
                p.out = run->output(x.type, {rows, dim});
                p.norm = EXN_NORM_RMS;
                p.norm_eps = kNormEps;
                p.activation = EXN_ACT_SILU;
                run->call(EXN_TEST_OP(ffn), p);
                return [=](const ModelRun& done) {
                  const std::vector<int64_t> seen = sample(rows);
                  std::vector<Vector> states = rows_of(x, seen, dim), inner;
                  for (Vector& state : states) normalise(&state, gain);
                  const auto g = products(states, gate, width), u = products(states, up, width);
                  constexpr double kSteepest = 1.1;  // of SiLU
                  for (size_t r = 0; r < seen.size(); ++r) {
                    Vector a(std::vector<double>(at(width), 0.0));
                    for (size_t i = 0; i < a.x.size(); ++i) {
                      const double z = g[r][i].value, silu = z / (1 + std::exp(-z));
                      a.x[i] = silu * u[r][i].value;
                      a.error[i] = kSteepest * g[r][i].error * std::fabs(u[r][i].value) +
                                   std::fabs(silu) * u[r][i].error + 8 * kUnit * std::fabs(a.x[i]);
                    }
                    inner.push_back(std::move(a));
                  }
                  std::vector<Expected> expected;
                  const auto f = products(inner, down, dim);
                  for (size_t r = 0; r < seen.size(); ++r) {
                    for (int64_t i = 0; i < dim; ++i) {
                      const Sum& sum = f[r][at(i)];
                      const double y = x[seen[r] * dim + i] + sum.value;
                      expected.push_back(stored(x.type, y, sum.error + kUnit * std::fabs(y)));
                    }
                  }
                  return compare_rows("out", seen, expected, done.at(p.out).read(seen, dim));
                };
              });
}

// ---- norm, rope ---------------------------------------------------------------------------------

ModelWork norm(int64_t rows, int64_t dim) {
  const Made x{Type::kBF16, kX, 1}, gain{Type::kF32, kGain, 0.5f};
  return work(
      "norm", sized("8b", {rows, dim}), 2 * bytes_of(rows * dim, x.type) + bytes_of(dim, gain.type),
      {{"rows", text(rows)},
       {"dim", text(dim)},
       {"dtype", kBf16},
       {"out_dtype", kBf16},
       {"norm", text(EXN_NORM_RMS)}},
      [=](ModelRun* run) -> Judge {
        exn_norm_params p = {};
        p.struct_size = sizeof p;
        p.input = run->made(x, {rows, dim});
        p.weight = run->made(gain, {dim});
        p.out = run->output(x.type, {rows, dim});
        p.norm = EXN_NORM_RMS;
        p.eps = kNormEps;
        run->call(EXN_TEST_OP(norm), p);
        return [=](const ModelRun& done) {
          const std::vector<int64_t> seen = sample(rows);
          std::vector<Expected> expected;
          for (Vector& v : rows_of(x, seen, dim)) {
            normalise(&v, gain);
            for (size_t i = 0; i < v.x.size(); ++i) {
              expected.push_back(stored(x.type, v.x[i], v.error[i] + v.shared * std::fabs(v.x[i])));
            }
          }
          return compare_rows("out", seen, expected, done.at(p.out).read(seen, dim));
        };
      });
}

// Halves of a head turned by a row of the table; errors go along.
void rotate(std::vector<Sum>* head, size_t begin, const Made& table, int64_t position,
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

ModelWork rope(int64_t rows, int64_t heads, int64_t head_dim, Type type) {
  const Made x{type, kX, 1}, table{Type::kF32, kTable, 0.5f};
  const int64_t pairs = head_dim / 2, cols = heads * head_dim;
  return work("rope", sized(type == Type::kF32 ? "8b_f32" : "8b", {rows, heads, head_dim}),
              2 * bytes_of(rows * cols, x.type) + bytes_of(rows * head_dim, table.type),
              {{"rows", text(rows)},
               {"heads", text(heads)},
               {"head_dim", text(head_dim)},
               {"cols", text(cols)},
               {"dtype", type == Type::kF32 ? kF32 : kBf16},
               {"pairs", text(pairs)},
               {"positions", text(rows)},
               {"style", text(EXN_ROPE_HALF)}},
              [=](ModelRun* run) -> Judge {
                std::vector<int32_t> positions(at(rows));
                std::iota(positions.begin(), positions.end(), 0);
                exn_rope_params p = {};
                p.struct_size = sizeof p;
                p.input = run->made(x, {rows, heads, head_dim});
                p.position = run->integers(positions, {rows});
                p.table = run->made(table, {rows, pairs, 2});
                p.out = run->output(x.type, {rows, heads, head_dim});
                p.style = EXN_ROPE_HALF;
                run->call(EXN_TEST_OP(rope), p);
                return [=](const ModelRun& done) {
                  const std::vector<int64_t> seen = sample(rows);
                  std::vector<Expected> expected;
                  for (const int64_t row : seen) {
                    std::vector<Sum> values(at(cols));
                    for (int64_t i = 0; i < cols; ++i) values[at(i)].value = x[row * cols + i];
                    for (int64_t h = 0; h < heads; ++h)
                      rotate(&values, at(h * head_dim), table, row, pairs);
                    for (const Sum& v : values)
                      expected.push_back(stored(x.type, v.value, v.error));
                  }
                  return compare_rows("out", seen, expected, done.at(p.out).read(seen, cols));
                };
              });
}

// ---- caches -------------------------------------------------------------------------------------

// Every row left at the bottom and owes all listed layers, the topmost of the model.
ModelWork kv_propagate(int64_t rows, int64_t layers, int64_t dim, int64_t heads, int64_t head_dim) {
  constexpr int64_t kSlots = 16, kModelLayers = 32, kSlot = 5;
  const Made x{Type::kBF16, kX, 1}, table{Type::kF32, kTable, 0.5f};
  const auto of_layer = [](int64_t j, uint64_t stream, Type type, float scale) {
    return Made{type, static_cast<uint64_t>(j + 1) * kLayerStreams + stream, scale};
  };
  const auto gain = [=](int64_t j) { return of_layer(j, kGain, Type::kF32, 0.5f); };
  const auto keys = [=](int64_t j) { return of_layer(j, kKeys, Type::kBF16, weight_scale(dim)); };
  const auto values = [=](int64_t j) {
    return of_layer(j, kValues, Type::kBF16, weight_scale(dim));
  };
  const int64_t cols = heads * head_dim, pairs = head_dim / 2;
  return work(
      "kv_propagate", sized("8b", {rows, layers, cols}),
      passes_over_weights(rows) * bytes_of(2 * layers * cols * dim, Type::kBF16) +
          bytes_of(2 * layers * rows * cols, Type::kBF16),
      {{"rows", text(rows)},
       {"dim", text(dim)},
       {"heads", text(heads)},
       {"head_dim", text(head_dim)},
       {"layers", text(layers)},
       {"dtype", kBf16},
       {"weight_dtype", kBf16},
       {"cache_dtype", kBf16},
       {"norm", text(EXN_NORM_RMS)},
       {"pairs", text(pairs)},
       {"style", text(EXN_ROPE_HALF)},
       {"mixed", "0"}},
      [=](ModelRun* run) -> Judge {
        std::vector<int32_t> row_numbers(at(rows));
        std::iota(row_numbers.begin(), row_numbers.end(), 0);
        exn_kv_propagate_params p = {};
        p.struct_size = sizeof p;
        p.hidden = run->made(x, {rows, dim});
        p.exit_layer = run->integers(std::vector<int32_t>(at(rows), 0), {rows});
        p.sequence = run->integers(row_numbers, {rows});
        p.slot = run->integers(std::vector<int32_t>(at(rows), kSlot), {rows});
        p.position = run->integers(row_numbers, {rows});
        p.rope_table = run->made(table, {rows, pairs, 2});
        std::vector<exn_kv_layer> list(at(layers));
        for (int64_t j = 0; j < layers; ++j) {
          exn_kv_layer& layer = list[at(j)];
          layer.norm_weight = run->made(gain(j), {dim});
          layer.k_weight = run->made(keys(j), {cols, dim});
          layer.v_weight = run->made(values(j), {cols, dim});
          layer.cache.k = run->output(Type::kBF16, {rows, heads, kSlots, head_dim});
          layer.cache.v = run->output(Type::kBF16, {rows, heads, kSlots, head_dim});
          layer.cache.layout = EXN_KV_HEAD_MAJOR;
          layer.index = static_cast<int32_t>(kModelLayers - layers + j);
        }
        p.layers = run->keep(list);
        p.layer_count = static_cast<int32_t>(layers);
        p.model_layers = kModelLayers;
        p.rope_style = EXN_ROPE_HALF;
        p.norm = EXN_NORM_RMS;
        p.norm_eps = kNormEps;
        run->call(EXN_TEST_OP(kv_propagate), p);
        return [=](const ModelRun& done) {
          const std::vector<int64_t> seen = sample(rows);
          for (const int64_t j : sample(layers)) {
            std::vector<Vector> states = rows_of(x, seen, dim);
            for (Vector& state : states) {
              normalise(&state, gain(j));
              round_to(x.type, &state);
            }
            auto k = products(states, keys(j), cols);
            const auto v = products(states, values(j), cols);
            for (size_t r = 0; r < seen.size(); ++r) {
              for (int64_t h = 0; h < heads; ++h)
                rotate(&k[r], at(h * head_dim), table, seen[r], pairs);
              // Head by head: one slot of each.
              std::vector<int64_t> slots;
              for (int64_t h = 0; h < heads; ++h)
                slots.push_back((seen[r] * heads + h) * kSlots + kSlot);
              const auto judged = [&](const char* name, const std::vector<Sum>& sums,
                                      const DLTensor* cache) {
                std::vector<Expected> expected;
                for (const Sum& sum : sums)
                  expected.push_back(stored(Type::kBF16, sum.value, sum.error));
                return compare_rows(name, slots, expected, done.at(cache).read(slots, head_dim));
              };
              const Complaint complaint = first_of(
                  {judged("k", k[r], list[at(j)].cache.k), judged("v", v[r], list[at(j)].cache.v)});
              if (!complaint.empty()) return "layer " + text(j) + " " + complaint;
            }
          }
          return Complaint();
        };
      });
}

// Scores of one query head over the slots that it sees, with their errors.
std::vector<Sum> scores_of(const std::vector<double>& q, const std::vector<double>& keys,
                           double scale) {
  std::vector<Sum> scores(keys.size() / q.size());
  for (size_t t = 0; t < scores.size(); ++t) {
    double value = 0, magnitude = 0;
    for (size_t i = 0; i < q.size(); ++i) {
      const double term = q[i] * keys[t * q.size() + i];
      value += term;
      magnitude += std::fabs(term);
    }
    scores[t] = {value * scale, scale * kUnit *
                                    (sum_error(static_cast<int64_t>(q.size())) * magnitude +
                                     2 * std::fabs(value))};
  }
  return scores;
}

// Weights of a softmax, and how wrong f32 may have each of them, relatively.
std::vector<double> weights_of(const std::vector<Sum>& scores, double* error) {
  std::vector<double> z;
  double worst = 0;
  for (const Sum& s : scores) {
    z.push_back(s.value);
    worst = std::max(worst, s.error);
  }
  const double spread =
      *std::max_element(z.begin(), z.end()) - *std::min_element(z.begin(), z.end());
  *error = 2 * worst + kUnit * (2 * spread + 2 * sum_error(static_cast<int64_t>(z.size())));
  double lse = 0;
  return softmax_of(z, &lse);
}

ModelWork attention(int64_t rows, int64_t heads, int64_t kv_heads, int64_t head_dim,
                    int64_t slots) {
  const Made q{Type::kBF16, kX, 1}, k{Type::kBF16, kKeys, 1}, v{Type::kBF16, kValues, 1};
  const int64_t cols = heads * head_dim, group = heads / kv_heads;
  const float scale = 1 / std::sqrt(static_cast<float>(head_dim));
  return work(
      "attention", sized("8b", {rows, group, slots}),
      bytes_of(2 * rows * slots * kv_heads * head_dim, k.type) + 2 * bytes_of(rows * cols, q.type),
      {{"rows", text(rows)},
       {"heads", text(heads)},
       {"kv_heads", text(kv_heads)},
       {"head_dim", text(head_dim)},
       {"slots", text(slots)},
       {"dtype", kBf16},
       {"layout", quoted("head")},
       {"visible", quoted("all")},
       {"page", "0"},
       {"sequences", text(rows)},
       {"scores", "0"}},
      [=](ModelRun* run) -> Judge {
        std::vector<int32_t> row_numbers(at(rows));
        std::iota(row_numbers.begin(), row_numbers.end(), 0);
        exn_attention_params p = {};
        p.struct_size = sizeof p;
        p.query = run->made(q, {rows, heads, head_dim});
        p.cache.k = run->made(k, {rows, kv_heads, slots, head_dim});
        p.cache.v = run->made(v, {rows, kv_heads, slots, head_dim});
        p.cache.layout = EXN_KV_HEAD_MAJOR;
        p.sequence = run->integers(row_numbers, {rows});
        p.visible =
            run->integers(std::vector<int32_t>(at(rows), static_cast<int32_t>(slots)), {rows});
        p.out = run->output(q.type, {rows, heads, head_dim});
        p.scale = scale;
        run->call(EXN_TEST_OP(attention), p);
        return [=](const ModelRun& done) {
          std::vector<int64_t> seen;  // query heads of all rows, one after the other
          for (const int64_t row : sample(rows)) {
            for (const int64_t h : sample(heads)) seen.push_back(row * heads + h);
          }
          std::vector<Expected> expected(seen.size() * at(head_dim));
          std::vector<std::thread> threads;
          for (size_t i = 0; i < seen.size(); ++i) {
            threads.emplace_back([&, i] {
              const int64_t row = seen[i] / heads, h = seen[i] % heads;
              const int64_t head = row * kv_heads + h / group;
              double error = 0;
              const std::vector<double> weights =
                  weights_of(scores_of(q.row(seen[i], head_dim), k.row(head, slots * head_dim),
                                       static_cast<double>(scale)),
                             &error);
              const std::vector<double> of_head = v.row(head, slots * head_dim);
              for (int64_t e = 0; e < head_dim; ++e) {
                double sum = 0, magnitude = 0;
                for (int64_t t = 0; t < slots; ++t) {
                  const double term = weights[at(t)] * of_head[at(t * head_dim + e)];
                  sum += term;
                  magnitude += std::fabs(term);
                }
                expected[i * at(head_dim) + at(e)] =
                    stored(q.type, sum, magnitude * (error + kUnit * sum_error(slots)));
              }
            });
          }
          for (std::thread& thread : threads) thread.join();
          return compare_rows("out", seen, expected, done.at(p.out).read(seen, head_dim));
        };
      });
}

// SnapKV: what the last rows of a prompt pay to each slot, head by head of the cache.
ModelWork attention_scores(int64_t window, int64_t heads, int64_t kv_heads, int64_t head_dim,
                           int64_t slots) {
  const Made q{Type::kBF16, kX, 1}, k{Type::kBF16, kKeys, 1};
  const int64_t group = heads / kv_heads;
  const float scale = 1 / std::sqrt(static_cast<float>(head_dim));
  return work(
      "attention_scores", sized("8b", {window, heads, slots}),
      bytes_of(slots * kv_heads * head_dim, k.type) + bytes_of(window * heads * head_dim, q.type) +
          bytes_of(kv_heads * slots, Type::kF32),
      {{"prompts", "1"},
       {"window", text(window)},
       {"heads", text(heads)},
       {"kv_heads", text(kv_heads)},
       {"head_dim", text(head_dim)},
       {"slots", text(slots)},
       {"columns", text(slots)},
       {"first", "0"},
       {"dtype", kBf16},
       {"layout", quoted("head")},
       {"softmax", "1"},
       {"reduction", quoted("group")},
       {"pool", quoted("-")},
       {"pool_width", "0"},
       {"scores", "1"},
       {"k", "0"}},
      [=](ModelRun* run) -> Judge {
        exn_attention_scores_params p = {};
        p.struct_size = sizeof p;
        p.query = run->made(q, {window, heads, head_dim});
        p.keys.k = run->made(k, {1, kv_heads, slots, head_dim});
        p.keys.layout = EXN_KV_HEAD_MAJOR;
        p.visible =
            run->integers(std::vector<int32_t>(at(window), static_cast<int32_t>(slots)), {window});
        p.scores = run->output(Type::kF32, {1, kv_heads, slots});
        p.columns = slots;
        p.window = window;
        p.scale = scale;
        p.kind = EXN_SCORE_SOFTMAX;
        p.reduction = EXN_HEADS_GROUP_SUM;
        run->call(EXN_TEST_OP(attention_scores), p);
        return [=](const ModelRun& done) {
          const int64_t last = kv_heads - 1, count = window * group;
          const std::vector<double> keys = k.row(last, slots * head_dim);
          std::vector<std::vector<double>> weights(at(count));
          std::vector<double> errors(at(count));
          for_each(count, [&](int64_t i) {
            const int64_t query = i / group * heads + last * group + i % group;
            weights[at(i)] =
                weights_of(scores_of(q.row(query, head_dim), keys, static_cast<double>(scale)),
                           &errors[at(i)]);
          });
          std::vector<Expected> expected;
          for (int64_t t = 0; t < slots; ++t) {
            double sum = 0, error = 0;
            for (int64_t i = 0; i < count; ++i) {
              sum += weights[at(i)][at(t)];
              error += weights[at(i)][at(t)] * errors[at(i)];
            }
            expected.push_back(stored(Type::kF32, sum, error + kUnit * sum_error(count) * sum));
          }
          return compare_rows("scores", {last}, expected, done.at(p.scores).read({last}, slots));
        };
      });
}

}  // namespace

std::vector<ModelWork> model_work(const ModelShape& m) {
  std::vector<ModelWork> all;
  const int64_t keys = m.kv_heads * m.head_dim, most = m.batches.back();
  for (const int64_t group : m.groups) {
    for (const int64_t slots : m.slots) {
      for (const int64_t rows : m.batches)
        all.push_back(attention(rows, group * m.kv_heads, m.kv_heads, m.head_dim, slots));
    }
  }
  for (const int64_t window : m.windows) {
    for (const int64_t slots : m.scored_slots) {
      all.push_back(
          attention_scores(window, m.groups[0] * m.kv_heads, m.kv_heads, m.head_dim, slots));
    }
  }
  all.push_back(cross_entropy(most, m.vocab));
  for (const int64_t shortlist : {int64_t{0}, m.shortlist}) {
    for (const int64_t rows : m.batches) all.push_back(exit_head(rows, m.dim, m.vocab, shortlist));
  }
  for (const int64_t rows : m.batches) all.push_back(ffn(rows, m.dim, m.width));
  for (const int64_t layers : m.layers) {
    for (const int64_t rows : m.batches)
      all.push_back(kv_propagate(rows, layers, m.dim, m.kv_heads, m.head_dim));
  }
  for (const int64_t cols : {m.dim, keys, m.width}) {
    for (const int64_t rows : m.batches) all.push_back(linear(rows, m.dim, cols));
  }
  for (const int64_t rows : {most, m.slots[0]}) all.push_back(norm(rows, m.dim));
  for (const int64_t rows : {most, m.slots[0]}) {
    all.push_back(rope(rows, (m.groups[0] + 1) * m.kv_heads, m.head_dim, Type::kBF16));
  }
  for (const int64_t width : m.other_widths) {
    for (const Type type : {Type::kBF16, Type::kF32})
      all.push_back(rope(most, (m.groups[0] + 1) * m.kv_heads, width, type));
  }
  for (const int64_t rows : m.batches) all.push_back(row_stats(rows, m.vocab));
  for (const int64_t slots : m.slots) {
    all.push_back(select(1, slots, m.shortlist / 2));
    all.push_back(select(m.kv_heads, slots, m.shortlist / 2));
  }
  for (const int64_t rows : m.batches) all.push_back(stablemax(rows, m.vocab));
  return all;
}

}  // namespace exn::gpu
