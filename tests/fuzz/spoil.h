// SPDX-License-Identifier: Apache-2.0
//
// A case: a call of one op, sound as described or spoilt in one or two ways.
#pragma once

#include "arena.h"

namespace exn::fuzz {

enum class Workspace { kExact, kRoomy, kNull, kShort, kMisaligned };

struct Case {
  Case(Memory* memory, int32_t device_type) : maker(memory, device_type) {}

  const OpUnderTest* op = nullptr;
  Maker maker;
  const void* params = nullptr;
  Workspace workspace = Workspace::kExact;
  // What must come of it, as far as that is known.
  bool must_be_accepted = false;
  bool must_be_refused = false;      // by all three functions
  bool may_change_device = false;    // its only tensor may be on the other device
  bool run_must_be_refused = false;  // by the run, which alone looks at what tensors hold
  char story[512] = "";              // how it was spoilt

  void tell(const char* format, ...) __attribute__((format(printf, 2, 3)));
};

// Makes the next case of `op`; false if it wants more memory than there is.
bool make_case(Case* c, const OpUnderTest& op, Random* random);

// The addresses that a tensor claims, or false if they are beyond any.
bool memory_of(const DLTensor& t, uintptr_t* begin, uintptr_t* end);

}  // namespace exn::fuzz
