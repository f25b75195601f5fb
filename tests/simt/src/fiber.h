// SPDX-License-Identifier: Apache-2.0
//
// Stacks and the switch between them.
#pragma once

#include <cstddef>

namespace simt {

#if defined(SIMT_MODE_ASAN)
constexpr size_t kStackSize = size_t{256} << 10;
#else
constexpr size_t kStackSize = size_t{64} << 10;
#endif

// One stack and the point at which its owner was left. The host thread's own stack is one too.
struct Context {
  void* stack_pointer = nullptr;
  char* stack = nullptr;  // lowest address
  size_t stack_size = 0;
  void* sanitizer_stack = nullptr;
};

// Gives `context` a stack on which `entry` will run when first switched to.
void prepare_context(Context* context, void (*entry)());

// Returns the stack, of whose functions all have returned, to the pool. The caller may still be
// running on it, as long as it leaves before the next prepare_context.
void release_stack(Context* context);

// Returns the stack, if there is one, of a thread that will not be resumed wherever it stands.
void abandon_stack(Context* context);

// Leaves `from` for `to`. `from` is never resumed when `last` is set.
void switch_context(Context* from, Context* to, bool last);

// Must be the first thing `entry` does.
void enter_context(Context* host);

// Whether the address lies on any emulated thread's stack.
bool on_any_stack(const void* address);

}  // namespace simt
