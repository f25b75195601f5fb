// SPDX-License-Identifier: Apache-2.0
#include "simt/control.h"

#include <mutex>
#include <string>

#include "cache_model.h"
#include "device_memory.h"
#include "runtime_state.h"
#include "scheduler.h"

using Lock = std::lock_guard<std::mutex>;

int simt_configure(const char* name, const char* value) {
  const Lock lock(simt::runtime_mutex());
  return simt::configure(name, value) ? 0 : -1;
}

const char* simt_mode() {
#if defined(SIMT_MODE_RACE)
  return "race";
#elif defined(SIMT_MODE_ASAN)
  return "asan";
#else
  return "plain";
#endif
}

const char* simt_last_report() {
  const Lock lock(simt::runtime_mutex());
  std::string& text = simt::this_host_thread().report_text;
  text = simt::report_text();
  return text.c_str();
}

uint64_t simt_report_count() {
  const Lock lock(simt::runtime_mutex());
  return simt::report_count();
}

void simt_reset() {
  const Lock lock(simt::runtime_mutex());
  simt::clear_reports();
  simt::clear_errors();
  simt::counters() = simt::Counters{};
  simt::reset_traffic();
}

uint64_t simt_bytes_read() {
  const Lock lock(simt::runtime_mutex());
  return simt::counters().bytes_read;
}

uint64_t simt_bytes_written() {
  const Lock lock(simt::runtime_mutex());
  return simt::counters().bytes_written;
}

uint64_t simt_bytes_requested() { return simt_bytes_read() + simt_bytes_written(); }

uint64_t simt_bytes_past_cache() {
  const Lock lock(simt::runtime_mutex());
  return simt::bytes_past_cache();
}

uint64_t simt_bytes_first_touched() {
  const Lock lock(simt::runtime_mutex());
  return simt::bytes_first_touched();
}

uint64_t simt_launch_count() {
  const Lock lock(simt::runtime_mutex());
  return simt::counters().launches;
}

void simt_use_device(const simt_device* device) {
  const Lock lock(simt::runtime_mutex());
  simt::other_device() = *device;
}

uint64_t simt_live_allocations() {
  const Lock lock(simt::runtime_mutex());
  return simt::live_allocations();
}

uint64_t simt_switch_count() {
  const Lock lock(simt::runtime_mutex());
  return simt::counters().switches;
}
