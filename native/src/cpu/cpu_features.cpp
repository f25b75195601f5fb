// SPDX-License-Identifier: Apache-2.0
#include "cpu_features.h"

#include "base/platform/platform.h"
#include "tuning.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace exn::cpu {

#if defined(__x86_64__)
namespace {

struct Features {
  bool avx2 = false;
  bool vnni = false;
  bool avx512 = false;
  bool tiles = false;
  char processor[24] = "";
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
  uint32_t a, b, c, d, maker[3];
  if (!__get_cpuid(0, &a, &maker[0], &maker[2], &maker[1])) return f;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return f;
  const uint32_t family = a >> 8 & 15, extended = family == 15 ? a >> 20 & 255 : 0;
  std::snprintf(f.processor, sizeof f.processor, "%.12s/%u", reinterpret_cast<const char*>(maker),
                family + extended);
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

// As Tuning::processor names it. Tests take either way.
static const char* processor() {
#if defined(EXN_EMULATE_AVX512)
  return std::getenv("EXEUNT_TEST_AS_INTEL") != nullptr ? "GenuineIntel" : "";
#elif defined(__x86_64__)
  return features().processor;
#else
  return "GenuineIntel";
#endif
}

static const Tuning& find_tuning() {
  const Tuning* row = kTunings;
  while (std::strncmp(processor(), row->processor, std::strlen(row->processor)) != 0) ++row;
  return *row;
}

const Tuning& tuning() {
  static const Tuning& found = find_tuning();
  return found;
}

}  // namespace exn::cpu
