// SPDX-License-Identifier: Apache-2.0
#include "stats.h"

#include <algorithm>
#include <cfloat>

#include "base/philox.h"
#include "distribution.h"

namespace exn::test {

const char* const kStatNames[kStats] = {"argmax",     "max_logit", "lse",         "p1",
                                        "p2",         "margin",    "entropy",     "pow2_entropy",
                                        "mean_log_p", "valid",     "label_log_p", "draw"};

namespace {

// `error` is that of x as its weight has it, `log_error` what taking a logarithm adds.
double entropy_bound(const Distribution<double>& d, double error, double log_error) {
  return kStatsError * (1 + d.entropy) + 2 * error * d.entropy_slope + 2 * log_error;
}

// Applies softcap and temperature, with what they add to the errors.
void transform(float temperature, float softcap, std::vector<double>* z,
               std::vector<double>* error) {
  const double cap = static_cast<double>(softcap);
  for (size_t j = 0; j < z->size(); ++j) {
    double& v = (*z)[j];
    double& e = (*error)[j];
    if (std::isinf(v)) continue;
    if (softcap > 0) {
      v = cap * std::tanh(v / cap);
      e += 6 * kUnit * std::fabs(v);
    }
    if (!(temperature == 1.0f)) {
      v /= static_cast<double>(temperature);
      e = e / static_cast<double>(temperature) + 2 * kUnit * std::fabs(v);
    }
  }
}

int64_t id_of(const Logits& logits, size_t j) {
  return logits.ids.empty() ? static_cast<int64_t>(j) : logits.ids[j];
}

// Largest z, ties to the smaller id.
size_t argmax_of(const Logits& logits, const std::vector<double>& z) {
  size_t best = 0;
  for (size_t j = 1; j < z.size(); ++j) {
    if (z[j] > z[best] || (z[j] == z[best] && id_of(logits, j) < id_of(logits, best))) best = j;
  }
  return best;
}

void find_argmax(const Logits& logits, const std::vector<double>& z,
                 const std::vector<double>& error, StatsExpected* out) {
  const size_t best = argmax_of(logits, z);
  out->argmax = id_of(logits, best);
  std::vector<size_t> near;
  for (size_t j = 0; j < z.size(); ++j) {
    const double slack = error[j] + error[best];
    if (j == best || (slack > 0 && z[j] >= z[best] - slack)) near.push_back(j);
  }
  // Logits that are equal before they are treated are so whatever rounding does: of those only the
  // smallest id may win.
  const auto same = [&](size_t k, size_t j) {
    return logits.z[k] == logits.z[j] &&
           (logits.error.empty() || logits.error[k] == logits.error[j]);
  };
  for (size_t j : near) {
    const bool beaten = std::any_of(near.begin(), near.end(), [&](size_t k) {
      return same(k, j) && id_of(logits, k) < id_of(logits, j);
    });
    if (!beaten) out->near_argmax.push_back(id_of(logits, j));
  }
  std::sort(out->near_argmax.begin(), out->near_argmax.end());
  out->stats[kMaxLogit] = {z[best], error[best]};
}

void invalid_row(StatsExpected* out) {
  for (Expected& e : out->stats) e = nan();
  out->near_draw = {-1};
}

}  // namespace

StatsExpected stats_oracle(const Logits& logits, int32_t normalizer, float temperature,
                           float softcap, int64_t label) {
  StatsExpected out;
  if (!valid_logits(logits.z)) {
    invalid_row(&out);
    return out;
  }
  out.valid = true;
  std::vector<double> z = logits.z;
  std::vector<double> error = logits.error;
  error.resize(z.size(), 0);
  transform(temperature, softcap, &z, &error);
  find_argmax(logits, z, error, &out);

  double largest_error = 0, log_error = 0;
  for (size_t j = 0; j < z.size(); ++j) {
    if (z[j] == -kInf) continue;
    if (normalizer == EXN_STABLEMAX) {
      const double slope = 1 / (1 + std::fabs(z[j]));
      z[j] = log_s(z[j]);
      error[j] *= slope;
      log_error = std::max(log_error, 2 * kUnit * (std::fabs(z[j]) + 1));
    }
    largest_error = std::max(largest_error, error[j]);
  }

  const Distribution<double> d = distribution_of(z);
  // Relative, of the sum of weights.
  const double sum_bound = kStatsError + 2 * largest_error;
  const double tiny = smallest(Type::kF32);
  const auto probability = [&](double p, double below_top) {
    return Expected{p, p > 0 ? p * (sum_bound + kUnit * 2 * below_top) + tiny : 0.0};
  };
  // The second largest: the largest of all others. Its probability is taken from d,
  // since lse may swallow the sum.
  const size_t best = argmax_of(logits, z);
  double second = -kInf, p2 = 0;
  for (size_t j = 0; j < z.size(); ++j) {
    if (j == best || z[j] <= second) continue;
    second = z[j];
    p2 = d.p[j];
  }
  const double p1 = d.p[best];
  out.stats[kLse] = {d.lse, sum_bound + kUnit * 2 * (std::fabs(d.lse) + std::fabs(d.top))};
  out.stats[kP1] = probability(p1, 0);
  out.stats[kP2] = probability(p2, second == -kInf ? 0 : d.top - second);
  out.stats[kMargin] = {p1 - p2, out.stats[kP1].bound + out.stats[kP2].bound};
  out.stats[kEntropy] = {d.entropy, entropy_bound(d, largest_error, log_error)};

  const Distribution<double> d2 = distribution_of(z, 2.0);
  out.stats[kPow2Entropy] = {d2.entropy, entropy_bound(d2, 2 * largest_error, 2 * log_error)};

  double sum = 0, magnitude = 0;
  for (double v : z) {
    sum += v;
    magnitude += std::fabs(v) + std::fabs(v - d.top);
  }
  const double count = static_cast<double>(z.size());
  const double mean = sum / count - d.lse;
  const double mean_bound =
      kStatsError * (magnitude / count + std::fabs(d.lse)) + sum_bound + log_error;
  out.stats[kMeanLogP] = {mean, std::isfinite(mean) ? mean_bound : 0.0};

  out.stats[kLabelLogP] = label < 0 ? nan() : Expected{-kInf, 0};  // not listed
  for (size_t j = 0; j < z.size(); ++j) {
    if (id_of(logits, j) != label || z[j] == -kInf) continue;
    const double log_p = z[j] - d.top + std::log(p1);  // their difference would be lost in lse
    out.stats[kLabelLogP] = {log_p,
                             sum_bound + error[j] + 4 * kUnit * std::fabs(log_p) + 2 * log_error};
  }
  return out;
}

float draw_noise(const StatsInputs& in, int64_t row, int64_t id) {
  return noise_of(static_cast<uint64_t>(in.draw_key.integer_at(row)),
                  static_cast<uint64_t>(in.draw_counter.integer_at(row)), static_cast<int32_t>(id));
}

namespace {

// The ids whose score may be the largest, of logits that are treated by z.
void find_draw(const Logits& logits, const std::vector<double>& z, const std::vector<double>& error,
               const StatsInputs& in, int64_t row, StatsExpected* out) {
  const double t = in.draw_temperature.given() ? in.draw_temperature.at(0, row) : 1;
  std::vector<double> score(z.size()), slack(z.size());
  double best = -kInf, best_slack = 0;
  for (size_t j = 0; j < z.size() && t >= 0x1p-126; ++j) {
    score[j] = z[j] / t + static_cast<double>(draw_noise(in, row, id_of(logits, j)));
    slack[j] =
        z[j] == -kInf ? 0 : error[j] / t + kUnit * (3 * std::fabs(z[j] / t) + std::fabs(score[j]));
    if (score[j] <= best) continue;
    best = score[j];
    best_slack = slack[j];
  }
  if (best == -kInf || std::fabs(best) > static_cast<double>(FLT_MAX)) {
    out->near_draw = out->near_argmax;
    return;
  }
  out->near_draw.clear();
  for (size_t j = 0; j < z.size(); ++j) {
    if (score[j] + slack[j] >= best - best_slack) out->near_draw.push_back(id_of(logits, j));
  }
  std::sort(out->near_draw.begin(), out->near_draw.end());
}

}  // namespace

StatsExpected stats_oracle(const Logits& logits, int32_t normalizer, float temperature,
                           float softcap, const StatsInputs& in, int64_t row) {
  const int64_t label = in.labels.given() ? in.labels.integer_at(row) : -1;
  StatsExpected out = stats_oracle(logits, normalizer, temperature, softcap, label);
  if (!in.draw_key.given() || !out.valid) return out;
  std::vector<double> z = logits.z, error = logits.error;
  error.resize(z.size(), 0);
  transform(temperature, softcap, &z, &error);
  find_draw(logits, z, error, in, row, &out);
  return out;
}

// ---- outputs ------------------------------------------------------------------------------------

uint32_t read_stats(const Row& row, const CaseBase& c, int32_t normalizer) {
  uint32_t outputs = row.subset("outputs", {kStatNames, kStatNames + kStats});
  if (row.text("outputs") == "all" && normalizer == EXN_STABLEMAX) outputs &= ~(1u << kDraw);
  return c.bench && row.text("outputs") == "all" ? outputs & kUnlabelled : outputs;
}

HostTensor make_labels(uint64_t seed, int64_t rows, int64_t vocabulary) {
  constexpr uint64_t kStream = 19;
  HostTensor labels = make_tensor(Type::kI32, {rows});
  for (int64_t r = 0; r < rows; ++r) {
    const uint64_t w = word(seed, kStream, static_cast<uint64_t>(r));
    const int64_t any = static_cast<int64_t>(w / 8 % static_cast<uint64_t>(vocabulary));
    labels.set_integer(r, w % 8 == 0 && rows > 1 ? -1
                          : w % 8 == 1           ? 0
                          : w % 8 == 2           ? vocabulary - 1
                                                 : any);
  }
  return labels;
}

StatsInputs make_stats_inputs(uint32_t outputs, uint64_t seed, int64_t rows, int64_t vocabulary) {
  StatsInputs in;
  if ((outputs >> kLabelLogP & 1) != 0) in.labels = make_labels(seed, rows, vocabulary);
  if ((outputs >> kDraw & 1) == 0) return in;
  constexpr uint64_t kStream = 23;
  in.draw_key = make_tensor(Type::kI64, {rows});
  in.draw_counter = make_tensor(Type::kI64, {rows});
  if (seed % 2 == 0) in.draw_temperature = make_tensor(Type::kF32, {rows});
  for (int64_t r = 0; r < rows; ++r) {
    const auto at = static_cast<uint64_t>(r);
    in.draw_key.set_integer(r, static_cast<int64_t>(word(seed, kStream, at / 2)));
    in.draw_counter.set_integer(r, static_cast<int64_t>(word(seed, kStream + 1, at)));
    constexpr double kTemperatures[] = {0.75, 3, 0, 1, 1e-39, 1e-30, 0.125};
    if (in.draw_temperature.given()) in.draw_temperature.set(0, r, kTemperatures[at % 7]);
  }
  return in;
}

exn_stats add_stats(Instance* instance, uint32_t outputs, int64_t rows, const StatsInputs& in) {
  const DLTensor* tensors[kStats] = {};
  for (int i = 0; i < kStats; ++i) {
    const Type type = i == kArgmax || i == kDraw ? Type::kI32
                      : i == kValid              ? Type::kU8
                                                 : Type::kF32;
    if ((outputs >> i & 1) != 0) tensors[i] = instance->output(kStatNames[i], type, {rows});
  }
  return {tensors[kArgmax],
          tensors[kMaxLogit],
          tensors[kLse],
          tensors[kP1],
          tensors[kP2],
          tensors[kMargin],
          tensors[kEntropy],
          tensors[kPow2Entropy],
          tensors[kMeanLogP],
          tensors[kValid],
          instance->input(in.labels),
          tensors[kLabelLogP],
          tensors[kDraw],
          instance->input(in.draw_key),
          instance->input(in.draw_counter),
          instance->input(in.draw_temperature)};
}

namespace {

Complaint judge_stat(int stat, const StatsExpected& expected, const HostTensor& got, int64_t row) {
  const std::string where = kStatNames[stat] + place(row, 0);
  if (stat == kValid) {
    return got.integer_at(row) == (expected.valid ? 1 : 0) ? "" : where + ": wrong validity";
  }
  if (stat == kArgmax) {
    const int64_t argmax = got.integer_at(row);
    const bool near =
        std::binary_search(expected.near_argmax.begin(), expected.near_argmax.end(), argmax);
    if (near && expected.near_argmax.size() > 1) {
      count_band("argmax", argmax == expected.argmax ? 0 : 1, 1);
    }
    if (argmax == expected.argmax || near) return "";
    return where + ": got " + std::to_string(argmax) + ", expected " +
           std::to_string(expected.argmax);
  }
  if (stat == kDraw) {
    const int64_t draw = got.integer_at(row);
    const std::vector<int64_t>& near = expected.near_draw;
    if (std::binary_search(near.begin(), near.end(), draw)) return "";
    return where + ": got " + std::to_string(draw) + ", expected " + std::to_string(near[0]);
  }
  const Expected& e = expected.stats[stat];
  return compare(kStatNames[stat], place(row, 0), e, got.at(0, row));
}

}  // namespace

Complaint judge_stats(uint32_t outputs, const std::vector<StatsExpected>& expected,
                      const Outputs& got) {
  size_t next = 0;
  for (int stat = 0; stat < kStats; ++stat) {
    if ((outputs >> stat & 1) == 0) continue;
    const HostTensor& tensor = got[next++];
    for (size_t row = 0; row < expected.size(); ++row) {
      const Complaint complaint =
          judge_stat(stat, expected[row], tensor, static_cast<int64_t>(row));
      if (!complaint.empty()) return complaint;
    }
  }
  return "";
}

std::string stat_names(uint32_t outputs) {
  std::string names;
  for (int stat = 0; stat < kStats; ++stat) {
    if ((outputs >> stat & 1) != 0)
      names += (names.empty() ? "" : " ") + std::string(kStatNames[stat]);
  }
  return quoted(names);
}

}  // namespace exn::test
