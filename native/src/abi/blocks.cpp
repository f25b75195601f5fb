// SPDX-License-Identifier: Apache-2.0
#include <exeunt/blocks.h>

#include "check.h"

extern "C" exn_status exn_blocks_row_bytes(int32_t blocks, int64_t columns, int64_t* bytes) {
  constexpr const char* kName = "exn_blocks_row_bytes";
  exn::Blocks known;
  const bool packed = blocks > EXN_BLOCKS_PACKED;  // has as many bytes
  if (!exn::panels_of(blocks, &known) &&
      !exn::blocks_of(packed ? blocks - EXN_BLOCKS_PACKED : blocks, &known)) {
    return exn::fail(EXN_INVALID_ARGUMENT, "%s: blocks is %d, expected %s, or %s", kName, blocks,
                     exn::kBlockTags, exn::kPanelTags);
  }
  const exn::BlockShape block = exn::shape_of(known);
  const auto wide = static_cast<long long>(columns);
  if (columns < 0 || columns % block.elements != 0) {
    return exn::fail(EXN_INVALID_ARGUMENT,
                     "%s: columns is %lld, expected a multiple of the %d elements of a block",
                     kName, wide, block.elements);
  }
  const int64_t all = exn::product(columns / block.elements, int64_t{block.bytes});
  if (all == INT64_MAX) {
    return exn::fail(EXN_INVALID_ARGUMENT, "%s: columns is %lld, too many", kName, wide);
  }
  if (bytes == nullptr) {
    return exn::fail(EXN_INVALID_ARGUMENT, "%s: bytes is null, a place for it is required", kName);
  }
  *bytes = all;
  return EXN_OK;
}
