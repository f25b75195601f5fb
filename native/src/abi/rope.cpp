// SPDX-License-Identifier: Apache-2.0
#include <exeunt/rope.h>

#include <algorithm>
#include <cmath>

#include "backends.h"
#include "base/args/rope.h"

namespace exn {
namespace {

// That of the last position which an i32 can name; the CUDA kernel reduces no larger one.
constexpr double kMostAngle = 0x1p31;

void check_angles(Check& check, const RopeTableArgs& a) {
  if (std::isinf(a.base)) {
    check.fail_argument("base is %g once factor has scaled it, expected a finite value", a.base);
    return;
  }
  // Frequencies fall from pair to pair, from 1 on, or rise if the base is below 1.
  const double pairs = static_cast<double>(a.pairs);
  const double frequency = std::max(1.0, std::pow(a.base, -(pairs - 1) / pairs));
  const double last = static_cast<double>(std::max<int64_t>(a.positions - 1, 0));
  const double angle = last / a.divisor * frequency;
  if (!(angle <= kMostAngle)) {
    check.fail_argument("base is %g: frequencies reach %g and angles %g, expected at most 2^31",
                        a.base, frequency, angle);
  }
}

void check_table(const exn_rope_table_params& p, Check& check, RopeTableArgs* a) {
  const Vector v = check.flat("table", p.table, {3, 3}, kF32Only, Role::kOut);
  if (check.ok() && p.table->shape[2] != 2) {
    check.fail_argument("table has %lld elements in the last axis, expected [T, n/2, 2]",
                        static_cast<long long>(p.table->shape[2]));
  }
  check.reserved(p.reserved);
  check.one_of("scaling", p.scaling, EXN_ROPE_SCALING_NONE, EXN_ROPE_SCALING_NTK);
  check.positive("base", p.base);
  if (!(p.factor >= 1) || std::isinf(p.factor)) {
    check.fail_argument("factor is %g, expected a finite value >= 1", p.factor);
  } else if (p.scaling == EXN_ROPE_SCALING_NONE && p.factor != 1) {
    check.fail_argument("factor is %g, expected 1 where scaling is EXN_ROPE_SCALING_NONE (0)",
                        p.factor);
  }
  if (!check.ok()) return;
  a->table = static_cast<float*>(v.data);
  a->positions = p.table->shape[0];
  a->pairs = p.table->shape[1];
  const bool ntk = p.scaling == EXN_ROPE_SCALING_NTK;
  check.at_least("n/2 (pairs of table)", a->pairs, ntk ? 2 : 1);
  const double n = 2.0 * static_cast<double>(a->pairs);
  a->base = ntk ? p.base * std::pow(p.factor, n / (n - 2)) : p.base;
  a->divisor = p.scaling == EXN_ROPE_SCALING_LINEAR ? p.factor : 1;
  if (check.ok()) check_angles(check, *a);
}

void check_rope(const exn_rope_params& p, Check& check, RopeArgs* a) {
  a->input = check.heads("input", p.input, kFloats, Role::kIn);
  a->position = check.per_row<const int32_t>("position", p.position, kI32Only, Role::kIn,
                                             "the rows of input", a->input.rows);
  a->table = check.rope_table("table", p.table, a->input.dim);
  a->out = check.heads("out", p.out, kFloats, Role::kOut);
  check.same("out", "rows", a->out.rows, "input", a->input.rows);
  check.same("out", "heads", a->out.heads, "input", a->input.heads);
  check.same("out", "elements per head", a->out.dim, "input", a->input.dim);
  check.same_dtype("out", a->out.dtype, "input", a->input.dtype);
  check.may_alias("out", "input");
  check.reserved(p.reserved);
  check.one_of("style", p.style, EXN_ROPE_INTERLEAVED, EXN_ROPE_HALF);
  a->style = p.style;
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(rope_table, RopeTableArgs, check_table)
EXN_DEFINE_OP(rope, RopeArgs, check_rope)
