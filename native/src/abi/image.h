// SPDX-License-Identifier: Apache-2.0
// What images, those of screens and of packed weights, have alike: where they lie, and how they are
// taken for what they say.
#pragma once

#include <cstring>

#include "base/screen.h"
#include "check.h"

namespace exn {

inline Vector image_of(Check& check, const DLTensor* tensor, Role role, int64_t align) {
  const Vector image = check.vector("image", tensor, kU8Only, role);
  if (check.ok() && check.device_type() != kDLCPU)
    check.fail_argument("image is on cuda, expected cpu");
  if (check.ok() && reinterpret_cast<uintptr_t>(image.data) % align != 0) {
    check.fail_argument("image is at address %p, which is not aligned to %lld bytes", image.data,
                        static_cast<long long>(align));
  }
  return image;
}

// What is wrong with the first `bytes` of an image, a header and zeros; null if nothing is.
template <class Header>
const char* read_header(const Vector& image, int64_t bytes, Header* header) {
  if (image.size < bytes) return "is shorter than its header";
  const char* const at = static_cast<const char*>(image.data);
  std::memcpy(header, at, sizeof *header);
  if (const char* wrong = wrong_in(*header, image.size)) return wrong;
  for (auto i = static_cast<int64_t>(sizeof *header); i < bytes; ++i) {
    if (at[i] != 0) return "has bytes other than 0 after its header";
  }
  return nullptr;
}

// The same of what follows them: all of it is read.
template <class Header>
const char* read_body(const Vector& image, int64_t bytes, const Header& header) {
  Digest body;
  body.bytes(static_cast<const char*>(image.data) + bytes, image.size - bytes);
  return body.is(header.body) ? nullptr : "is damaged: its checksum differs";
}

}  // namespace exn
