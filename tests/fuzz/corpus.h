// SPDX-License-Identifier: Apache-2.0
//
// What was found once: calls that crashed, wrote astray, were accepted or refused when they should
// not have been. Each runs with every run of the fuzzer.
#pragma once

#include <string>

#include "arena.h"

namespace exn::fuzz {

struct PastFinding {
  const char* name;
  // What is wrong again, or "". May crash.
  std::string (*check)(Arena* arena, int32_t device_type);
};

extern const PastFinding kCorpus[];
extern const int kCorpusSize;

}  // namespace exn::fuzz
