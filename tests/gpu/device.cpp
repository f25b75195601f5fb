// SPDX-License-Identifier: Apache-2.0
#include "device.h"

#include <dlfcn.h>

#include <algorithm>
#include <stdexcept>

namespace exn::gpu {
namespace {

constexpr size_t kGuard = 256;
constexpr unsigned char kGuardByte = 0xA7;

CudaRuntime runtime;
TrafficCounters counters;
int (*configure_emulator)(const char* name, const char* value) = nullptr;

template <class Function>
void look_up(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
  if (*function == nullptr)
    throw std::runtime_error(std::string("the CUDA runtime has no ") + name);
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

void require(exn_status status, const char* what) {
  if (status == EXN_OK) return;
  throw std::runtime_error(std::string(what) + ": " + exn_status_name(status) + ": " +
                           exn_last_error());
}

void require(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string(what) + ": " + runtime.get_error_string(error));
}

void open_cuda_runtime(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    throw std::runtime_error(std::string("cannot open the CUDA runtime: ") + dlerror());
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
  look_up_emulator(library);
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

Memory::Memory(int32_t device_type, size_t bytes) : device_type_(device_type), bytes_(bytes) {
  require(exn_alloc(device_type, 0, bytes, &data_), "exn_alloc");
}

Memory::~Memory() { exn_free(device_type_, 0, data_); }

void Memory::write(const std::vector<unsigned char>& bytes) const {
  require(exn_copy(data_, device_type_, 0, bytes.data(), kDLCPU, 0, bytes.size(), nullptr),
          "exn_copy");
  require(exn_stream_synchronize(device_type_, 0, nullptr), "exn_stream_synchronize");
}

std::vector<unsigned char> Memory::read() const {
  std::vector<unsigned char> bytes(bytes_);
  require(exn_copy(bytes.data(), kDLCPU, 0, data_, device_type_, 0, bytes_, nullptr), "exn_copy");
  require(exn_stream_synchronize(device_type_, 0, nullptr), "exn_stream_synchronize");
  return bytes;
}

size_t DeviceTensor::begin() const {
  return kGuard + static_cast<size_t>(initial_.offset * test::size_of(initial_.type));
}

DeviceTensor::DeviceTensor(int32_t device_type, const test::HostTensor& initial)
    : initial_(initial) {
  if (!initial.given()) return;
  image_.assign(begin() + initial.bytes.size() + kGuard, kGuardByte);
  std::copy(initial.bytes.begin(), initial.bytes.end(),
            image_.begin() + static_cast<std::ptrdiff_t>(begin()));
  memory_ = std::make_unique<Memory>(device_type, image_.size());
  reset();
  shape_ = initial.shape;
  strides_.assign(shape_.size(), 1);
  for (size_t i = shape_.size(); i-- > 1;) strides_[i - 1] = strides_[i] * shape_[i];
  if (shape_.size() >= 2 && initial.rows == shape_[0]) strides_[0] = initial.stride;
  dl_.data = static_cast<unsigned char*>(memory_->data()) + kGuard;
  dl_.byte_offset = begin() - kGuard;
  dl_.device = {static_cast<DLDeviceType>(device_type), 0};
  dl_.ndim = static_cast<int32_t>(shape_.size());
  dl_.dtype = test::dl_type(initial.type);
  dl_.shape = shape_.data();
  dl_.strides = strides_.data();
}

void DeviceTensor::reset() {
  if (memory_ != nullptr) memory_->write(image_);
}

test::HostTensor DeviceTensor::read() const {
  test::HostTensor now = initial_;
  if (memory_ == nullptr) return now;
  const std::vector<unsigned char> bytes = memory_->read();
  std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(begin()), now.bytes.size(),
              now.bytes.begin());
  return now;
}

bool DeviceTensor::unchanged() const { return memory_ == nullptr || memory_->read() == image_; }

bool DeviceTensor::guards_intact() const {
  if (memory_ == nullptr) return true;
  std::vector<unsigned char> now = memory_->read();
  const auto row_bytes = static_cast<size_t>(initial_.cols * test::size_of(initial_.type));
  for (int64_t row = 0; row < initial_.rows; ++row) {
    const size_t at =
        begin() + static_cast<size_t>(row * initial_.stride * test::size_of(initial_.type));
    std::copy_n(image_.begin() + static_cast<std::ptrdiff_t>(at), row_bytes,
                now.begin() + static_cast<std::ptrdiff_t>(at));
  }
  return now == image_;
}

}  // namespace exn::gpu
