// SPDX-License-Identifier: Apache-2.0
//
// Memory for the tensors of a case: slots between pages that may not be touched. Each is mapped
// twice. What an op may only read it gets through a view that faults when written, so no page's
// protection changes from case to case.
#pragma once

#include "maker.h"

namespace exn::fuzz {

using namespace test;

class Arena : public Memory {
 public:
  Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  void reset() override;
  Slot* take(size_t bytes) override;
  // The taken slot in one of whose views the address lies, or null; *offset: from the slot's begin,
  // below 0 or beyond its size if the address is in the slot's guards.
  const Slot* around(uintptr_t address, int64_t* offset, bool* writable) const;

 private:
  static constexpr int kMostSlots = 96;
  struct Size {
    size_t bytes;
    int count;
  };
  // The second half of these sizes is what few tensors of few cases need.
  static constexpr Size kSizes[] = {{4096, kMostSlots}, {65536, 24}, {1 << 20, 6}};

  struct Class {
    Slot slots[kMostSlots];
    char* views[2];  // of slot 0's front guard: writable, read-only
    size_t stride;
    int count;
    int used;
  };
  Class classes_[sizeof kSizes / sizeof *kSizes];
};

}  // namespace exn::fuzz
