// SPDX-License-Identifier: Apache-2.0
// Ops on rows of logits and of scores at the shapes of a large model.
#include "model_case.h"

namespace exn::gpu::model {

ModelWork row_stats(int64_t rows, int64_t vocab) {
  const Made x{Type::kBF16, kX, kLogitScale};
  return work("row_stats", sized("8b", {rows, vocab}), bytes_of(rows * vocab, x.type),
              {{"rows", text(rows)},
               {"cols", text(vocab)},
               {"dtype", kBf16},
               {"normalizer", text(EXN_SOFTMAX)},
               {"outputs", stat_names(kUnlabelled)}},
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

// What the header promises of a probability.
static double probability_error(double p, double lse, double z, double top) {
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
static Complaint judge_selection(const Made& x, int64_t rows, int64_t cols, int64_t k,
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

static std::vector<PeerWork> cub_selections(const ModelWork& of, const Made& x, int64_t rows,
                                            int64_t cols, int64_t k) {
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

}  // namespace exn::gpu::model
