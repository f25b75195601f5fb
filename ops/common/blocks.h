// SPDX-License-Identifier: Apache-2.0
// Quantised matrices of the tests: made of random blocks, and read element by element in double, as
// blocks.h of the C ABI says and independently of the library. Beside them such as have their
// elements in panels, as pack.h says.
#pragma once

#include "tensor.h"

namespace exn::test {

struct BlockFormat {
  int32_t tag;  // EXN_BLOCKS_*
  const char* name;
  int64_t elements;  // of a block
  int64_t bytes;
};

// Null if no format, or kind of panels, is called so, or has that tag.
const BlockFormat* block_format(const std::string& name);
const BlockFormat* block_format(int32_t tag);

// All of them; and of panels, whose blocks are single elements.
const std::vector<BlockFormat>& block_formats();
const std::vector<BlockFormat>& panel_formats();
bool in_panels(int32_t tag);
// Of the elements in panels.
Type type_in_panels(int32_t tag);

// Rows of a float type, arranged in panels.
HostTensor panels_of(const HostTensor& rows, int64_t offset = 0);

// A u8 tensor [rows, bytes of a row]; pad and offset are bytes.
HostTensor make_blocks(const BlockFormat& format, int64_t rows, int64_t cols, int64_t pad,
                       int64_t offset);

// Fills all rows. Quants are random bits. `kind`: "normal": elements within about 2 * scale, nearly
// all of them below it; "ints": d, and m where a block has one, are integers, and all elements
// small ones; "extreme": the largest and the smallest quants and scales that there are, d as for
// normal; "zero"; "twins": as normal, rows 2k and 2k + 1 alike. `special`: "nan", "pinf", "ninf":
// the d of a block of the rows that ops/README.md names.
void fill_blocks(HostTensor* tensor, uint64_t seed, uint64_t stream, const std::string& kind,
                 float scale, const std::string& special);

// Elements of a row of blocks, or of one in panels.
std::vector<double> unpacked_row(const HostTensor& tensor, int64_t row);

}  // namespace exn::test
