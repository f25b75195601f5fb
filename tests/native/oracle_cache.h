// SPDX-License-Identifier: Apache-2.0
// Oracles of the ops on the KV cache and of the schedules, in the manner of oracle.h. Where a
// device that cannot read an index on the host answers otherwise than the CPU, which refuses the
// call, they say both.
#pragma once

#include <cstdint>
#include <vector>

#include "case_table_cache.h"
#include "expected.h"

namespace exn::test {

// What a conversion leaves of a value: the nearest, but subnormals may be flushed.
Expected converted(Type to, double value);

// All elements of k and v after the call, in the order of memory.
struct CacheExpected {
  std::vector<Expected> k, v;
};

CacheExpected kv_append_oracle(const KvAppendCase& c, const KvAppendInputs& in);

// The destination; copies are exact to the bit.
CacheTensors kv_copy_oracle(const KvCopyCase& c, const KvCopyInputs& in);

struct KvLengthExpected {
  // Some row found its sequence full: EXN_INVALID_ARGUMENT on the CPU, nothing written. A device
  // gives what follows.
  bool full = false;
  std::vector<int32_t> length, slot, visible;
};

// One call that starts from `length`.
KvLengthExpected kv_length_oracle(const KvLengthCase& c, const KvLengthInputs& in,
                                  const std::vector<int32_t>& length);

struct AttentionExpected {
  std::vector<Expected> out;     // row-major [R, H * dh]
  std::vector<Expected> scores;  // row-major [R, H, N]
};

AttentionExpected attention_oracle(const AttentionCase& c, const AttentionInputs& in);

// Plays the script. The stack's rows are copies, exact to the bit: entries are named by where they
// came from.
class HiddenStackOracle {
 public:
  struct Entry {
    int64_t call = 0;
    int64_t row = 0;
  };

  explicit HiddenStackOracle(const HiddenStackCase& c) : c_(c) {}

  // Takes call number `call` of the script. Returns how many rows do not fit (PUSH: none goes in
  // then; GATHER: none comes out): EXN_INVALID_ARGUMENT on the CPU, nothing written. On a device
  // that count is `overflow`, and the tags of the gather are all -1.
  int64_t step(int64_t call, const HiddenStackInputs& in);

  const std::vector<Entry>& entries() const { return entries_; }

 private:
  const HiddenStackCase& c_;
  std::vector<Entry> entries_;
};

// Row of the input that row i of the output holds, or -1 where the output stays as it was. One
// entry per row of the output.
std::vector<int64_t> row_compaction_oracle(const RowCompactionCase& c,
                                           const RowCompactionInputs& in);

struct LayerScheduleExpected {
  std::vector<int32_t> layers;      // [T,L]
  std::vector<int32_t> count;       // [T]
  std::vector<uint8_t> exit_test;   // [T,L]
  std::vector<Expected> threshold;  // [T], CALM
};

LayerScheduleExpected layer_schedule_oracle(const LayerScheduleCase& c);

// The state machine of all rows.
class FfnSkipRuleOracle {
 public:
  explicit FfnSkipRuleOracle(const FfnSkipRuleCase& c);

  // The call after `layer` of `token`.
  void step(int64_t token, int32_t layer, const FfnSkipRuleInputs& in);

  const std::vector<uint8_t>& skip() const { return skip_; }
  const std::vector<int32_t>& state() const { return state_; }  // [R, EXN_FFN_SKIP_STATE_WORDS]

 private:
  const FfnSkipRuleCase& c_;
  std::vector<uint8_t> skip_;
  std::vector<int32_t> state_;
};

}  // namespace exn::test
