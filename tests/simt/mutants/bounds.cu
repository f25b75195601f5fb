// SPDX-License-Identifier: Apache-2.0
//
// Accesses outside an array, or to memory that is not the device's.
#include "mutants.h"

namespace {

constexpr int kThreads = 64;

template <bool kBroken>
__global__ void write_past_global(float* out, int n) {
  const int end = kBroken ? n + 1 : n;
  for (int i = static_cast<int>(threadIdx.x); i < end; i += kThreads) out[i] = 1.0f;
}

template <bool kBroken>
__global__ void read_past_global(const float* in, float* out, int n) {
  const int t = static_cast<int>(threadIdx.x);
  float sum = 0.0f;
  for (int i = t; i < (kBroken ? n + 1 : n); i += kThreads) sum += in[i];
  out[t] = sum;
}

template <bool kBroken>
__global__ void read_before_global(const float* in, float* out) {
  out[threadIdx.x] = in[static_cast<int>(threadIdx.x) - (kBroken ? 1 : 0)];
}

template <bool kBroken>
__global__ void write_past_dynamic_shared(int n, float* out) {
  EXN_DYN_SMEM(memory);
  float* values = reinterpret_cast<float*>(memory);
  const int t = static_cast<int>(threadIdx.x);
  for (int i = t; i < (kBroken ? n + 1 : n); i += kThreads) values[i] = 2.0f;
  __syncthreads();
  out[t] = values[t];
}

template <bool kBroken>
__global__ void write_past_static_shared(int n, float* out) {
  __shared__ float values[kThreads];
  const int t = static_cast<int>(threadIdx.x);
  for (int i = t; i < (kBroken ? n + 1 : n); i += kThreads) values[i] = 2.0f;
  __syncthreads();
  out[t] = values[t];
}

template <bool kBroken>
__global__ void write_past_local(int n, float* out) {
  float values[4] = {};
  for (int i = 0; i < (kBroken ? n + 1 : n); ++i) values[i] = static_cast<float>(i);
  out[threadIdx.x] = values[n / 2];
}

__global__ void store(float* out) { out[threadIdx.x] = 1.0f; }

template <bool kBroken>
void run_host_pointer() {
  static float on_host[kThreads];
  EXN_LAUNCH(store, 1, kThreads, 0, nullptr, kBroken ? on_host : device_zeros<float>(kThreads));
}

template <bool kBroken>
void run_freed_pointer() {
  float* out = device_zeros<float>(kThreads);
  if (kBroken) cudaFree(out);
  EXN_LAUNCH(store, 1, kThreads, 0, nullptr, out);
}

template <bool kBroken>
__global__ void misaligned_copy(const float* in, float4* out) {
  const float* begin = in + (kBroken ? 1 : 4);
  out[threadIdx.x] = reinterpret_cast<const float4*>(begin)[threadIdx.x];
}

template <bool kBroken>
void run_write_past_global() {
  EXN_LAUNCH((write_past_global<kBroken>), 1, kThreads, 0, nullptr, device_zeros<float>(1000),
             1000);
}

template <bool kBroken>
void run_read_past_global() {
  EXN_LAUNCH((read_past_global<kBroken>), 1, kThreads, 0, nullptr, device_zeros<float>(1000),
             device_zeros<float>(kThreads), 1000);
}

template <bool kBroken>
void run_read_before_global() {
  EXN_LAUNCH((read_before_global<kBroken>), 1, kThreads, 0, nullptr, device_zeros<float>(kThreads),
             device_zeros<float>(kThreads));
}

template <bool kBroken>
void run_write_past_dynamic_shared() {
  EXN_LAUNCH((write_past_dynamic_shared<kBroken>), 1, kThreads, 100 * sizeof(float), nullptr, 100,
             device_zeros<float>(kThreads));
}

template <bool kBroken>
void run_write_past_static_shared() {
  EXN_LAUNCH((write_past_static_shared<kBroken>), 1, kThreads, 0, nullptr, kThreads,
             device_zeros<float>(kThreads));
}

template <bool kBroken>
void run_write_past_local() {
  EXN_LAUNCH((write_past_local<kBroken>), 1, kThreads, 0, nullptr, 4,
             device_zeros<float>(kThreads));
}

template <bool kBroken>
void run_misaligned() {
  EXN_LAUNCH((misaligned_copy<kBroken>), 1, kThreads, 0, nullptr,
             device_zeros<float>(4 * kThreads + 4), device_zeros<float4>(kThreads));
}

const Registration registration({
    {"write_past_global", kAllModes, run_write_past_global<false>, run_write_past_global<true>},
    {"read_past_global", kAsan | kRace, run_read_past_global<false>, run_read_past_global<true>},
    {"read_before_global", kAsan | kRace, run_read_before_global<false>,
     run_read_before_global<true>},
    {"write_past_dynamic_shared", kAllModes, run_write_past_dynamic_shared<false>,
     run_write_past_dynamic_shared<true>},
    {"write_past_static_shared", kAsan, run_write_past_static_shared<false>,
     run_write_past_static_shared<true>},
    {"write_past_local", kAsan, run_write_past_local<false>, run_write_past_local<true>},
    {"host_pointer", kRace, run_host_pointer<false>, run_host_pointer<true>},
    {"freed_pointer", kAsan | kRace, run_freed_pointer<false>, run_freed_pointer<true>},
    {"misaligned_vector_load", kAsan | kRace, run_misaligned<false>, run_misaligned<true>},
});

}  // namespace
