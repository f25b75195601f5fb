// SPDX-License-Identifier: Apache-2.0
#include "config.h"

#include <cstdlib>
#include <cstring>
#include <string>

namespace simt {
namespace {

constexpr const char* kNames[] = {"POLICY",   "SEED", "RACECHECK", "REPORTS", "PREEMPT",
                                  "RESIDENT", "SMS",  "MEMORY",    "PROTECT", "TRAFFIC",
                                  "L2",       "FAIL", "REFUSE"};

bool parse_policy(const char* text, Policy* policy) {
  const struct {
    const char* name;
    Policy policy;
  } known[] = {{"inorder", Policy::kInOrder},
               {"reverse", Policy::kReverse},
               {"random", Policy::kRandom},
               {"priority", Policy::kPriority}};
  for (const auto& entry : known) {
    if (std::strcmp(text, entry.name) == 0) {
      *policy = entry.policy;
      return true;
    }
  }
  return false;
}

bool parse_number(const char* text, uint64_t minimum, uint64_t maximum, uint64_t* number) {
  char* end = nullptr;
  *number = std::strtoull(text, &end, 0);
  return end != text && *end == '\0' && *number >= minimum && *number <= maximum;
}

template <class T>
bool assign(T* target, const char* text, uint64_t minimum, uint64_t maximum) {
  uint64_t number = 0;
  if (!parse_number(text, minimum, maximum, &number)) return false;
  *target = static_cast<T>(number);
  return true;
}

bool apply(Config* config, const std::string& name, const char* value) {
  constexpr uint64_t kMaxInt = 0x7fffffff;
  if (name == "POLICY") return parse_policy(value, &config->policy);
  if (name == "SEED") return assign(&config->seed, value, 0, UINT64_MAX);
  if (name == "RACECHECK") return assign(&config->race_check, value, 0, 1);
  if (name == "REPORTS") return assign(&config->max_reports, value, 0, kMaxInt);
  if (name == "PREEMPT") return assign(&config->preempt_one_in, value, 0, kMaxInt);
  if (name == "RESIDENT") return assign(&config->resident_blocks, value, 1, 64);
  if (name == "SMS") return assign(&config->multiprocessors, value, 1, 1024);
  if (name == "MEMORY") return assign(&config->device_memory, value, 0, uint64_t{64} << 30);
  if (name == "TRAFFIC") return assign(&config->follow_traffic, value, 0, 1);
  if (name == "L2") return assign(&config->l2_bytes, value, 1024, uint64_t{1} << 30);
  if (name == "FAIL") return assign(&config->fail_launch, value, 0, kMaxInt);
  if (name == "REFUSE") return assign(&config->refuse_launch, value, 0, kMaxInt);
  if (name == "PROTECT") return assign(&config->protect_device_memory, value, 0, 1);
  return false;
}

Config from_environment() {
  Config config;
  for (const char* name : kNames) {
    const char* value = std::getenv((std::string("EXN_SIMT_") + name).c_str());
    if (value != nullptr) apply(&config, name, value);
  }
  return config;
}

}  // namespace

Config& config() {
  static Config instance = from_environment();
  return instance;
}

bool configure(const char* name, const char* value) {
  return name != nullptr && value != nullptr && apply(&config(), name, value);
}

void Random::seed(uint64_t seed) {
  state_ = seed * 0x9e3779b97f4a7c15ull | 1;
  next();
}

uint32_t Random::next() {
  state_ ^= state_ << 13;
  state_ ^= state_ >> 7;
  state_ ^= state_ << 17;
  return static_cast<uint32_t>(state_ * 0x2545f4914f6cdd1dull >> 32);
}

}  // namespace simt
