// SPDX-License-Identifier: Apache-2.0
//
// Device memory, streams, graphs and events for a checker without any test framework. Everything
// that the C ABI offers is used through it; captures and events come from the CUDA runtime, opened
// by name: the real one on a machine with a GPU, or the emulator's.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cub_peers.h"
#include "memory.h"
#include "probes.h"

namespace exn::gpu {

// Cases, instances and memory are those of ops/common.
using namespace test;
using test::require;

// The CUDA runtime's entry points that the C ABI does not cover.
struct CudaRuntime {
  decltype(&cudaStreamBeginCapture) stream_begin_capture;
  decltype(&cudaStreamEndCapture) stream_end_capture;
  decltype(&cudaGraphLaunch) graph_launch;
  decltype(&cudaGraphDestroy) graph_destroy;
  decltype(&cudaGraphExecDestroy) graph_exec_destroy;
  cudaError_t (*graph_instantiate)(cudaGraphExec_t*, cudaGraph_t, unsigned long long flags);
  cudaError_t (*event_create)(cudaEvent_t*);
  decltype(&cudaEventDestroy) event_destroy;
  cudaError_t (*event_record)(cudaEvent_t, cudaStream_t);
  decltype(&cudaEventSynchronize) event_synchronize;
  decltype(&cudaEventElapsedTime) event_elapsed_time;
  decltype(&cudaDeviceGetAttribute) device_get_attribute;
  const char* (*get_error_string)(cudaError_t);
  decltype(&cudaDeviceGetPCIBusId) device_get_bus_id;  // null in the emulator
};

// Bytes of device memory that kernels have read and written, as the emulator's race build counts
// them (tests/simt/include/simt/control.h). Another runtime has none of these functions.
struct TrafficCounters {
  void (*reset)();
  uint64_t (*requested)();
  uint64_t (*first_touched)();
  uint64_t (*past_cache)();
  bool are_counted = false;
};
const TrafficCounters& traffic_counters();

// Bytes requested so far; 0 if they are not counted.
double bytes_requested();

// Has the emulator follow its accesses through a cache, and nothing that costs time besides. Throws
// if it is not the emulator's race build.
void follow_traffic();

// Throws if the library cannot be opened or lacks a function.
void open_cuda_runtime(const std::string& path);
const CudaRuntime& cuda();

// The checker's own kernels. Throws as open_cuda_runtime does.
struct Probes {
  decltype(&exeunt_probe_fill) fill;
  decltype(&exeunt_probe_read) read;
  decltype(&exeunt_probe_fma) fma;
  decltype(&exeunt_probe_mma) mma;
  decltype(&exeunt_probe_mark) mark;
};
void open_probes(const std::string& path);
// Without the others, and without a device that fills.
void make_inputs_with(decltype(&exeunt_probe_fill) fill);
bool has_probes();
const Probes& probes();

// CUB's selections, where they could be compiled. Throws as above.
struct CubPeers {
  decltype(&exeunt_peer_cub_name) name;
  decltype(&exeunt_peer_cub_make) make;
  decltype(&exeunt_peer_cub_free) free;
  decltype(&exeunt_peer_cub_run) run;
};
void open_cub_peers(const std::string& path);
const CubPeers& cub_peers();  // of null functions if it was not opened

int attribute(cudaDeviceAttr which);

// Throws with CUDA's own words.
void require(cudaError_t error, const char* what);
inline void require_probe(int error, const char* what) {
  require(static_cast<cudaError_t>(error), what);
}

class Stream {
 public:
  explicit Stream(int32_t device_type);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  exn_stream get() const { return stream_; }
  cudaStream_t cuda_stream() const { return static_cast<cudaStream_t>(stream_); }
  void synchronize() const;

 private:
  int32_t device_type_;
  exn_stream stream_ = nullptr;
};

// What `record` queues on the stream, kept for replay.
class Graph {
 public:
  Graph(const Stream& stream, const std::function<void()>& record);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void launch(const Stream& stream) const;

 private:
  cudaGraphExec_t executable_ = nullptr;
};

// Milliseconds between two points of a stream.
class Stopwatch {
 public:
  Stopwatch();
  ~Stopwatch();
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

  void start(const Stream& stream) const;
  void stop(const Stream& stream) const;
  double milliseconds() const;  // waits

 private:
  cudaEvent_t start_ = nullptr;
  cudaEvent_t stop_ = nullptr;
};

}  // namespace exn::gpu
