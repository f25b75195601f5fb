// SPDX-License-Identifier: Apache-2.0
//
// Calls the three functions of a case's op and judges all that does not depend on its numbers:
// what had to be refused was, nothing was written then and the sentence names an argument; what had
// to be accepted was, nothing but elements of outputs was written, and a second run gives the same
// bits. Stray accesses fault by themselves.
#pragma once

#include "spoil.h"

namespace exn::fuzz {

// What is counted for each op.
struct Count {
  uint64_t cases;
  uint64_t calls;     // of the C ABI
  uint64_t accepted;  // runs that did their work
  uint64_t refused;
  uint64_t not_run;  // cases whose tensors claim memory that is not there
};

// Where a worker is, to say what it was doing when it died.
struct Progress {
  volatile uint64_t iteration;
  volatile uint64_t cases;
  volatile int op;
  const char* volatile step;
  uint64_t findings;
};

class Bench {
 public:
  Bench(Arena* arena, int32_t device_type, Progress* progress);
  ~Bench();

  // Judges a case; complains about all that is wrong.
  void judge(Case* c, Count* count);
  // How exn_last_path() must begin after a run.
  void set_path(const char* path) { path_ = path; }
  // Runs one in so many of the cases that could be run: emulated kernels are slow.
  void set_run_every(int64_t count) { run_every_ = count; }
  // Said with each complaint.
  void set_reproduction(const char* text) { reproduction_ = text; }
  // The case being judged, for a signal handler.
  const Case* current() const { return case_; }
  Arena& arena() { return *arena_; }
  void complain(const char* format, ...) __attribute__((format(printf, 2, 3)));

 private:
  static constexpr size_t kMostWorkspace = size_t{4} << 20;

  bool may_run() const;
  exn_status run(const void* params, size_t bytes, unsigned char rubbish, Count* count);
  void check_refusal(const char* function, exn_status status);
  void check_untouched(const char* when);
  void check_written();
  void restore();
  uint64_t hash_of_outputs() const;
  void step(const char* name) { progress_->step = name; }

  Arena* arena_;
  int32_t device_type_;
  Progress* progress_;
  const Case* case_ = nullptr;
  Maker* maker_ = nullptr;
  const char* reproduction_ = "";
  const char* path_ = "";
  int64_t run_every_ = 1;
  uint8_t printed_[4096] = {};  // complaints of each kind
  char* workspace_ = nullptr;   // at a guard
  char* workspace_end_ = nullptr;
};

// Prints the params of a case.
void print_case(const Case& c);

}  // namespace exn::fuzz
