// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "stats.h"

namespace exn::test {
inline namespace exit_head_op {

struct ExitHeadCase : CaseBase {
  MatrixSpec hidden;
  MatrixSpec weight;
  std::string bias = "-";
  int32_t norm = EXN_NORM_NONE;
  float norm_eps = 0;
  bool norm_bias = false;
  MatrixSpec translator;  // no rows: none
  int32_t translate = EXN_TRANSLATE_RAW;
  bool translator_bias = false;
  int64_t shortlist = 0;
  bool shortlist_descending = false;
  int32_t normalizer = EXN_SOFTMAX;
  float temperature = 1;
  float softcap = 0;
  std::string screen = "-";  // bounds
  int32_t screen_budget = 0;
  uint32_t outputs = 0;
};

std::vector<ExitHeadCase> exit_head_cases();

struct ExitHeadInputs {
  HostTensor hidden, weight, bias, norm_weight, norm_bias, translator, translator_bias, shortlist,
      screen;
  StatsInputs stats;
};

ExitHeadInputs make_inputs(const ExitHeadCase& c);

// One entry per row.
std::vector<StatsExpected> exit_head_oracle(const ExitHeadCase& c, const ExitHeadInputs& in);

std::unique_ptr<Instance> instantiate(const ExitHeadCase& c, const ExitHeadInputs& in,
                                      int32_t device_type);

}  // namespace exit_head_op
}  // namespace exn::test
