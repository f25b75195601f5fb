// SPDX-License-Identifier: Apache-2.0
//
// The static shared variables of all kernels in this library: its thread-local storage. Each block
// has a copy of its own, which is put in place while it runs.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>

namespace simt {

struct StaticShared {
  unsigned char* begin = nullptr;
  size_t size = 0;
};

struct FreeBytes {
  void operator()(unsigned char* bytes) const { std::free(bytes); }
};
using SharedImage = std::unique_ptr<unsigned char[], FreeBytes>;

// Where the running kernel sees the variables.
extern StaticShared static_shared_in_place;
inline const StaticShared& static_shared() { return static_shared_in_place; }

// Around a launch, on the thread that makes it.
void enter_static_shared();
void leave_static_shared();

SharedImage new_shared_image(unsigned char poison);
void reuse_shared_image(SharedImage image);

// Puts `image` in place. `before` is what was there; null: the host's.
void place_static_shared(unsigned char* image, unsigned char* before);

}  // namespace simt
