// SPDX-License-Identifier: Apache-2.0
// Checks of what index tensors hold. On the CPU a run can afford to look before it writes; each
// function returns EXN_OK or one sentence that names the entry.
#pragma once

#include "base/args.h"

namespace exn::cpu {

// ids[0, count) within first..last. Null ids pass.
exn_status check_ids(const char* op, const char* name, const int32_t* ids, int64_t count,
                     int64_t first, int64_t last);

// The same of those that `switches` leaves on: a row whose entry there is below 0 may name
// anything.
exn_status check_ids_of_rows(const char* op, const char* name, const int32_t* ids,
                             const int32_t* switches, int64_t count, int64_t first, int64_t last);

// As check_ids, within 0..last, none of them twice.
exn_status check_distinct_ids(const char* op, const char* name, const int32_t* ids, int64_t count,
                              int64_t last);

// Every row that is on names a slot of the cache, and a page where the cache is paged. A row is off
// if its slot is -1, or its entry of `other`, where that is given: no other id of it matters.
// Builds without NDEBUG also refuse two rows that write one slot. `slot_name` and `sequence_name`
// name the arguments.
exn_status check_slots(const char* op, const KvCache& cache, const char* sequence_name,
                       const int32_t* sequence, const char* slot_name, const int32_t* slot,
                       int64_t count, bool written, const int32_t* other = nullptr);

// The pages of slots [0, visible[row]) of each row exist.
exn_status check_visible_pages(const char* op, const KvCache& cache, const int32_t* sequence,
                               const int32_t* visible, int64_t rows);

// The same for prompts of `window` rows each; null sequence: prompt s is sequence s.
exn_status check_prompt_pages(const char* op, const KvCache& cache, const int32_t* sequence,
                              const int32_t* visible, int64_t prompts, int64_t window);

// Budgets that are not negative, and ranges and segments that rise within 0..columns.
exn_status check_selection(const char* op, const Selection& selection, int64_t rows,
                           int64_t columns);

}  // namespace exn::cpu
