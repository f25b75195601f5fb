// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "judge.h"
#include "table.h"

namespace exn::test {
inline namespace gather_op {

// A tensor with `rows` entries along `axis`, e.g. bf16:8xNx64.
struct GatherTensorSpec {
  Type type = Type::kF32;
  std::vector<int64_t> shape;  // of the input
  int32_t axis = 0;
  bool in_place = false;

  int64_t outer() const;
  int64_t inner() const;
};

struct GatherCase : CaseBase {
  int64_t rows = 0;    // N
  int64_t listed = 0;  // K
  bool counted = false;
  int64_t count = 0;
  std::string list;
  int64_t heads = 0;  // of list selected:<heads>
  std::vector<GatherTensorSpec> tensors;
  int64_t pad = 0;
  int64_t offset = 0;
  int64_t out_pad = 0;
  int64_t out_offset = 0;
  int64_t spare = 0;
  std::string positions;
  bool position_in_place = false;
  int32_t first_position = 0;
  bool moved = false;
};

struct GatherInputs {
  std::vector<HostTensor> input;
  HostTensor list, count, position;
  HostTensor scores;  // [heads,N], of which a call of select makes the list
};

std::vector<GatherCase> gather_cases();
GatherInputs make_inputs(const GatherCase& c);

// Tensor t of a case with `entries` entries along its axis and bytes that mean nothing yet.
HostTensor gather_tensor(const GatherTensorSpec& t, int64_t entries, int64_t pad, int64_t offset);

// First byte of an entry of such a tensor; `outer` counts through the axes before it.
size_t entry_offset(const GatherTensorSpec& t, const HostTensor& tensor, int64_t entries,
                    int64_t outer, int64_t entry);

// What moves is exact to the bit, so it is named by where it came from. A call that is `refused` is
// EXN_INVALID_ARGUMENT on the CPU with nothing written; a device, which cannot read a list on the
// host, gives what the other members then say.
struct GatherExpected {
  bool refused = false;
  // Entry of each tensor's input that entry i of its output holds, or -1 where the output stays.
  std::vector<int64_t> source;    // [K]
  std::vector<int64_t> position;  // [K]
  std::vector<bool> placed;       // [K]; whether position_out has entry i
  int32_t moved = 0;
};

GatherExpected gather_oracle(const GatherCase& c, const GatherInputs& in);

}  // namespace gather_op
}  // namespace exn::test
