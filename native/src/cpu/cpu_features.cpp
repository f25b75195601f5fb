// SPDX-License-Identifier: Apache-2.0
#include "cpu_features.h"

#include "base/platform/platform.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cstdint>
#include <cstdio>

namespace exn::cpu {

#if defined(__x86_64__)
namespace {

struct Features {
  bool avx2 = false;
  bool vnni = false;
  bool avx512 = false;
  bool tiles = false;
};

bool bit(uint32_t word, int n) { return (word >> n & 1) != 0; }

// CPUID says what the processor has, XGETBV what the system saves on a context switch; both are
// needed, or the first wide instruction faults.
uint64_t saved_state() {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
}

Features detect() {
  Features f;
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return f;
  const bool fma = bit(c, 12), osxsave = bit(c, 27), f16c = bit(c, 29);
  if (!osxsave || !fma || !f16c) return f;
  const uint64_t saved = saved_state();
  const bool ymm = (saved & 0x6) == 0x6;
  const bool zmm = (saved & 0xe6) == 0xe6;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return f;
  f.avx2 = ymm && bit(b, 5) && bit(b, 3) && bit(b, 8);
  const bool foundation = bit(b, 16) && bit(b, 17) && bit(b, 30) && bit(b, 31);
  // VBMI, VBMI2, GFNI, VNNI
  const bool bytes = bit(c, 1) && bit(c, 6) && bit(c, 8) && bit(c, 11);
  f.vnni = f.avx2 && zmm && foundation && bytes;
  uint32_t a1 = 0, b1, c1, d1;
  if (a < 1 || !__get_cpuid_count(7, 1, &a1, &b1, &c1, &d1)) return f;
  f.avx512 = f.vnni && bit(a1, 5);
  f.tiles = bit(d, 22) && bit(d, 24) && (saved & 0x60000) == 0x60000;
  return f;
}

// The caches that this leaf describes. Makers have one of their own each, of one form.
void add_caches(uint32_t leaf, Processor* p) {
  constexpr uint32_t kData = 1, kUnified = 3;
  uint32_t a, b, c, d;
  for (uint32_t i = 0; i < 16 && __get_cpuid_count(leaf, i, &a, &b, &c, &d); ++i) {
    const uint32_t kind = a & 31, level = a >> 5 & 7;
    if (kind == 0) return;
    if (kind != kData && kind != kUnified) continue;
    const int64_t bytes =
        (int64_t{b >> 22} + 1) * ((b >> 12 & 1023) + 1) * ((b & 4095) + 1) * (int64_t{c} + 1);
    (level == 1 ? p->l1 : level == 2 ? p->l2 : p->l3) = bytes;
  }
}

Processor identify() {
  Processor p;
  uint32_t a, b, c, d, maker[3];
  if (!__get_cpuid(0, &a, &maker[0], &maker[2], &maker[1])) return p;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return p;
  const uint32_t family = a >> 8 & 15, extended = family == 15 ? a >> 20 & 255 : 0;
  const uint32_t model = (a >> 4 & 15) | (family == 15 || family == 6 ? a >> 12 & 240 : 0);
  std::snprintf(p.name, sizeof p.name, "%.12s/%u/%u/%u", reinterpret_cast<const char*>(maker),
                family + extended, model, a & 15);
  add_caches(4, &p);
  if (p.l1 == 0) add_caches(0x8000001d, &p);
  return p;
}

const Features& features() {
  static const Features f = detect();
  return f;
}

}  // namespace

bool has_avx2() { return features().avx2; }
bool has_vnni() { return features().vnni; }
bool has_avx512() { return features().avx512; }
// Asks, which detect() must not: a process that forces another set goes without.
bool has_amx() {
  static const bool may = features().avx512 && features().tiles && platform::may_use_tiles();
  return may;
}
#endif

const Processor& processor() {
#if defined(__x86_64__)
  static const Processor p = identify();
#else
  static const Processor p;
#endif
  return p;
}

}  // namespace exn::cpu
