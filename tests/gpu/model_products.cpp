// SPDX-License-Identifier: Apache-2.0
// Ops on hidden states at the shapes of a large model: products with weights, norm, rope.
#include "model_case.h"

namespace exn::gpu::model {

// ---- products -----------------------------------------------------------------------------------

// Of bf16 inputs, by weights of so many bytes.
static ModelWork linear_work(const std::string& name, int64_t rows, int64_t dim, int64_t cols,
                             const std::string& weight_dtype, double weight_bytes,
                             const Build& build) {
  return work("linear", sized(name.c_str(), {rows, dim, cols}),
              passes_over_weights(rows) * weight_bytes + bytes_of(rows * (dim + cols), Type::kBF16),
              {{"rows", text(rows)},
               {"dim", text(dim)},
               {"cols", text(cols)},
               {"dtype", kBf16},
               {"weight_dtype", weight_dtype},
               {"out_dtype", kBf16},
               {"residual", "0"}},
              build);
}

ModelWork linear(int64_t rows, int64_t dim, int64_t cols) {
  const Made x{Type::kBF16, kX, 1}, w{Type::kBF16, kW, weight_scale(dim)};
  return linear_work(
      "8b", rows, dim, cols, kBf16, bytes_of(cols * dim, w.type), [=](ModelRun* run) -> Judge {
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
            for (const Sum& sum : row) expected.push_back(stored(x.type, sum.value, sum.error));
          }
          return compare_rows("out", seen, expected, done.at(p.out).read(seen, cols));
        };
      });
}

ModelWork linear_blocks(const char* format, int64_t rows, int64_t dim, int64_t cols) {
  const Made x{Type::kBF16, kX, 1};
  const MadeBlocks w{{Type::kF16, kW, weight_scale(dim)}, block_format(format)};
  return linear_work("8b_" + std::string(format), rows, dim, cols, quoted(format),
                     static_cast<double>(cols * w.row_bytes(dim)), [=](ModelRun* run) -> Judge {
                       exn_linear_params p = {};
                       p.struct_size = sizeof p;
                       p.input = run->made(x, {rows, dim});
                       p.weight = run->made(w, cols, dim);
                       p.weight_blocks = w.format->tag;
                       p.out = run->output(x.type, {rows, cols});
                       run->call(EXN_TEST_OP(linear), p);
                       return [=](const ModelRun& done) {
                         const std::vector<int64_t> seen = sample(rows);
                         std::vector<Expected> expected(seen.size() * at(cols));
                         for_each(cols, [&](int64_t n) {
                           const std::vector<double> row = w.row(n, dim);
                           for (size_t r = 0; r < seen.size(); ++r) {
                             const Vector v(x.row(seen[r], dim));
                             double sum = 0, magnitude = 0, error = 0;
                             for (size_t i = 0; i < row.size(); ++i) {
                               sum += row[i] * v.x[i];
                               magnitude += std::fabs(row[i] * v.x[i]);
                             }
                             RoundedInput(v.x, v.error).meet(row, &sum, &error);
                             expected[r * at(cols) + at(n)] =
                                 stored(x.type, sum, error + kUnit * sum_error(dim) * magnitude);
                           }
                         });
                         return compare_rows("out", seen, expected,
                                             done.at(p.out).read(seen, cols));
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
       {"outputs", stat_names(kUnlabelled)}},
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

}  // namespace exn::gpu::model
