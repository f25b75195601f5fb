// SPDX-License-Identifier: Apache-2.0
// Cases and inputs of the ops that drop tokens by moving the others: gather, kv_compact and the
// budgets of HiRED. ops/README.md is the specification.
#pragma once

#include "case_table_cache.h"

namespace exn::test {

// ---- cases --------------------------------------------------------------------------------------

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

struct KvCompactCase : CaseBase {
  CacheSpec source;
  CacheSpec destination;  // source, if in_place
  bool in_place = false;
  bool per_head = false;
  std::string sequence;
  std::string length;
  std::string kept;
  std::string list;
  std::string form;
  std::string pages;
  bool frees = false;
  int64_t freed = 0;  // F
  bool new_length = false;

  int64_t sequences() const;  // B
  int64_t lists() const;
};

enum HiredOutput { kHiredMarks, kHiredValid };

struct HiredBudgetCase : CaseBase {
  MatrixSpec attention;
  int64_t patch_rows = 1;
  int64_t patch_cols = 1;
  double rate = 0;
  double alpha = 0;
  int64_t grid_rows = 0;
  int64_t grid_cols = 0;
  int32_t score = EXN_HIRED_SUM;
  int32_t region = EXN_HIRED_GRID;
  int32_t remainder = EXN_HIRED_TRUNCATE;
  uint32_t outputs = 0;

  int64_t parts() const { return grid_rows * grid_cols; }
  int64_t patches() const { return patch_rows * patch_cols; }
};

std::vector<GatherCase> gather_cases();
std::vector<KvCompactCase> kv_compact_cases();
std::vector<HiredBudgetCase> hired_budget_cases();

// Of all tensors of the case together.
int64_t elements_of(const GatherCase& c);
int64_t elements_of(const KvCompactCase& c);
int64_t elements_of(const HiredBudgetCase& c);

// ---- inputs -------------------------------------------------------------------------------------
// A tensor that the case leaves out has an empty shape.

struct GatherInputs {
  std::vector<HostTensor> input;
  HostTensor list, count, position;
};

struct KvCompactInputs {
  CacheTensors source;
  CacheTensors destination;  // not given if in_place
  HostTensor list, offsets, count, sequence, length;
};

struct HiredBudgetInputs {
  HostTensor attention;
};

GatherInputs make_inputs(const GatherCase& c);
KvCompactInputs make_inputs(const KvCompactCase& c);
HiredBudgetInputs make_inputs(const HiredBudgetCase& c);

// Tensor t of a case with `entries` entries along its axis and bytes that mean nothing yet.
HostTensor gather_tensor(const GatherTensorSpec& t, int64_t entries, int64_t pad, int64_t offset);

// First byte of an entry of such a tensor; `outer` counts through the axes before it.
size_t entry_offset(const GatherTensorSpec& t, const HostTensor& tensor, int64_t entries,
                    int64_t outer, int64_t entry);

}  // namespace exn::test
