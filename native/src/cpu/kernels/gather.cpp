// SPDX-License-Identifier: Apache-2.0
// gather on the CPU. The list is read and checked before anything is written; then one parallel
// loop takes all tensors.
#include "../ids.h"
#include "base/args/gather.h"
#include "moves.h"

namespace exn::cpu::EXN_ISA {
namespace {

long long wide(int64_t x) { return static_cast<long long>(x); }

// Non-negative entries ascend strictly and stand before all others: seen as unsigned numbers,
// negative ones are above all others.
EXN_SIMD bool out_of_order(int32_t before, int32_t entry) {
  return entry >= 0 && static_cast<uint32_t>(before) >= static_cast<uint32_t>(entry);
}

exn_status check_list(const GatherArgs& a, int64_t count) {
  int32_t largest = -1, disorder = 0;  // without a branch: two passes over vectors
  for (int64_t i = 0; i < count; ++i) largest = largest > a.list[i] ? largest : a.list[i];
  for (int64_t i = 1; a.in_place && i < count; ++i)
    disorder |= out_of_order(a.list[i - 1], a.list[i]) ? 1 : 0;
  if (largest < a.rows && disorder == 0) return EXN_OK;
  for (int64_t i = 0; i < count; ++i) {
    if (a.list[i] >= a.rows) {
      return fail(EXN_INVALID_ARGUMENT, "exn_gather: list[%lld] is %d, but rows is %lld", wide(i),
                  a.list[i], wide(a.rows));
    }
    if (!a.in_place || i == 0 || !out_of_order(a.list[i - 1], a.list[i])) continue;
    return fail(EXN_INVALID_ARGUMENT,
                "exn_gather: list[%lld] is %d and list[%lld] is %d: a list must ascend, with "
                "negative entries last, where an output is its input",
                wide(i - 1), a.list[i - 1], wide(i), a.list[i]);
  }
  return EXN_OK;
}

void write_positions(const GatherArgs& args, int64_t count) {
  const GatherArgs a = args;  // a copy that no store can alias
  if (a.position_out == nullptr) return;
  for (int64_t i = 0; i < count; ++i) {  // in the list's order: position_out may be position
    if (a.list[i] < 0) continue;
    a.position_out[i] = a.positions == EXN_POSITIONS_RENUMBER
                            ? a.first_position + static_cast<int32_t>(i)
                        : a.position != nullptr ? a.position[a.list[i]]
                                                : a.list[i];
  }
}

// All units of all tensors, one tensor after another.
struct Plan {
  Cut cuts[EXN_GATHER_MAX_TENSORS];
  int64_t units = 0;
  int64_t bytes = 0;
};

Plan plan_moves(const GatherArgs& a, int64_t count) {
  Plan plan;
  for (int32_t k = 0; k < a.item_count; ++k) {
    const GatherItem& item = a.items[k];
    plan.cuts[k] = cut_moves(count, item.bytes, item.outer, item.in_place);
    plan.units += item.outer * plan.cuts[k].units();
    plan.bytes += item.outer * count * item.bytes;
  }
  return plan;
}

// Calls f with the moves of a unit.
template <class F>
EXN_SIMD void with_moves(const GatherArgs& a, const Plan& plan, int64_t unit, F&& f) {
  int32_t k = 0;
  for (; unit >= a.items[k].outer * plan.cuts[k].units(); ++k)
    unit -= a.items[k].outer * plan.cuts[k].units();
  const GatherItem& item = a.items[k];
  const Cut& cut = plan.cuts[k];
  const int32_t* list = a.list;
  const int64_t outer = unit / cut.units(), slice = unit % cut.units();
  const char* input = item.input + outer * item.input_outer_stride + cut.first_byte(slice);
  char* out = item.out + outer * item.out_outer_stride + cut.first_byte(slice);
  const int64_t input_stride = item.input_stride, out_stride = item.out_stride;
  const bool follows = cut.slices == 1 && outer + 1 < item.outer;
  f(Moves{cut.begin(slice), cut.end(slice), cut.entries, cut.width_of(slice),
          [=](int64_t i)
              EXN_FLAT { return list[i] < 0 ? nullptr : input + list[i] * input_stride; },
          [=](int64_t i) EXN_FLAT { return out + i * out_stride; },
          follows ? item.input_outer_stride : 0});
}

}  // namespace

exn_status gather(const GatherArgs& a, Workspace& ws) {
  if (ws.counting()) return EXN_OK;
  exn_status status = check_ids("exn_gather", "count", a.count, 1, 0, a.listed);
  const int64_t count = a.count != nullptr ? *a.count : a.listed;
  if (status == EXN_OK) status = check_list(a, count);
  if (status != EXN_OK) return status;
  ran(EXN_CPU_PATH(ws, "gather"));
  int32_t moved = 0;
  for (int64_t i = 0; i < count; ++i) moved += a.list[i] >= 0 ? 1 : 0;
  const Plan plan = plan_moves(a, count);
  move_units(plan.units, plan.bytes, [&](int64_t unit, auto&& f) { with_moves(a, plan, unit, f); });
  write_positions(a, count);
  if (a.moved != nullptr) *a.moved = moved;
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
