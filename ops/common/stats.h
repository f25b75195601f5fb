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
  kStats
};
// Those that need no labels.
constexpr uint32_t kUnlabelled = (1u << kLabelLogP) - 1;
extern const char* const kStatNames[kStats];

struct StatsExpected {
  bool valid = false;
  int64_t argmax = -1;
  // Ascending: all that rounding may make the maximum; one entry if nothing may.
  std::vector<int64_t> near_argmax;
  Expected stats[kStats];  // kArgmax and kValid unused
};

// Logits with an absolute error each; `ids` names them (empty: their position).
struct Logits {
  std::vector<double> z;
  std::vector<double> error;
  std::vector<int64_t> ids;
};

// Of a label -1 there is no log-probability.
StatsExpected stats_oracle(const Logits& logits, int32_t normalizer, float temperature,
                           float softcap, int64_t label = -1);

// The column that says which outputs a case asks for.
uint32_t read_stats(const Row& row, const CaseBase& c);

// A label for each row, among them -1, the first and the last.
HostTensor make_labels(uint64_t seed, int64_t rows, int64_t vocabulary);

// The outputs that bit i of `outputs` asks for, and the labels that one of them is about.
exn_stats add_stats(Instance* instance, uint32_t outputs, int64_t rows,
                    const HostTensor& labels = {});
Complaint judge_stats(uint32_t outputs, const std::vector<StatsExpected>& expected,
                      const Outputs& got);
std::string stat_names(uint32_t outputs);

}  // namespace exn::test
