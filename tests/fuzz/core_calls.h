// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "trial.h"

namespace exn::fuzz {

constexpr const char* kCoreName = "core";

// One call, sound or not, of one of core.h's functions: memory, streams, probes, settings, names;
// or some with the image of a screen.
void judge_core(Bench* bench, Random* random, int32_t device_type, Count* count);

}  // namespace exn::fuzz
