// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/device.h"

namespace exn::cuda {

// Graphs, events and host memory, for the backend's table.
extern const DeviceCalls kDeviceCalls;

}  // namespace exn::cuda
