// SPDX-License-Identifier: Apache-2.0
#include <exeunt/gate.h>

#include "backends.h"
#include "base/args/gate.h"

namespace exn {

namespace {

void check_hidden(const exn_gate_params& p, Check& check, GateArgs* a) {
  const int64_t dim = a->features.cols;
  check.format_or_packed("hidden_blocks", p.hidden_blocks);
  if (p.kind == EXN_GATE_LINEAR) {
    check.absent("hidden_weight", p.hidden_weight, "kind is EXN_GATE_LINEAR (0)");
    check.absent("hidden_bias", p.hidden_bias, "kind is EXN_GATE_LINEAR (0)");
    return;
  }
  check.one_of("repeats", p.repeats, 0, 64);
  const Need need = p.repeats > 0 ? Need::kRequired : Need::kOptional;
  const bool residual = p.kind == EXN_GATE_RESIDUAL;
  const Ranks bias_rank = residual ? Ranks{1, 1} : Ranks{2, 2};
  const auto weight = [&](std::initializer_list<int64_t> shape) {
    return check.compact_weights("hidden_weight", p.hidden_weight, shape, "hidden_blocks",
                                 p.hidden_blocks, "features", dim, need);
  };
  a->hidden_weight = residual ? weight({dim}) : weight({p.repeats, dim});
  const Vector bias =
      check.flat("hidden_bias", p.hidden_bias, bias_rank, kF32Only, Role::kIn, Need::kOptional);
  if (residual) {
    check.shape("hidden_bias", p.hidden_bias, {dim});
  } else {
    check.shape("hidden_bias", p.hidden_bias, {p.repeats, dim});
  }
  a->hidden_bias = static_cast<const float*>(bias.data);
  a->repeats = p.repeats;
}

void check_args(const exn_gate_params& p, Check& check, GateArgs* a) {
  a->features = check.matrix("features", p.features, kFloats, Role::kIn);
  const int64_t dim = a->features.cols;
  check.at_least("D (columns of features)", dim, 1);
  check.one_of("kind", p.kind, EXN_GATE_LINEAR, EXN_GATE_TANH);
  if (check.ok()) check_hidden(p, check, a);

  a->out_weight = check.compact_weights("out_weight", p.out_weight, {Check::kAnySize}, "out_blocks",
                                        p.out_blocks, "features", dim);
  check.at_least("O (rows of out_weight)", a->out_weight.rows, 1);
  check.at_most("O (rows of out_weight)", a->out_weight.rows, 2);
  const Vector bias = check.vector("out_bias", p.out_bias, kF32Only, Role::kIn, Need::kOptional);
  if (p.out_bias != nullptr) {
    check.same("out_bias", "elements", bias.size, "the rows of out_weight", a->out_weight.rows);
  }
  a->out_bias = static_cast<const float*>(bias.data);

  const Vector prob = check.vector("prob", p.prob, kF32Only, Role::kOut);
  check.same("prob", "elements", prob.size, "the rows of features", a->features.rows);
  a->prob = static_cast<float*>(prob.data);
  a->kind = p.kind;
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(gate, GateArgs, check_args)
