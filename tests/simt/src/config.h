// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace simt {

enum class Policy { kInOrder, kReverse, kRandom, kPriority };

#if defined(SIMT_MODE_RACE)
constexpr bool kRaceMode = true;
#else
constexpr bool kRaceMode = false;
#endif

struct Config {
  Policy policy = Policy::kInOrder;
  uint64_t seed = 1;
  bool race_check = true;
  int max_reports = 8;
  int preempt_one_in = 0;
  int resident_blocks = 4;
  int multiprocessors = 4;
  size_t device_memory = size_t{8} << 30;
  bool protect_device_memory = false;
  bool follow_traffic = false;
  size_t l2_bytes = size_t{1} << 20;
  int fail_launch = 0;
  int refuse_launch = 0;
};

// The settings, taken from the environment on first use.
Config& config();

// Applies one setting by its upper-case name; false if the name or the value is unknown.
bool configure(const char* name, const char* value);

// A small generator, reseeded at every launch so that a schedule can be repeated.
class Random {
 public:
  void seed(uint64_t seed);
  uint32_t next();
  uint32_t below(uint32_t bound) { return static_cast<uint32_t>(uint64_t{next()} * bound >> 32); }
  bool one_in(uint32_t n) { return below(n) == 0; }

 private:
  uint64_t state_ = 1;
};

}  // namespace simt
