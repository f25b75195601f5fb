// SPDX-License-Identifier: Apache-2.0
// What select and attention_scores choose: the selections of the case tables, the oracle of the
// choice, and their tensors on a device.
#pragma once

#include <string>
#include <vector>

#include "judge.h"
#include "table.h"

namespace exn::test {

enum SelectOutput { kSelectCount, kSelectValid };

struct SelectionSpec {
  int64_t k = 0;
  int64_t capacity = 0;  // K
  std::string budget = "-";
  std::vector<int64_t> segments;  // empty: none
  std::string keep = "-";
  std::string drop = "-";
  uint32_t outputs = 3;

  int64_t segment_count() const {
    return segments.empty() ? 1 : static_cast<int64_t>(segments.size()) - 1;
  }
};

// A tensor that the case leaves out has an empty shape.
struct SelectionInputs {
  HostTensor budget, segments, keep, drop;
};

// For R rows of N columns.
SelectionInputs make_selection(const SelectionSpec& s, int64_t rows, int64_t columns,
                               uint64_t seed);

// What a row keeps.
struct Choice {
  bool valid = true;
  std::vector<int64_t> kept;  // ascending
};

// Of a row's scores, by sorting them.
Choice choose(const std::vector<double>& scores, int64_t limit, const SelectionSpec& s,
              const SelectionInputs& in, int64_t row);

struct SelectExpected {
  std::vector<int32_t> indices;  // [R,K]
  std::vector<int32_t> count;    // [R]
  std::vector<uint8_t> valid;    // [R]

  void add(const Choice& choice, int64_t capacity);
};

// Whether scores within their bounds exist of which `got` is the choice. `hits` counts the columns
// that another choice than the one of the scores' values has put in the place of others.
struct ChoiceVerdict {
  bool permitted = false;
  int64_t hits = 0;
};

ChoiceVerdict judge_choice(const std::vector<Expected>& scores, int64_t limit,
                           const SelectionSpec& s, const SelectionInputs& in, int64_t row,
                           const Choice& got);

// ---- on a device --------------------------------------------------------------------------------

bool asked(const SelectionSpec& s, SelectOutput output);

// A selection of `rows` rows with all its tensors.
exn_selection add_selection(Instance* instance, const SelectionSpec& s, const SelectionInputs& in,
                            int64_t rows);
// Its outputs, from got[next] on.
Complaint judge_selection(const SelectionSpec& s, const SelectExpected& expected,
                          const Outputs& got, size_t next);
double selection_bytes(const SelectionSpec& s, int64_t rows);

// How many a row keeps, if that is one number.
int64_t kept_by(const SelectionSpec& s);

// ---- tables -------------------------------------------------------------------------------------

SelectionSpec read_selection(const Row& row);
// "-": not given.
HostTensor make_limits(const std::string& kind, int64_t rows, int64_t columns, uint64_t seed);

}  // namespace exn::test
