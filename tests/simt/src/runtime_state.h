// SPDX-License-Identifier: Apache-2.0
//
// What the CUDA runtime calls share: the error state, streams and captures. All of it is guarded by
// runtime_mutex, but for what belongs to one host thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <cuda_runtime.h>

#include "simt/control.h"

namespace simt {

using Action = std::function<void()>;

// A capture in progress; several streams can take part in one.
struct Capture {
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id owner;
  cudaStream_t origin = nullptr;
  unsigned long long id = 0;
  bool invalidated = false;
  std::vector<Action> actions;
};

// What the runtime keeps per host thread. Not thread_local: this library's thread-local storage is
// the emulated shared memory.
struct HostThread {
  cudaError_t last_error = cudaSuccess;
  cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;
  const void* context = nullptr;  // current in the thread; null: the primary one
  std::string report_text;
};
HostThread& this_host_thread();

// What simt_use_device named; all null if it was not called.
simt_device& other_device();

// Remembers the error for cudaGetLastError and returns it.
cudaError_t fail(cudaError_t error);

// cudaSuccess, or the error that a failed launch left, which sticks.
cudaError_t context_error();
void clear_errors();

// The capture the stream takes part in, or null. `stream` must be valid.
std::shared_ptr<Capture> capture_of(cudaStream_t stream);
bool is_valid_stream(cudaStream_t stream);

// Runs the action now, or records it if the stream is being captured.
cudaError_t submit(cudaStream_t stream, Action action);

// For calls that a capture forbids, such as cudaMalloc: an error, and every capture concerned is
// invalidated, if there is one.
cudaError_t check_unsafe_call();

// Forbidden while the stream itself is being captured.
cudaError_t check_not_capturing(cudaStream_t stream);

}  // namespace simt

struct CUgraph_st {
  std::vector<simt::Action> actions;
};
