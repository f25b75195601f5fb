// SPDX-License-Identifier: Apache-2.0
// The library against recorded vectors: outputs of the official StableMax and OrthoGrad code, and
// statistics of a real model's logits and hidden states (tests/golden/README.md). How many cases,
// tokens and layers there are, the files say.
#include <algorithm>
#include <cmath>

#include "golden.h"
#include "harness.h"
#include "json.h"
#include "perp_grad/case.h"
#include "reals.h"
#include "safetensors.h"
#include "stats.h"

namespace exn::test {
namespace {

#define EXN_READ(variable, file)                                     \
  const Safetensors variable = Safetensors::read(golden_path(file)); \
  ASSERT_FALSE(variable.empty()) << golden_path(file) << " is missing or empty"

// Largest error allowed, relative to the largest value of the tensor (but not to less than 0.01:
// certainty has loss 0).
double tolerance(Type type) {
  switch (type) {
    case Type::kF64:
      return 1e-12;
    case Type::kF16:
      return 2e-3;
    case Type::kBF16:
      return 1e-2;
    default:
      return 1e-5;
  }
}

std::vector<double> values_of(const HostTensor& t) {
  std::vector<double> values;
  for (int64_t r = 0; r < t.rows; ++r) {
    for (int64_t c = 0; c < t.cols; ++c) values.push_back(t.at(r, c));
  }
  return values;
}

// Where the official code overflows or divides 0 by 0, ours must still be finite.
void expect_close(const HostTensor& golden, const HostTensor& got, double relative) {
  const std::vector<double> expected = values_of(golden), actual = values_of(got);
  ASSERT_EQ(expected.size(), actual.size());
  if (!all_finite(expected)) {
    EXPECT_TRUE(all_finite(actual));
    return;
  }
  double largest = 0.01;
  for (double v : expected) largest = std::max(largest, std::fabs(v));
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(actual[i], expected[i], relative * largest) << "element " << i;
  }
}

// ---- official StableMax -------------------------------------------------------------------------

void check_log(const Target& target, const HostTensor& logits, const HostTensor& golden) {
  Placed in(target, logits), out(target, poisoned(logits.type, logits.shape));
  const exn_stablemax_params p = {sizeof p, in.dl(), out.dl(), EXN_STABLEMAX, 1};
  ASSERT_EQ(run_once(target, EXN_TEST_OP(stablemax), p), EXN_OK) << exn_last_error();
  expect_close(golden, out.read(), tolerance(logits.type));
}

struct GoldenLoss {
  HostTensor rows, mean, grad;
};

void check_loss(const Target& target, const HostTensor& logits, const HostTensor& labels,
                int32_t normalizer, const GoldenLoss& golden) {
  const Type loss_type = logits.type == Type::kF64 ? Type::kF64 : Type::kF32;
  Placed in(target, logits), label(target, labels),
      grad(target, poisoned(logits.type, logits.shape));
  Placed rows(target, poisoned(loss_type, {logits.rows})), mean(target, poisoned(loss_type, {1}));
  // The reference of the F32 softmax loss is itself computed in F32.
  const double loss_tolerance = std::max(tolerance(loss_type), tolerance(golden.rows.type));
  exn_cross_entropy_params p = {sizeof p, in.dl(), label.dl(), rows.dl(),
                                nullptr,  -100,    normalizer, EXN_REDUCE_NONE};
  ASSERT_EQ(run_once(target, EXN_TEST_OP(cross_entropy), p), EXN_OK) << exn_last_error();
  expect_close(golden.rows, rows.read(), loss_tolerance);
  p.loss = mean.dl();
  p.grad = grad.dl();
  p.reduction = EXN_REDUCE_MEAN;
  ASSERT_EQ(run_once(target, EXN_TEST_OP(cross_entropy), p), EXN_OK) << exn_last_error();
  expect_close(golden.mean, mean.read(), loss_tolerance);
  expect_close(golden.grad, grad.read(), tolerance(logits.type));
}

TEST(Golden, OfficialStableMax) {
  EXN_READ(file, "official/stablemax.safetensors");
  const Json index = Json::read(golden_path("official/stablemax.json"));
  size_t checked = 0, softmax = 0;
  for (const std::string& group : file.groups()) {
    const auto tensor = [&](const std::string& name) { return file.tensor(group + "/" + name); };
    const auto best = [&](const std::string& name) {
      return file.has(group + "/" + name + "_f64") ? tensor(name + "_f64") : tensor(name);
    };
    const HostTensor logits = tensor("logits"), labels = tensor("labels");
    const GoldenLoss stable = {tensor("stablemax_ce_rows_f64"), tensor("stablemax_ce_mean_f64"),
                               best("stablemax_ce_grad")};
    const bool has_softmax = file.has(group + "/ce_f32_rows");
    GoldenLoss soft;
    if (has_softmax) soft = {tensor("ce_f32_rows"), tensor("ce_f64_mean"), tensor("ce_f64_grad")};
    for (const Target& target : targets()) {
      SCOPED_TRACE(group + " on " + target.name());
      check_log(target, logits, tensor("log_stablemax_f64"));
      check_loss(target, logits, labels, EXN_STABLEMAX, stable);
      if (has_softmax) check_loss(target, logits, labels, EXN_SOFTMAX, soft);
    }
    ++checked;
    softmax += has_softmax ? 1 : 0;
  }
  EXPECT_EQ(checked, index.at("cases").members().size());
  EXPECT_GT(softmax, 0);
}

// ---- official OrthoGrad -------------------------------------------------------------------------

double length(const HostTensor& t) {
  double square = 0;
  for (double v : values_of(t)) square += v * v;
  return std::sqrt(square);
}

void check_perp_grad(const Target& target, const HostTensor& weight, const HostTensor& grad,
                     const HostTensor& golden) {
  Placed w(target, weight), g(target, grad), out(target, poisoned(grad.type, grad.shape));
  const exn_perp_grad_params p = {sizeof p, w.dl(), g.dl(), out.dl(), EXN_PERP_CODE, 0};
  ASSERT_EQ(run_once(target, EXN_TEST_OP(perp_grad), p), EXN_OK) << exn_last_error();
  const HostTensor got = out.read();
  EXPECT_TRUE(all_finite(values_of(got)));
  // A gradient that is a multiple of the weights leaves rounding noise, which
  // the official code scales up.
  HostTensor flat_weight = weight, flat_grad = grad;
  for (HostTensor* t : {&flat_weight, &flat_grad}) {
    t->cols = t->size();
    t->stride = t->cols;
    t->rows = 1;
  }
  const PerpGradExpected oracle = perp_grad_oracle(flat_weight, flat_grad, EXN_PERP_CODE);
  const bool vanishes = std::all_of(oracle.out.begin(), oracle.out.end(),
                                    [](const Expected& e) { return e.value == 0; });
  if (oracle.noise || vanishes) {
    EXPECT_LE(length(got), 1.01 * length(grad));
  } else {
    expect_close(golden, got, tolerance(grad.type));
  }
}

TEST(Golden, OfficialOrthoGrad) {
  EXN_READ(file, "official/orthograd.safetensors");
  const Json index = Json::read(golden_path("official/orthograd.json"));
  int checked = 0;
  for (const auto& [group, run] : index.at("cases").members()) {
    const int before = checked;
    for (const std::string& suffix :
         {std::string(), std::string("0"), std::string("1"), std::string("2")}) {
      const auto name = [&](const std::string& base) { return group + "/" + base + suffix; };
      if (!file.has(name("grad"))) continue;
      const std::string wide = name("expected_grad") + "_f64";
      const HostTensor golden = file.tensor(file.has(wide) ? wide : name("expected_grad"));
      for (const Target& target : targets()) {
        SCOPED_TRACE(name("grad") + " on " + target.name());
        check_perp_grad(target, file.tensor(name("weight")), file.tensor(name("grad")), golden);
      }
      ++checked;
    }
    const bool is_step = run.has("kind") && run.at("kind").text() == "step";
    EXPECT_EQ(checked > before, !is_step) << group << " has no gradients";
  }
  EXPECT_GT(checked, 0);
}

// SGD and AdamW as PyTorch defines them, in double: what a training loop does with the gradient.
class Optimiser {
 public:
  Optimiser(const Json& run, int64_t size) : run_(run), first_(size, 0.0), second_(size, 0.0) {}

  // Moves element i of the weights for the n-th time, n from 1 on.
  double moved(size_t i, int64_t n, double weight, double grad) {
    const double rate = argument("lr");
    if (run_.at("base").text() == "SGD") {
      const double momentum = argument("momentum");
      first_[i] = n == 1 ? grad : momentum * first_[i] + grad;
      return weight - rate * first_[i];
    }
    const std::vector<Json>& betas = run_.at("args").at("betas").list();
    const double beta1 = betas[0].number(), beta2 = betas[1].number();
    const double count = static_cast<double>(n);
    first_[i] = beta1 * first_[i] + (1 - beta1) * grad;
    second_[i] = beta2 * second_[i] + (1 - beta2) * grad * grad;
    const double spread = std::sqrt(second_[i] / (1 - std::pow(beta2, count))) + argument("eps");
    return weight * (1 - rate * argument("weight_decay")) -
           rate * (first_[i] / (1 - std::pow(beta1, count))) / spread;
  }

 private:
  double argument(const char* name) const {
    const Json& given = run_.at("args");
    return given.has(name) ? given.at(name).number() : 0;
  }

  const Json& run_;
  std::vector<double> first_, second_;
};

TEST(Golden, OfficialOrthoGradSteps) {
  EXN_READ(file, "official/orthograd.safetensors");
  const Json index = Json::read(golden_path("official/orthograd.json"));
  int checked = 0;
  for (const auto& [name, run] : index.at("cases").members()) {
    if (!run.has("kind") || run.at("kind").text() != "step") continue;
    const HostTensor grads = file.tensor(name + "/grads");
    const HostTensor golden = file.tensor(name + "/expected_weights");
    for (const Target& target : targets()) {
      SCOPED_TRACE(name + " on " + target.name());
      HostTensor weight = file.tensor(name + "/weight");
      Optimiser optimiser(run, weight.size());
      for (int64_t step = 0; step < run.integer("steps"); ++step) {
        SCOPED_TRACE("step " + std::to_string(step));
        HostTensor grad = make_tensor(grads.type, weight.shape), expected = grad;
        for (int64_t i = 0; i < weight.size(); ++i) {
          const int64_t at = step * weight.size() + i;
          grad.set(0, i, grads.at(0, at));
          expected.set(0, i, golden.at(0, at));
        }
        Placed w(target, weight), g(target, grad), out(target, poisoned(grad.type, grad.shape));
        const exn_perp_grad_params p = {sizeof p, w.dl(), g.dl(), out.dl(), EXN_PERP_CODE, 0};
        ASSERT_EQ(run_once(target, EXN_TEST_OP(perp_grad), p), EXN_OK) << exn_last_error();
        const std::vector<double> projected = values_of(out.read());
        for (size_t i = 0; i < projected.size(); ++i) {
          const int64_t at = static_cast<int64_t>(i);
          weight.set(0, at, optimiser.moved(i, step + 1, weight.at(0, at), projected[i]));
        }
        expect_close(expected, weight, tolerance(grad.type));
      }
    }
    ++checked;
  }
  EXPECT_GT(checked, 0);
}

// ---- a real model -------------------------------------------------------------------------------

// Rows first ... first + count of the last two axes of `t`, at index `outer` of the first.
HostTensor slice(const HostTensor& t, int64_t outer, int64_t first, int64_t count, int64_t rows,
                 int64_t cols) {
  HostTensor part = make_tensor(t.type, {count, cols});
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      part.set(r, c, t.at(0, (outer * rows + first + r) * cols + c));
    }
  }
  return part;
}

TEST(Golden, StatisticsOfRealLogits) {
  EXN_READ(layers, "model/layers.safetensors");
  EXN_READ(stats, "model/exit_stats.safetensors");
  // Of the last tokens, after all layers.
  const HostTensor logits =
      layers.tensor(layers.has("logits_last4") ? "logits_last4" : "logits_last2");
  const HostTensor argmax = stats.tensor("argmax");  // [layers + 1, tokens of a longer text]
  const int64_t tokens = layers.tensor("ids").size(), rows = logits.rows, first = tokens - rows,
                depth = argmax.rows - 1;
  ASSERT_GT(rows, 0);
  ASSERT_GE(first, 0);
  ASSERT_LE(tokens, argmax.cols);
  for (int64_t i = 0; i < tokens; ++i) {
    ASSERT_EQ(layers.tensor("ids").integer_at(i), stats.tensor("ids").integer_at(i))
        << "the files are about different texts";
  }
  const auto golden = [&](const char* name, int64_t row) {
    return stats.tensor(name).at(depth, first + row);
  };
  for (const Target& target : targets()) {
    if (target.emulated) continue;  // 49152 columns
    SCOPED_TRACE(target.name());
    use(target);
    Instance instance(target);
    const DLTensor* in = instance.input(logits);
    const exn_stats out = add_stats(&instance, kUnlabelled, rows);
    const exn_row_stats_params p = {sizeof p, in, out, EXN_SOFTMAX, 1, 0, 0};
    instance.call(EXN_TEST_OP(row_stats), p);
    instance.prepare();
    instance.run(nullptr);
    const Outputs got = instance.outputs();
    for (int64_t r = 0; r < rows; ++r) {
      SCOPED_TRACE("row " + std::to_string(r));
      EXPECT_EQ(got[kValid].integer_at(r), 1);
      EXPECT_EQ(got[kArgmax].integer_at(r), argmax.integer_at(depth * argmax.cols + first + r));
      // The stored logits are rounded to f32, which moves them by up to 2e-6.
      EXPECT_NEAR(got[kMaxLogit].at(0, r), golden("max_logit", r), 5e-6);
      EXPECT_NEAR(got[kLse].at(0, r), golden("lse", r), 1e-5);
      EXPECT_NEAR(got[kP1].at(0, r), golden("p1", r), 1e-5);
      EXPECT_NEAR(got[kP2].at(0, r), golden("p2", r), 1e-5);
      EXPECT_NEAR(got[kEntropy].at(0, r), golden("entropy", r), 2e-5);
      EXPECT_NEAR(got[kPow2Entropy].at(0, r), golden("pow2_entropy", r), 2e-5);
      EXPECT_NEAR(got[kMeanLogP].at(0, r), golden("mean_logp", r), 3e-5);
    }
  }
}

TEST(Golden, CosinesOfRealHiddenStates) {
  EXN_READ(layers, "model/layers.safetensors");
  EXN_READ(stats, "model/exit_stats.safetensors");
  HostTensor hidden = layers.tensor("hidden");  // [layers + 1, recorded tokens, dim]
  const HostTensor golden = stats.tensor("state_cosine");
  ASSERT_EQ(hidden.shape.size(), 3u);
  const int64_t tokens = hidden.shape[1], dim = hidden.shape[2];
  ASSERT_EQ(hidden.shape[0], golden.rows + 1);
  ASSERT_GT(golden.rows, 0);
  for (int64_t layer = 0; layer < golden.rows; ++layer) {
    const HostTensor before = slice(hidden, layer, 0, tokens, tokens, dim),
                     after = slice(hidden, layer + 1, 0, tokens, tokens, dim);
    for (const Target& target : targets()) {
      if (target.emulated && layer % 10 != 0) continue;
      SCOPED_TRACE("layer " + std::to_string(layer) + " on " + target.name());
      Placed a(target, before), b(target, after), out(target, poisoned(Type::kF32, {tokens}));
      const exn_cosine_params p = {sizeof p, a.dl(), b.dl(), out.dl()};
      ASSERT_EQ(run_once(target, EXN_TEST_OP(cosine), p), EXN_OK) << exn_last_error();
      const HostTensor got = out.read();
      for (int64_t r = 0; r < tokens; ++r) {
        const int64_t token =
            layers.has("hidden_rows") ? layers.tensor("hidden_rows").integer_at(r) : r;
        EXPECT_NEAR(got.at(0, r), golden.at(layer, token), 1e-6) << "token " << token;
      }
    }
  }
}

}  // namespace
}  // namespace exn::test
