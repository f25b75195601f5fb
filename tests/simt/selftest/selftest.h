// SPDX-License-Identifier: Apache-2.0
//
// What the emulator's own tests share.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "exeunt/cuda/portable.cuh"
#include "simt/control.h"

#define ASSERT_CUDA(call) ASSERT_EQ(cudaSuccess, (call)) << cudaGetErrorString(cudaGetLastError())

// A device array of a host vector's size and contents.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count) : count_(count) {
    EXPECT_EQ(cudaSuccess, cudaMalloc(reinterpret_cast<void**>(&data_), bytes()));
  }

  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    EXPECT_EQ(cudaSuccess, cudaMemcpy(data_, values.data(), bytes(), cudaMemcpyHostToDevice));
  }

  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return data_; }

  std::vector<T> to_host() const {
    std::vector<T> values(count_);
    EXPECT_EQ(cudaSuccess, cudaMemcpy(values.data(), data_, bytes(), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  size_t bytes() const { return count_ * sizeof(T); }

  size_t count_;
  T* data_ = nullptr;
};

struct Schedule {
  const char* policy;
  const char* seed;
};

inline const std::vector<Schedule>& schedules() {
  static const std::vector<Schedule> all = {{"inorder", "1"},  {"reverse", "2"}, {"random", "3"},
                                            {"random", "4"},   {"random", "5"},  {"priority", "6"},
                                            {"priority", "7"}, {"priority", "8"}};
  return all;
}

// Runs a test body under every policy and a few seeds, and fails if the checker reports anything.
template <class Body>
void under_all_schedules(Body body) {
  for (const Schedule& schedule : schedules()) {
    SCOPED_TRACE(std::string(schedule.policy) + " seed " + schedule.seed);
    ASSERT_EQ(0, simt_configure("POLICY", schedule.policy));
    ASSERT_EQ(0, simt_configure("SEED", schedule.seed));
    ASSERT_EQ(0, simt_configure("PREEMPT", std::string(schedule.policy) == "inorder" ? "0" : "16"));
    simt_reset();
    body();
    EXPECT_EQ(0u, simt_report_count()) << simt_last_report();
    EXPECT_EQ(cudaSuccess, cudaDeviceSynchronize());
  }
  simt_configure("POLICY", "inorder");
  simt_configure("SEED", "1");
  simt_configure("PREEMPT", "0");
  simt_reset();
}
