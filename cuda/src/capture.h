// SPDX-License-Identifier: Apache-2.0
//
// What allocating and freeing does to captures.
#pragma once

#include "backend.h"

namespace exn::cuda {

// While it lives, this thread may allocate and free: CUDA takes both for a danger to captures, so
// that they would fail and spoil those of this thread, and every other thread's that was begun in
// the global mode. Nothing of it is recorded.
class BesideCaptures {
 public:
  BesideCaptures() { exchange(); }
  ~BesideCaptures() { exchange(); }
  BesideCaptures(const BesideCaptures&) = delete;
  BesideCaptures& operator=(const BesideCaptures&) = delete;

 private:
  void exchange() {
    if (cudaThreadExchangeStreamCaptureMode(&mode_) != cudaSuccess) cudaGetLastError();
  }

  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

}  // namespace exn::cuda
