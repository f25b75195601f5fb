// SPDX-License-Identifier: Apache-2.0
#include "fiber.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "sanitizer.h"

#if defined(SIMT_MODE_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__)
#error "the emulator's context switch is written for x86-64"
#endif

// Saves what the System V ABI asks a callee to preserve, and the stack pointer.
asm(R"(
.text
.hidden simt_switch_stack
.globl simt_switch_stack
.type simt_switch_stack, @function
simt_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size simt_switch_stack, .-simt_switch_stack
)");
extern "C" __attribute__((visibility("hidden"))) void simt_switch_stack(void** save, void* restore);

namespace simt {
namespace {

constexpr size_t kMaxStacks = size_t{64} * 1024;
constexpr size_t kGuardSize = 4096;

// All stacks come from one reservation, so that "is this address on a stack" is one comparison.
class StackPool {
 public:
  StackPool() {
    void* memory = mmap(nullptr, kMaxStacks * kStackSize, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
      perror("simt: cannot reserve stacks");
      abort();
    }
    base_ = static_cast<char*>(memory);
  }

  char* take() {
    if (free_.empty()) return create();
    char* stack = free_.back();
    free_.pop_back();
    return stack;
  }

  void put(char* stack) { free_.push_back(stack); }

  bool contains(const void* address) const {
    return static_cast<size_t>(static_cast<const char*>(address) - base_) < created_ * kStackSize;
  }

  size_t index(const char* stack) const { return static_cast<size_t>(stack - base_) / kStackSize; }

 private:
  char* create() {
    if (created_ == kMaxStacks) {
      fputs("simt: out of stacks\n", stderr);
      abort();
    }
    char* stack = base_ + created_++ * kStackSize;
    mprotect(stack, kGuardSize, PROT_NONE);
    return stack;
  }

  char* base_ = nullptr;
  size_t created_ = 0;
  std::vector<char*> free_;
};

StackPool& pool() {
  static StackPool instance;
  return instance;
}

// Stacks lie a power of two apart; starting each at another cache set keeps them from evicting one
// another.
char* top_of(char* stack) {
  const size_t colour = pool().index(stack) % 61 * 128;
  return stack + kStackSize - 64 - colour;
}

}  // namespace

void prepare_context(Context* context, void (*entry)()) {
  context->stack = pool().take();
  context->stack_size = kStackSize;
  context->sanitizer_stack = nullptr;
  constexpr int kSavedRegisters = 6;
  auto** frame = reinterpret_cast<void**>(top_of(context->stack));
  *--frame = nullptr;  // entry never returns; this keeps its frame aligned
  *--frame = reinterpret_cast<void*>(entry);
  frame -= kSavedRegisters;
  std::memset(frame, 0, kSavedRegisters * sizeof(void*));
  context->stack_pointer = frame;
}

void release_stack(Context* context) {
  pool().put(context->stack);
  context->stack = nullptr;
}

// Functions take their redzones with them when they return; these never will.
void abandon_stack(Context* context) {
  if (context->stack == nullptr) return;
  unpoison(context->stack + kGuardSize, kStackSize - kGuardSize);
  release_stack(context);
}

void switch_context(Context* from, Context* to, bool last) {
#if defined(SIMT_MODE_ASAN)
  __sanitizer_start_switch_fiber(last ? nullptr : &from->sanitizer_stack, to->stack,
                                 to->stack_size);
#else
  (void)last;
#endif
  simt_switch_stack(&from->stack_pointer, to->stack_pointer);
#if defined(SIMT_MODE_ASAN)
  __sanitizer_finish_switch_fiber(from->sanitizer_stack, nullptr, nullptr);
#endif
}

void enter_context(Context* host) {
#if defined(SIMT_MODE_ASAN)
  const void* bottom = nullptr;
  size_t size = 0;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
  if (host->stack == nullptr) {
    host->stack = static_cast<char*>(const_cast<void*>(bottom));
    host->stack_size = size;
  }
#else
  (void)host;
#endif
}

bool on_any_stack(const void* address) { return pool().contains(address); }

}  // namespace simt
