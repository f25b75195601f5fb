// SPDX-License-Identifier: Apache-2.0
// The image of packed rows (exeunt/pack.h): its header.
#pragma once

#include "screen.h"

namespace exn {

constexpr int64_t kPackHeaderBytes = 4096, kPackAlign = 64;
constexpr uint32_t kPackVersion = 3;
constexpr char kPackMagic[9] = "EXNPACK\n";

// As it lies at the beginning of an image; zeros after it.
struct PackHeader {
  char magic[8];
  uint32_t version;
  int32_t blocks;  // the tag of the rows
  int64_t rows;
  int64_t columns;
  int64_t bytes;     // of the image
  uint64_t body[2];  // a digest of what follows the header
  uint64_t own;      // of all before it
};
static_assert(sizeof(PackHeader) == 64);

EXN_INLINE int64_t row_bytes(const PackHeader& h) {
  const BlockShape block = shape_of(static_cast<Blocks>(h.blocks));
  return product(h.columns / block.elements, int64_t{block.bytes});
}

// INT64_MAX: too many.
EXN_INLINE int64_t image_bytes(const PackHeader& h) {
  const int64_t rows = product(h.rows, row_bytes(h));
  return rows > INT64_MAX - kPackHeaderBytes ? INT64_MAX : rows + kPackHeaderBytes;
}

// What is wrong with a header at the beginning of `bytes` bytes, as a sentence's end; null if
// nothing is.
EXN_INLINE const char* wrong_in(const PackHeader& h, int64_t bytes) {
  if (std::memcmp(h.magic, kPackMagic, sizeof h.magic) != 0) return "does not begin as one";
  if (h.version != kPackVersion) return "is of another version";
  if (own_digest(h) != h.own) return "has a damaged header: its checksum differs";
  const BlockShape block = shape_of(static_cast<Blocks>(h.blocks));
  if (h.blocks < 0 || block.elements == 0) return "has rows of an unknown format";
  if (h.rows < 1) return "has an impossible number of rows";
  if (h.columns < 1 || h.columns % block.elements != 0) {
    return "has an impossible number of columns";
  }
  if (h.bytes != image_bytes(h)) return "has an impossible size";
  if (h.bytes != bytes) return "is not as long as it says";
  return nullptr;
}

}  // namespace exn
