// SPDX-License-Identifier: Apache-2.0
//
// cp.async. The bytes may land at any moment between issue and wait, so the checker sees a write at
// both ends, and the data move at the last moment (or, by chance, at the first as well).
#include <cstring>
#include <string>

#include "race_detector.h"
#include "scheduler.h"

namespace simt {
namespace {

void perform(const AsyncCopy& copy) {
  const size_t from_global = copy.size - copy.zero_fill;
  std::memcpy(copy.shared, copy.global, from_global);
  std::memset(static_cast<char*>(copy.shared) + from_global, 0, copy.zero_fill);
}

}  // namespace

void async_copy(void* shared, const void* global, size_t size, size_t zero_fill, const char* file,
                int line) {
  const Location here{file, line, nullptr};
  const bool size_is_legal = size == 4 || size == 8 || size == 16;
  const bool aligned =
      ((reinterpret_cast<uintptr_t>(shared) | reinterpret_cast<uintptr_t>(global)) & (size - 1)) ==
      0;
  if (!size_is_legal || !aligned || zero_fill > size) {
    report("asynchronous copy of an illegal size or alignment", here, std::to_string(size));
    abort_launch();
  }
  if (zero_fill < size) check_access(global, size - zero_fill, Access::kRead, here);
  check_access(shared, size, Access::kWrite, here);
  mark_in_flight(shared, size);

  const AsyncCopy copy{shared, global, size, zero_fill, file, line};
  current_fiber()->open_copies.push_back(copy);
  const bool in_order = config().policy == Policy::kInOrder;
  if (!in_order && schedule_random().one_in(2)) perform(copy);
}

void async_commit() {
  Fiber* fiber = current_fiber();
  fiber->committed_copies.push_back(std::move(fiber->open_copies));
  fiber->open_copies.clear();
}

void async_wait(size_t groups_in_flight) {
  Fiber* fiber = current_fiber();
  while (fiber->committed_copies.size() > groups_in_flight) {
    for (const AsyncCopy& copy : fiber->committed_copies.front()) {
      check_access(copy.shared, copy.size, Access::kWrite, Location{copy.file, copy.line, nullptr});
      perform(copy);
    }
    fiber->committed_copies.pop_front();
  }
}

}  // namespace simt
