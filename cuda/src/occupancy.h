// SPDX-License-Identifier: Apache-2.0
//
// How many blocks of a kernel an SM holds at once.
#pragma once

#include <atomic>
#include <cstdint>

#include "backend.h"

namespace exn::cuda {

// Of one kernel, as its registers and its shared memory allow on a device: a fixed property of the
// two, which the driver is asked for once. Asking queues nothing, so it is legal during capture.
class Occupancy {
 public:
  // With `bytes` of dynamic shared memory; `least` where the driver does not say.
  template <class Kernel>
  int64_t blocks_per_sm(Kernel kernel, int threads, int bytes, int32_t device, int64_t least) {
    std::atomic<uint64_t>& known = known_[device % kDevices];
    const uint64_t question = static_cast<uint64_t>(device) << 40 | static_cast<uint64_t>(bytes)
                                                                        << 8;
    const uint64_t answer = known.load(std::memory_order_relaxed);
    if (answer >> 8 == question >> 8 && (answer & 0xff) != 0) return answer & 0xff;
    const DeviceGuard guard(device);
    int blocks = 0;
    if (guard.status() != EXN_OK ||
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(
            &blocks, reinterpret_cast<const void*>(kernel), threads, bytes) != cudaSuccess ||
        blocks < 1) {
      cudaGetLastError();
      return least;
    }
    known.store(question | static_cast<uint64_t>(blocks), std::memory_order_relaxed);
    return blocks;
  }

 private:
  static constexpr int kDevices = 64;
  std::atomic<uint64_t> known_[kDevices] = {};  // the last question of each, and its answer
};

}  // namespace exn::cuda
