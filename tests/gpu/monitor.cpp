// SPDX-License-Identifier: Apache-2.0
#include "monitor.h"

#include <dlfcn.h>

#include "device.h"
#include "records.h"

namespace exn::gpu {
namespace {

// What nvml.h declares: it is no part of a CUDA toolkit's smallest installation.
constexpr int kSmClock = 1, kMemoryClock = 2, kTemperatureOfGpu = 0;
struct Nvml {
  int (*init)();
  int (*by_bus_id)(const char* bus_id, void** device);
  int (*by_index)(unsigned index, void** device);
  int (*clock)(void* device, int kind, unsigned* megahertz);
  int (*power)(void* device, unsigned* milliwatts);
  int (*temperature)(void* device, int sensor, unsigned* degrees);
  int (*throttle_reasons)(void* device, unsigned long long* reasons);
} nvml;

template <class Function>
bool look_up_nvml(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
  return *function != nullptr;
}

}  // namespace

void Monitor::open(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    why_ = "no " + path;
    return;
  }
  if (!look_up_nvml(library, "nvmlInit_v2", &nvml.init) ||
      !look_up_nvml(library, "nvmlDeviceGetHandleByPciBusId_v2", &nvml.by_bus_id) ||
      !look_up_nvml(library, "nvmlDeviceGetHandleByIndex_v2", &nvml.by_index) ||
      !look_up_nvml(library, "nvmlDeviceGetClockInfo", &nvml.clock) ||
      !look_up_nvml(library, "nvmlDeviceGetPowerUsage", &nvml.power) ||
      !look_up_nvml(library, "nvmlDeviceGetTemperature", &nvml.temperature) ||
      !look_up_nvml(library, "nvmlDeviceGetCurrentClocksThrottleReasons", &nvml.throttle_reasons)) {
    why_ = path + " lacks a function";
    return;
  }
  if (nvml.init() != 0) {
    why_ = "nvmlInit fails";
    return;
  }
  // CUDA's first device need not be the library's.
  char bus_id[64] = "";
  const bool has_id = cuda().device_get_bus_id != nullptr &&
                      cuda().device_get_bus_id(bus_id, sizeof bus_id, 0) == 0;
  if ((has_id ? nvml.by_bus_id(bus_id, &device_) : nvml.by_index(0, &device_)) != 0) {
    device_ = nullptr;
    why_ = "NVML does not know the device";
    return;
  }
  why_.clear();
}

std::string Monitor::read() const {
  std::string fields;
  const auto add = [&fields](const char* name, double value) {
    char text[64];
    std::snprintf(text, sizeof text, "\"%s\": %g", name, value);
    fields += (fields.empty() ? "" : ", ") + std::string(text);
  };
  if (device_ != nullptr) {
    unsigned value = 0;
    unsigned long long reasons = 0;
    if (nvml.clock(device_, kSmClock, &value) == 0) add("sm_mhz", value);
    if (nvml.clock(device_, kMemoryClock, &value) == 0) add("memory_mhz", value);
    if (nvml.power(device_, &value) == 0) add("watts", value * 1e-3);
    if (nvml.temperature(device_, kTemperatureOfGpu, &value) == 0) add("celsius", value);
    if (nvml.throttle_reasons(device_, &reasons) == 0)
      add("throttle", static_cast<double>(reasons));
  }
  return "{" + fields + "}";
}

}  // namespace exn::gpu
