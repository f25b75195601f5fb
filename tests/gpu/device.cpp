// SPDX-License-Identifier: Apache-2.0
#include "device.h"

#include <dlfcn.h>

#include <algorithm>
#include <stdexcept>

namespace exn::gpu {
namespace {

CudaRuntime runtime;
Probes opened_probes;
CubPeers opened_cub_peers;
TrafficCounters counters;
int (*configure_emulator)(const char* name, const char* value) = nullptr;

void* open_library(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw std::runtime_error(std::string("cannot open: ") + dlerror());
  return library;
}

template <class Function>
void look_up(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
  if (*function == nullptr) throw std::runtime_error(std::string("no function ") + name);
}

void look_up_emulator(void* library) {
  const char* (*mode)() = nullptr;
  *reinterpret_cast<void**>(&mode) = dlsym(library, "simt_mode");
  if (mode == nullptr || std::string(mode()) != "race") return;
  look_up(library, "simt_configure", &configure_emulator);
  look_up(library, "simt_reset", &counters.reset);
  look_up(library, "simt_bytes_requested", &counters.requested);
  look_up(library, "simt_bytes_first_touched", &counters.first_touched);
  look_up(library, "simt_bytes_past_cache", &counters.past_cache);
  counters.are_counted = true;
}

}  // namespace

void require(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string(what) + ": " + runtime.get_error_string(error));
}

void open_cuda_runtime(const std::string& path) {
  void* library = open_library(path);
  look_up(library, "cudaStreamBeginCapture", &runtime.stream_begin_capture);
  look_up(library, "cudaStreamEndCapture", &runtime.stream_end_capture);
  look_up(library, "cudaGraphLaunch", &runtime.graph_launch);
  look_up(library, "cudaGraphDestroy", &runtime.graph_destroy);
  look_up(library, "cudaGraphExecDestroy", &runtime.graph_exec_destroy);
  look_up(library, "cudaGraphInstantiateWithFlags", &runtime.graph_instantiate);
  look_up(library, "cudaEventCreate", &runtime.event_create);
  look_up(library, "cudaEventDestroy", &runtime.event_destroy);
  look_up(library, "cudaEventRecord", &runtime.event_record);
  look_up(library, "cudaEventSynchronize", &runtime.event_synchronize);
  look_up(library, "cudaEventElapsedTime", &runtime.event_elapsed_time);
  look_up(library, "cudaDeviceGetAttribute", &runtime.device_get_attribute);
  look_up(library, "cudaGetErrorString", &runtime.get_error_string);
  *reinterpret_cast<void**>(&runtime.device_get_bus_id) = dlsym(library, "cudaDeviceGetPCIBusId");
  look_up_emulator(library);
}

void open_probes(const std::string& path) {
  void* library = open_library(path);
  look_up(library, "exeunt_probe_fill", &opened_probes.fill);
  look_up(library, "exeunt_probe_read", &opened_probes.read);
  look_up(library, "exeunt_probe_fma", &opened_probes.fma);
  look_up(library, "exeunt_probe_mma", &opened_probes.mma);
  look_up(library, "exeunt_probe_mark", &opened_probes.mark);
}

void make_inputs_with(decltype(&exeunt_probe_fill) fill) { opened_probes.fill = fill; }

void open_cub_peers(const std::string& path) {
  void* library = open_library(path);
  look_up(library, "exeunt_peer_cub_name", &opened_cub_peers.name);
  look_up(library, "exeunt_peer_cub_make", &opened_cub_peers.make);
  look_up(library, "exeunt_peer_cub_free", &opened_cub_peers.free);
  look_up(library, "exeunt_peer_cub_run", &opened_cub_peers.run);
}

const CubPeers& cub_peers() { return opened_cub_peers; }

bool has_probes() { return opened_probes.fill != nullptr; }

const Probes& probes() { return opened_probes; }

int attribute(cudaDeviceAttr which) {
  int value = 0;
  require(runtime.device_get_attribute(&value, which, 0), "cudaDeviceGetAttribute");
  return value;
}

const CudaRuntime& cuda() { return runtime; }

const TrafficCounters& traffic_counters() { return counters; }

double bytes_requested() {
  return counters.are_counted ? static_cast<double>(counters.requested()) : 0.0;
}

void follow_traffic() {
  if (!counters.are_counted) {
    throw std::runtime_error("only the race build of the emulator counts bytes");
  }
  if (configure_emulator("TRAFFIC", "1") != 0 || configure_emulator("RACECHECK", "0") != 0) {
    throw std::runtime_error("the emulator does not know TRAFFIC or RACECHECK");
  }
}

Stream::Stream(int32_t device_type) : device_type_(device_type) {
  require(exn_stream_create(device_type, 0, &stream_), "exn_stream_create");
}

Stream::~Stream() { exn_stream_destroy(device_type_, 0, stream_); }

void Stream::synchronize() const {
  require(exn_stream_synchronize(device_type_, 0, stream_), "exn_stream_synchronize");
}

Graph::Graph(const Stream& stream, const std::function<void()>& record) {
  require(runtime.stream_begin_capture(stream.cuda_stream(), cudaStreamCaptureModeThreadLocal),
          "cudaStreamBeginCapture");
  cudaGraph_t graph = nullptr;
  try {
    record();
  } catch (...) {
    if (runtime.stream_end_capture(stream.cuda_stream(), &graph) == cudaSuccess)
      runtime.graph_destroy(graph);
    throw;
  }
  require(runtime.stream_end_capture(stream.cuda_stream(), &graph), "cudaStreamEndCapture");
  const cudaError_t error = runtime.graph_instantiate(&executable_, graph, 0);
  runtime.graph_destroy(graph);
  require(error, "cudaGraphInstantiate");
}

Graph::~Graph() { runtime.graph_exec_destroy(executable_); }

void Graph::launch(const Stream& stream) const {
  require(runtime.graph_launch(executable_, stream.cuda_stream()), "cudaGraphLaunch");
}

Stopwatch::Stopwatch() {
  require(runtime.event_create(&start_), "cudaEventCreate");
  require(runtime.event_create(&stop_), "cudaEventCreate");
}

Stopwatch::~Stopwatch() {
  runtime.event_destroy(start_);
  runtime.event_destroy(stop_);
}

void Stopwatch::start(const Stream& stream) const {
  require(runtime.event_record(start_, stream.cuda_stream()), "cudaEventRecord");
}

void Stopwatch::stop(const Stream& stream) const {
  require(runtime.event_record(stop_, stream.cuda_stream()), "cudaEventRecord");
}

double Stopwatch::milliseconds() const {
  require(runtime.event_synchronize(stop_), "cudaEventSynchronize");
  float elapsed = 0;
  require(runtime.event_elapsed_time(&elapsed, start_, stop_), "cudaEventElapsedTime");
  return static_cast<double>(elapsed);
}

}  // namespace exn::gpu
