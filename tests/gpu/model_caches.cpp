// SPDX-License-Identifier: Apache-2.0
// Ops on KV caches at the shapes of a large model.
#include "model_case.h"

namespace exn::gpu::model {

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
static std::vector<Sum> scores_of(const std::vector<double>& q, const std::vector<double>& keys,
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
static std::vector<double> weights_of(const std::vector<Sum>& scores, double* error) {
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

}  // namespace exn::gpu::model
