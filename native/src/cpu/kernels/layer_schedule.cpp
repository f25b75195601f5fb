// SPDX-License-Identifier: Apache-2.0
// layer_schedule on the CPU: a table written once, position after position.
#include <cmath>

#include "../ids.h"
#include "base/args/layer_schedule.h"
#include "isa.h"

namespace exn::cpu::EXN_ISA {
namespace {

// Quotient of non-negative numbers, rounded to the nearest, halves up. In integers, so that no half
// is missed.
int64_t nearest_quotient(int64_t numerator, int64_t denominator) {
  return (2 * numerator + denominator) / (2 * denominator);
}

int64_t steps_after_prompt(const LayerScheduleArgs& a, int64_t position) {
  return position > a.prompt ? position - a.prompt : 0;
}

// Each writes the layers of a position in order and returns how many they are.
int64_t all_layers(const LayerScheduleArgs& a, int32_t* layers) {
  for (int64_t l = 0; l < a.model_layers; ++l) layers[l] = static_cast<int32_t>(l);
  return a.model_layers;
}

int64_t skip_decode(const LayerScheduleArgs& a, int64_t position, int32_t* layers) {
  const int64_t decay = static_cast<int64_t>(a.horizon) - a.prompt;
  const int64_t steps =
      steps_after_prompt(a, position) < decay ? steps_after_prompt(a, position) : decay;
  const int64_t fall = static_cast<int64_t>(a.most - a.least) * steps;
  const int64_t active = nearest_quotient(a.most * decay - fall, decay);
  for (int64_t i = 0; i < active; ++i) {
    layers[i] = static_cast<int32_t>(i < a.warm_up ? i : a.model_layers - active + i);
  }
  return active;
}

int64_t unified(const LayerScheduleArgs& a, int64_t position, int32_t* layers) {
  if (position < a.prompt) return all_layers(a, layers);
  const int64_t last = a.model_layers - 1;
  for (int64_t i = 0; i < a.least; ++i) {
    layers[i] = static_cast<int32_t>(a.least == 1 ? last : nearest_quotient(i * last, a.least - 1));
  }
  return a.least;
}

int64_t fixed(const LayerScheduleArgs& a, int32_t* layers) {
  for (int64_t i = 0; i < a.order_count; ++i) layers[i] = a.order[i];
  return a.order_count;
}

int64_t layers_of(const LayerScheduleArgs& a, int64_t position, int32_t* layers) {
  switch (a.kind) {
    case EXN_SCHEDULE_SKIPDECODE:
      return skip_decode(a, position, layers);
    case EXN_SCHEDULE_FIXED:
      return fixed(a, layers);
    case EXN_SCHEDULE_UNIFIED:
      return unified(a, position, layers);
    default:
      return all_layers(a, layers);
  }
}

// Only CALM asks, and only its interval is known not to be 0.
bool tests_exit(const LayerScheduleArgs& a, int64_t layer) {
  if (a.kind != EXN_SCHEDULE_CALM || layer >= a.model_layers - 1) return false;
  return layer >= a.first_exit && layer >= a.min_exit && (layer - a.first_exit) % a.interval == 0;
}

void write_exit_tests(const LayerScheduleArgs& a, uint8_t* test) {
  for (int64_t l = 0; l < a.model_layers; ++l) test[l] = tests_exit(a, l) ? 1 : 0;
}

float threshold_of(const LayerScheduleArgs& a, int64_t position) {
  if (a.decay == EXN_DECAY_NONE) return a.start_threshold;
  const float step = static_cast<float>(steps_after_prompt(a, position));
  const float fade = ::expf(-a.tau * step / static_cast<float>(a.horizon));
  if (a.decay == EXN_DECAY_CALM_CODE)
    return 0.9f * a.start_threshold + 0.1f * a.start_threshold * fade;
  const float theta = 0.9f * a.start_threshold + 0.1f * fade;
  return theta < 0 ? 0 : theta > 1 ? 1 : theta;
}

}  // namespace

exn_status layer_schedule(const LayerScheduleArgs& args, Workspace& ws) {
  if (ws.counting()) return EXN_OK;
  const exn_status status = check_distinct_ids("exn_layer_schedule", "order", args.order,
                                               args.order_count, args.model_layers - 1);
  if (status != EXN_OK) return status;
  const LayerScheduleArgs a = args;  // a copy that no store of bytes can alias
  ran(EXN_CPU_PATH(ws, "layer_schedule"));
  for (int64_t t = 0; t < a.positions; ++t) {
    int32_t* layers = a.layers + t * a.model_layers;
    const int64_t count = layers_of(a, t, layers);
    for (int64_t i = count; i < a.model_layers; ++i) layers[i] = -1;
    a.count[t] = static_cast<int32_t>(count);
    if (a.threshold != nullptr) a.threshold[t] = threshold_of(a, t);
    if (a.exit_test == nullptr) continue;
    uint8_t* test = a.exit_test + t * a.model_layers;
    if (t == 0) {
      write_exit_tests(a, test);
    } else {
      std::memcpy(test, a.exit_test, static_cast<size_t>(a.model_layers));
    }
  }
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
