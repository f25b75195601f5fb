// SPDX-License-Identifier: Apache-2.0
#include <exeunt/layer_schedule.h>

#include "backends.h"
#include "base/args/layer_schedule.h"

namespace exn {
namespace {

void check_skip_decode(const exn_layer_schedule_params& p, Check& check, int64_t layers) {
  check.at_least("horizon", p.horizon, static_cast<int64_t>(p.prompt) + 1);
  check.at_least("least", p.least, 1);
  check.at_least("most", p.most, p.least);
  check.at_most("most", p.most, layers);
  check.at_least("warm_up", p.warm_up, 0);
  check.at_most("warm_up", p.warm_up, p.least);
}

void check_calm(const exn_layer_schedule_params& p, Check& check) {
  check.at_least("first_exit", p.first_exit, 0);
  check.at_least("min_exit", p.min_exit, 0);
  check.at_least("interval", p.interval, 1);
  check.one_of("decay", p.decay, EXN_DECAY_NONE, EXN_DECAY_CALM_PAPER);
  check.at_least("horizon", p.horizon, 1);
  check.finite("start_threshold", p.start_threshold);
  check.not_negative("tau", p.tau);
}

void check_order(const exn_layer_schedule_params& p, Check& check, LayerScheduleArgs* a) {
  const Vector order = check.vector("order", p.order, kI32Only, Role::kIn);
  check.at_least("K (entries of order)", order.size, 1);
  check.at_most("K (entries of order)", order.size, a->model_layers);
  a->order = static_cast<const int32_t*>(order.data);
  a->order_count = order.size;
}

void check_args(const exn_layer_schedule_params& p, Check& check, LayerScheduleArgs* a) {
  const Vector layers = check.flat("layers", p.layers, {2, 2}, kI32Only, Role::kOut);
  if (!check.ok()) return;
  a->layers = static_cast<int32_t*>(layers.data);
  a->positions = p.layers->shape[0];
  a->model_layers = p.layers->shape[1];
  check.at_least("L (columns of layers)", a->model_layers, 1);
  check.at_most("L (columns of layers)", a->model_layers, 1 << 20);
  check.one_of("kind", p.kind, EXN_SCHEDULE_SKIPDECODE, EXN_SCHEDULE_UNIFIED);
  check.at_least("prompt", p.prompt, 0);
  a->count = check.per_row<int32_t>("count", p.count, kI32Only, Role::kOut, "the rows of layers",
                                    a->positions);
  const Vector test =
      check.flat("exit_test", p.exit_test, {2, 2}, kU8Only, Role::kOut, Need::kOptional);
  check.shape("exit_test", p.exit_test, {a->positions, a->model_layers});
  a->exit_test = static_cast<uint8_t*>(test.data);
  if (p.kind != EXN_SCHEDULE_CALM) {
    check.absent("threshold", p.threshold, "kind is not EXN_SCHEDULE_CALM (1)");
  }
  if (p.kind != EXN_SCHEDULE_FIXED) {
    check.absent("order", p.order, "kind is not EXN_SCHEDULE_FIXED (2)");
  }
  a->threshold = check.per_row<float>("threshold", p.threshold, kF32Only, Role::kOut,
                                      "the rows of layers", a->positions, Need::kOptional);
  if (p.kind == EXN_SCHEDULE_SKIPDECODE) check_skip_decode(p, check, a->model_layers);
  if (p.kind == EXN_SCHEDULE_CALM) check_calm(p, check);
  if (p.kind == EXN_SCHEDULE_FIXED) check_order(p, check, a);
  if (p.kind == EXN_SCHEDULE_UNIFIED) {
    check.at_least("least", p.least, 1);
    check.at_most("least", p.least, a->model_layers);
  }
  a->kind = p.kind;
  a->prompt = p.prompt;
  a->horizon = p.horizon;
  a->most = p.most;
  a->least = p.least;
  a->warm_up = p.warm_up;
  a->first_exit = p.first_exit;
  a->min_exit = p.min_exit;
  a->interval = p.interval;
  a->decay = p.decay;
  a->start_threshold = p.start_threshold;
  a->tau = p.tau;
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(layer_schedule, LayerScheduleArgs, check_args)
