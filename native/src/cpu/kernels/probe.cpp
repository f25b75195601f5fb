// SPDX-License-Identifier: Apache-2.0
// The read probe: a linear pass with the widest loads and nothing else to do, the speed of light of a memory-bound kernel.
#include <cstring>

#include "isa.h"

namespace exn::cpu::EXN_ISA {
namespace {

constexpr int64_t kLine = 64;
constexpr int64_t kPiece = int64_t{256} << 10;

uint64_t read_lines(const char* p, int64_t bytes) {
  probe_v acc[4] = {probe_zero(), probe_zero(), probe_zero(), probe_zero()};
  int64_t i = 0;
  for (; i + 4 * kLine <= bytes; i += 4 * kLine) {
    for (int k = 0; k < 4; ++k) acc[k] = probe_add(acc[k], p + i + k * kLine);
  }
  for (; i + kLine <= bytes; i += kLine) acc[0] = probe_add(acc[0], p + i);
  const probe_v all = probe_add(probe_add(acc[0], acc[1]), probe_add(acc[2], acc[3]));
  uint64_t words[sizeof(probe_v) / sizeof(uint64_t)];
  std::memcpy(words, &all, sizeof words);
  uint64_t sum = 0;
  for (uint64_t word : words) sum += word;
  for (; i < bytes; ++i) sum += static_cast<uint8_t>(p[i]);
  return sum;
}

}  // namespace

uint64_t read_probe(const void* data, int64_t bytes) {
  const char* p = static_cast<const char*>(data);
  uint64_t total = 0;
  const int64_t pieces = (bytes + kPiece - 1) / kPiece;
  parallel_for(pieces, 1, [&](int64_t begin, int64_t end) {
    const int64_t last = end * kPiece < bytes ? end * kPiece : bytes;
    __atomic_fetch_add(&total, read_lines(p + begin * kPiece, last - begin * kPiece), __ATOMIC_RELAXED);
  });
  return total;
}

}  // namespace exn::cpu::EXN_ISA
