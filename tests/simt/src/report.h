// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace simt {

// Where something happened: a source line where the emulator's macros know it, else an instruction.
struct Location {
  const char* file = nullptr;
  int line = 0;
  const void* pc = nullptr;
};

std::string describe(const Location& location);

// Tells reports of one launch apart from those of the next; `kernel` must outlive the launch.
void begin_reports(const char* kernel);

// Counts a finding and, the first time it occurs in a launch, prints it.
void report(const char* what, const Location& where, const std::string& detail);

uint64_t report_count();
std::string report_text();
void clear_reports();

}  // namespace simt
