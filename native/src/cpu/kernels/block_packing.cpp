// SPDX-License-Identifier: Apache-2.0
// Rows of blocks as exn_pack_build (exeunt/pack.h) arranges them.
#include "block_elements.h"
#include "block_products.h"

#if defined(EXN_HAS_BYTE_DOT)
#include "block_bytes.h"
#endif

namespace exn::cpu::EXN_ISA {
namespace {

#if defined(EXN_HAS_BYTE_DOT)
// The scales of a step, in the order of its lanes; of long blocks in theirs.
template <class S>
EXN_SIMD void pack_scales(const uint8_t* p, uint8_t* to) {
  if constexpr (S::kSixBits) {
    std::memcpy(to, p + S::kPackedScales, S::kBytes - S::kPackedScales);
  } else if constexpr (S::kSuperBlock) {
    std::memcpy(to, p, 16);
    std::memcpy(to + 16, p + S::kHalfBytes, 16);
  } else {
    for (int i = 0; i < 16; ++i) {
      const uint8_t* const block = p + S::step_group_of(i) * S::kBlockBytes;
      std::memcpy(to + 2 * i, block, 2);
      if constexpr (S::kHasMin) std::memcpy(to + 32 + 2 * i, block + 2, 2);
    }
  }
}

template <Blocks kFormat>
EXN_SIMD void pack_step(const uint8_t* p, uint8_t* to) {
  using S = Step<kFormat, true>;
  bytes_v v[S::kVectors];
  S::Plain::template quants<Extent::kStep>(p, v);
  uint8_t q[S::kVectors][64];
  for (int i = 0; i < S::kVectors; ++i) store_bytes(q[i], v[i]);
  pack_scales<S>(p, to + S::kPackedScales);
  if constexpr (S::kUpperBits > 0) {
    for (int b = 0; b < 64; ++b) {
      int bits = 0;
      for (int i = 0; i < S::kVectors; ++i) bits |= q[i][b] >> 4 << i * S::kUpperBits;
      to[S::kPackedBits + b] = static_cast<uint8_t>(bits);
    }
  }
  if constexpr (S::kEightBits) {
    std::memcpy(to + S::kPackedQuants, q, sizeof q);
  } else {
    for (int i = 0; i < S::kVectors; i += 2) {
      for (int b = 0; b < 64; ++b) {
        to[S::kPackedQuants + 32 * i + b] =
            static_cast<uint8_t>((q[i][b] & 15) | (q[i + 1][b] & 15) << 4);
      }
    }
  }
}

// What is left after the last step remains as it is.
template <Blocks kFormat>
void pack_row(const uint8_t* row, int64_t bytes, uint8_t* to) {
  constexpr int kStep = Step<kFormat>::kBytes;
  int64_t at = 0;
  for (; at + kStep <= bytes; at += kStep) pack_step<kFormat>(row + at, to + at);
  std::memcpy(to + at, row + at, static_cast<size_t>(bytes - at));
}
#else
template <Blocks kFormat>
void pack_row(const uint8_t* row, int64_t bytes, uint8_t* to) {
  std::memcpy(to, row, static_cast<size_t>(bytes));
}
#endif

}  // namespace

void pack_rows(const Matrix& weight, char* to) {
  const int64_t bytes = row_bytes(weight);
  with_blocks(weight.blocks, [&](auto format) {
    parallel_for(weight.rows, 65536 / bytes + 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        pack_row<decltype(format)::value>(row_of<uint8_t>(weight, row), bytes,
                                          reinterpret_cast<uint8_t*>(to) + row * bytes);
      }
    });
  });
}

}  // namespace exn::cpu::EXN_ISA
