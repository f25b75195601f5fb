// SPDX-License-Identifier: Apache-2.0
// Statistics of rows of logits: the outputs of row_stats and exit_head.
#pragma once

#include <cstdint>
#include <vector>

#include "judge.h"

namespace exn::test {

// Order of the bits in `outputs` and of the outputs in exn_stats.
enum Stat {
  kArgmax,
  kMaxLogit,
  kLse,
  kP1,
  kP2,
  kMargin,
  kEntropy,
  kPow2Entropy,
  kMeanLogP,
  kValid,
  kLabelLogP,
  kDraw,
  kStats
};
// Those that need no other inputs.
constexpr uint32_t kUnlabelled = (1u << kLabelLogP) - 1;
extern const char* const kStatNames[kStats];

struct StatsExpected {
  bool valid = false;
  int64_t argmax = -1;
  // Ascending: all that rounding may make the maximum; one entry if nothing may.
  std::vector<int64_t> near_argmax;
  std::vector<int64_t> near_draw;  // the same of what is drawn; -1 of an invalid row
  Expected stats[kStats];          // kArgmax, kValid and kDraw unused
};

// Logits with an absolute error each; `ids` names them (empty: their position).
struct Logits {
  std::vector<double> z;
  std::vector<double> error;
  std::vector<int64_t> ids;
};

// What the outputs of rows depend on beside their logits, each [R] or not given.
struct StatsInputs {
  HostTensor labels = {}, draw_key = {}, draw_counter = {}, draw_temperature = {};
};

// Of a label -1 there is no log-probability.
StatsExpected stats_oracle(const Logits& logits, int32_t normalizer, float temperature,
                           float softcap, int64_t label = -1);
StatsExpected stats_oracle(const Logits& logits, int32_t normalizer, float temperature,
                           float softcap, const StatsInputs& in, int64_t row);

// The column that says which outputs a case asks for.
uint32_t read_stats(const Row& row, const CaseBase& c, int32_t normalizer);

// A label for each row, among them -1, the first and the last.
HostTensor make_labels(uint64_t seed, int64_t rows, int64_t vocabulary);
// Inputs for those of `outputs` that need some. Temperatures are the default, 0 and others.
StatsInputs make_stats_inputs(uint32_t outputs, uint64_t seed, int64_t rows, int64_t vocabulary);

// The noise of a row's draw for an id.
float draw_noise(const StatsInputs& in, int64_t row, int64_t id);

// The outputs that bit i of `outputs` asks for, and what they depend on.
exn_stats add_stats(Instance* instance, uint32_t outputs, int64_t rows, const StatsInputs& in = {});
Complaint judge_stats(uint32_t outputs, const std::vector<StatsExpected>& expected,
                      const Outputs& got);
std::string stat_names(uint32_t outputs);

}  // namespace exn::test
