// SPDX-License-Identifier: Apache-2.0
#include "report.h"

#include <dlfcn.h>

#include <cstdio>
#include <map>
#include <set>
#include <string>

#include "config.h"
#include "thread_state.h"

namespace simt {
namespace {

struct Reports {
  const char* kernel = "?";
  std::set<std::string> seen_in_launch;
  std::string text;
  uint64_t count = 0;
};

Reports& reports() {
  static Reports instance;
  return instance;
}

std::string run_addr2line(const std::string& command) {
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return "";
  char line[512];
  std::string output;
  while (fgets(line, sizeof line, pipe) != nullptr) output = line;
  pclose(pipe);
  output = output.substr(0, output.find_first_of("\n("));  // "(discriminator 2)" says nothing
  while (!output.empty() && output.back() == ' ') output.pop_back();
  return output.find("??") == std::string::npos ? output : "";
}

std::string look_up(const void* pc) {
  Dl_info info{};
  if (dladdr(pc, &info) == 0 || info.dli_fname == nullptr) return "?";
  // The address after a call belongs to the next statement.
  const auto offset = static_cast<const char*>(pc) - static_cast<const char*>(info.dli_fbase) - 1;
  char hex[32];
  snprintf(hex, sizeof hex, "0x%zx", static_cast<size_t>(offset));
  const std::string module = info.dli_fname;
  const std::string line =
      run_addr2line("addr2line -s -e '" + module + "' " + hex + " 2>/dev/null");
  return line.empty() ? module + "+" + hex : line;
}

// A race is found at the same two instructions again and again, and
// looking one up starts a process.
const std::string& symbolize(const void* pc) {
  static std::map<const void*, std::string> known;
  const auto found = known.find(pc);
  return found != known.end() ? found->second : known.emplace(pc, look_up(pc)).first->second;
}

}  // namespace

std::string describe(const Location& location) {
  if (location.file != nullptr)
    return std::string(location.file) + ":" + std::to_string(location.line);
  return location.pc != nullptr ? symbolize(location.pc) : "?";
}

void begin_reports(const char* kernel) {
  reports().kernel = kernel;
  reports().seen_in_launch.clear();
}

void report(const char* what, const Location& where, const std::string& detail) {
  Reports& state = reports();
  ++state.count;
  char place[64];
  snprintf(place, sizeof place, "%p:%d:%p", static_cast<const void*>(where.file), where.line,
           where.pc);
  if (static_cast<int>(state.seen_in_launch.size()) >= config().max_reports) return;
  if (!state.seen_in_launch.insert(std::string(what) + place).second) return;

  std::string text =
      std::string("simt: ") + what + " in " + state.kernel + " at " + describe(where);
  if (const auto* fiber = static_cast<const Fiber*>(current)) {
    text +=
        ", block " + std::to_string(fiber->block->id) + " thread " + std::to_string(fiber->linear);
  }
  if (!detail.empty()) text += ": " + detail;
  text += "\n";
  fputs(text.c_str(), stderr);
  state.text += text;
}

uint64_t report_count() { return reports().count; }

std::string report_text() { return reports().text; }

void clear_reports() {
  reports().text.clear();
  reports().seen_in_launch.clear();
  reports().count = 0;
}

}  // namespace simt
