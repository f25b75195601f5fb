// SPDX-License-Identifier: Apache-2.0
//
// Runs every mutant and its clean twin in a process of its own and compares what was flagged with
// what should be. Exits with 1 if a broken twin went unnoticed or a clean one was accused.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "mutants.h"
#include "simt/control.h"

namespace {

constexpr int kCleanExit = 0;
constexpr int kFlaggedExit = 42;

std::vector<Mutant>& all_mutants() {
  static std::vector<Mutant> instance;
  return instance;
}

unsigned this_mode() {
  const std::string mode = simt_mode();
  if (mode == "race") return kRace;
  return mode == "asan" ? kAsan : kPlain;
}

struct Schedule {
  const char* policy;
  const char* seed;
  const char* preempt;
};

constexpr Schedule kInOrder{"inorder", "1", "0"};
constexpr Schedule kOthers[] = {
    {"reverse", "2", "0"},  {"random", "3", "0"},   {"random", "5", "4"},   {"random", "9", "16"},
    {"priority", "6", "0"}, {"priority", "7", "4"}, {"priority", "8", "16"}};

struct Outcome {
  bool flagged = false;
  std::string text;  // what the child printed
};

[[noreturn]] void run_child(void (*body)(), const Schedule& schedule, int output) {
  dup2(output, STDERR_FILENO);
  simt_configure("POLICY", schedule.policy);
  simt_configure("SEED", schedule.seed);
  simt_configure("PREEMPT", schedule.preempt);
  simt_reset();
  body();
  const bool failed = cudaDeviceSynchronize() != cudaSuccess;
  const bool reported = simt_report_count() != 0;
  if (failed != reported) fputs("the launch's status and the reports disagree\n", stderr);
  _exit(reported || failed ? kFlaggedExit : kCleanExit);
}

Outcome run(void (*body)(), const Schedule& schedule) {
  int ends[2];
  if (pipe(ends) != 0) abort();
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) run_child(body, schedule, ends[1]);
  close(ends[1]);
  Outcome outcome;
  char buffer[4096];
  for (ssize_t n = 0; (n = read(ends[0], buffer, sizeof buffer)) > 0;) {
    outcome.text.append(buffer, static_cast<size_t>(n));
  }
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  // A sanitizer ends the process with its own exit code; an unexplained crash is no
  // finding.
  const bool sanitizer = outcome.text.find("AddressSanitizer") != std::string::npos ||
                         outcome.text.find("runtime error") != std::string::npos;
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  outcome.flagged = code == kFlaggedExit || (sanitizer && code != kCleanExit);
  if (!outcome.flagged && code != kCleanExit) outcome.text += "(crashed without a report)\n";
  return outcome;
}

std::string first_line(const std::string& text) {
  std::string line = text.substr(0, text.find('\n'));
  if (line.compare(0, 5, "=====") == 0) {
    const size_t start = text.find("ERROR: ");
    line = text.substr(start, text.find('\n', start) - start);
  }
  return line;
}

bool check_clean(const Mutant& mutant) {
  bool good = true;
  std::vector<Schedule> schedules(std::begin(kOthers), std::end(kOthers));
  schedules.push_back(kInOrder);
  for (const Schedule& schedule : schedules) {
    const Outcome outcome = run(mutant.clean, schedule);
    if (!outcome.flagged && outcome.text.empty()) continue;
    printf("FAILED  %-36s clean twin accused under %s seed %s: %s\n", mutant.name, schedule.policy,
           schedule.seed, outcome.text.c_str());
    good = false;
  }
  return good;
}

bool check_broken(const Mutant& mutant) {
  const Outcome outcome = run(mutant.broken, kInOrder);
  const bool expected = (mutant.flagged_in & this_mode()) != 0;
  const bool good = outcome.flagged || !expected;
  printf("%-7s %-36s %s\n", good ? (expected ? "ok" : "-") : "FAILED", mutant.name,
         outcome.flagged ? first_line(outcome.text).c_str() : "not flagged");
  return good;
}

}  // namespace

void register_mutants(const std::vector<Mutant>& mutants) {
  all_mutants().insert(all_mutants().end(), mutants.begin(), mutants.end());
}

int main(int argc, char** argv) {
  const char* only = argc > 1 ? argv[1] : nullptr;
  int failures = 0;
  for (const Mutant& mutant : all_mutants()) {
    if (only != nullptr && strcmp(only, mutant.name) != 0) continue;
    failures += !check_broken(mutant);
    failures += !check_clean(mutant);
  }
  printf("%zu mutants, mode %s, %d failures\n", all_mutants().size(), simt_mode(), failures);
  return failures == 0 && !all_mutants().empty() ? 0 : 1;
}
