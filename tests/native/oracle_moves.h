// SPDX-License-Identifier: Apache-2.0
// Oracles of gather, kv_compact and hired_budget, in the manner of oracle.h. What moves is exact to
// the bit, so it is named by where it came from. A call that is `refused` is EXN_INVALID_ARGUMENT
// on the CPU with nothing written; a device, which cannot read a list on the host, gives what the
// other members then say.
#pragma once

#include <cstdint>
#include <vector>

#include "case_table_moves.h"
#include "oracle.h"

namespace exn::test {

struct GatherExpected {
  bool refused = false;
  // Entry of each tensor's input that entry i of its output holds, or -1 where the output stays.
  std::vector<int64_t> source;    // [K]
  std::vector<int64_t> position;  // [K]
  std::vector<bool> placed;       // [K]; whether position_out has entry i
  int32_t moved = 0;
};

GatherExpected gather_oracle(const GatherCase& c, const GatherInputs& in);

struct KvCompactExpected {
  bool refused = false;
  CacheTensors cache;  // the destination
  std::vector<int32_t> new_length;
  std::vector<int32_t> freed;
  int32_t freed_count = 0;
};

KvCompactExpected kv_compact_oracle(const KvCompactCase& c, const KvCompactInputs& in);

struct HiredBudgetExpected {
  std::vector<int32_t> budget;  // [I,P]
  std::vector<uint8_t> marks;   // [I,Nv]
  std::vector<uint8_t> valid;   // [I]
  // [I]: the order in which the attention of a region is summed may change a budget of the image.
  std::vector<bool> uncertain;
};

HiredBudgetExpected hired_budget_oracle(const HiredBudgetCase& c, const HiredBudgetInputs& in);

}  // namespace exn::test
