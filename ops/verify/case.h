// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "judge.h"

namespace exn::test {
inline namespace verify_op {

struct VerifyCase : CaseBase {
  bool greedy = true;
  int64_t sequences = 0;  // S
  int64_t most = 0;       // K
  MatrixSpec logits;      // its columns are the vocabulary, of the greedy form, too
  float temperature = 1;
  std::string draft;  // "-", "logits", "probabilities"
  Type draft_type = Type::kF32;
  int64_t draft_pad = 0;
  std::string draft_fill;
  std::string draft_special;
  float draft_temperature = 1;
  std::string tokens;
  std::string lengths;
  std::string active;
  std::string uniforms;
  int64_t stops = 0;
  bool bounded = false;
  std::string hostile;
  uint32_t outputs = 0;
};

struct VerifyInputs {
  HostTensor drafted, draft_length, active, argmax, logits, draft, uniform, stop, token, length,
      position;
  int64_t capacity = 0;
};

// What a call makes of one sequence.
struct VerifyResult {
  int64_t accepted = 0, token = 0, count = 0, last_row = -1, outcome = EXN_VERIFY_OFF;
  int64_t length = 0, position = 0, active = 0;
  std::vector<int64_t> out;  // K + 1

  bool operator==(const VerifyResult& o) const {
    return accepted == o.accepted && token == o.token && count == o.count &&
           last_row == o.last_row && outcome == o.outcome && length == o.length &&
           position == o.position && active == o.active && out == o.out;
  }
};

// Of sequence s, whose first `kept` drafted tokens are kept, with the token `after` them; below 0: a
// row was invalid.
VerifyResult verify_result(const VerifyInputs& in, int64_t s, int64_t kept, int64_t after);

// n of sequence s; -1: it is not active; -2: it has what it must not have.
int64_t verify_drafted(const VerifyInputs& in, int64_t s);

}  // namespace verify_op
}  // namespace exn::test
