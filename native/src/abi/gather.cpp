// SPDX-License-Identifier: Apache-2.0
#include <exeunt/gather.h>

#include "backends.h"
#include "base/args/gather.h"

namespace exn {
namespace {

// Ranges are compared by the addresses of their names: each is written once.
struct Names {
  const char* input;
  const char* out;
  const char* reserved;
};
constexpr Names kNames[EXN_GATHER_MAX_TENSORS] = {
    {"tensors[0].input", "tensors[0].out", "tensors[0].reserved"},
    {"tensors[1].input", "tensors[1].out", "tensors[1].reserved"},
    {"tensors[2].input", "tensors[2].out", "tensors[2].reserved"},
    {"tensors[3].input", "tensors[3].out", "tensors[3].reserved"},
    {"tensors[4].input", "tensors[4].out", "tensors[4].reserved"},
    {"tensors[5].input", "tensors[5].out", "tensors[5].reserved"},
    {"tensors[6].input", "tensors[6].out", "tensors[6].reserved"},
    {"tensors[7].input", "tensors[7].out", "tensors[7].reserved"}};
constexpr const char* kPosition = "position";
constexpr const char* kPositionOut = "position_out";

bool has_elements(const Axis& axis) { return axis.outer > 0 && axis.size > 0 && axis.inner > 0; }

void check_tensor(const exn_gather_tensor& from, const Names& names, Check& check, GatherArgs* a) {
  check.reserved(from.reserved, names.reserved);
  const Axis input = check.along(names.input, from.input, from.axis, kAnything, Role::kIn);
  const Axis out = check.along(names.out, from.out, from.axis, kAnything, Role::kOut);
  check.same(names.input, "entries along its axis", input.size, "rows", a->rows);
  check.same_dtype(names.out, out.dtype, names.input, input.dtype);
  if (!check.ok()) return;
  check.same(names.out, "axes", from.out->ndim, names.input, from.input->ndim);
  for (int32_t i = 0; check.ok() && i < from.input->ndim; ++i) {
    if (i != from.axis && from.out->shape[i] != from.input->shape[i]) {
      check.fail_argument("%s has size %lld in axis %d, but %s has %lld", names.out,
                          static_cast<long long>(from.out->shape[i]), i, names.input,
                          static_cast<long long>(from.input->shape[i]));
    }
  }
  if (check.ok() && out.size < a->listed) {
    check.fail_argument("%s has %lld entries along its axis, but list has %lld", names.out,
                        static_cast<long long>(out.size), static_cast<long long>(a->listed));
  }
  check.may_alias(names.out, names.input);
  // An empty tensor is in no place.
  const bool in_place = has_elements(input) && has_elements(out) && input.data == out.data;
  if (in_place) {  // one tensor: then it has one layout
    check.same(names.out, "entries along its axis", out.size, names.input, input.size);
    check.same(names.out, "elements between entries", out.stride, names.input, input.stride);
  }
  const int64_t element = size_of(input.dtype);
  GatherItem& item = a->items[a->item_count++];
  item.input = static_cast<const char*>(input.data);
  item.out = static_cast<char*>(out.data);
  item.in_place = in_place;
  item.element = element;
  item.outer = input.outer;
  item.bytes = input.inner * element;
  item.input_outer_stride = input.outer_stride * element;
  item.input_stride = input.stride * element;
  item.out_outer_stride = out.outer_stride * element;
  item.out_stride = out.stride * element;
  a->in_place = a->in_place || in_place;
}

void check_positions(const exn_gather_params& p, Check& check, GatherArgs* a) {
  check.one_of("positions", p.positions, EXN_POSITIONS_KEEP, EXN_POSITIONS_RENUMBER);
  const bool renumbered = p.positions == EXN_POSITIONS_RENUMBER;
  if (renumbered) check.absent(kPosition, p.position, "positions is EXN_POSITIONS_RENUMBER (1)");
  if (!renumbered && p.first_position != 0) {
    check.fail_argument("first_position is %d, but positions is EXN_POSITIONS_KEEP (0)",
                        p.first_position);
  }
  if (renumbered && p.first_position > INT32_MAX - a->listed + 1) {
    check.fail_argument(
        "first_position is %d, which leaves no room below 2^31 for the %lld entries of list",
        p.first_position, static_cast<long long>(a->listed));
  }
  a->position = check.per_row<const int32_t>(kPosition, p.position, kI32Only, Role::kIn, "rows",
                                             a->rows, Need::kOptional);
  const Vector out =
      check.vector(kPositionOut, p.position_out, kI32Only, Role::kOut, Need::kOptional);
  if (p.position_out == nullptr) {
    if (p.position != nullptr) check.absent(kPosition, p.position, "position_out is null");
  } else {
    check.at_least("elements of position_out", out.size, a->listed);
  }
  check.may_alias(kPositionOut, kPosition);
  a->position_out = static_cast<int32_t*>(out.data);
  a->positions = p.positions;
  a->first_position = p.first_position;
  a->positions_in_place = p.position_out != nullptr && p.position != nullptr && out.size > 0 &&
                          a->rows > 0 && out.data == a->position;
  a->in_place = a->in_place || a->positions_in_place;
}

void check_args(const exn_gather_params& p, Check& check, GatherArgs* a) {
  check.reserved(p.reserved);
  check.one_of("tensor_count", p.tensor_count, 0, EXN_GATHER_MAX_TENSORS);
  check.at_least("rows", p.rows, 0);
  check.at_most("rows", p.rows, INT32_MAX);
  if (check.ok() && p.tensor_count > 0 && p.tensors == nullptr) {
    check.fail_argument("tensors is null, %d tensors are expected", p.tensor_count);
  }
  a->rows = p.rows;
  const Vector list = check.vector("list", p.list, kI32Only, Role::kIn);
  a->list = static_cast<const int32_t*>(list.data);
  a->listed = list.size;
  a->count = check.per_row<const int32_t>("count", p.count, kI32Only, Role::kIn, "a count", 1,
                                          Need::kOptional);
  a->moved =
      check.per_row<int32_t>("moved", p.moved, kI32Only, Role::kOut, "a count", 1, Need::kOptional);
  for (int32_t i = 0; check.ok() && i < p.tensor_count; ++i) {
    check_tensor(p.tensors[i], kNames[i], check, a);
  }
  check_positions(p, check, a);
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(gather, GatherArgs, check_args)
