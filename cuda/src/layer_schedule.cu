// SPDX-License-Identifier: Apache-2.0
#include "backend.h"
#include "base/args/layer_schedule.h"

namespace exn::cuda {

exn_status layer_schedule(const LayerScheduleArgs&, Workspace&, exn_stream) {
  return fail(EXN_UNSUPPORTED,
              "exn_layer_schedule: a schedule is made on the host: make the table with CPU tensors "
              "and copy it to the device");
}

}  // namespace exn::cuda
