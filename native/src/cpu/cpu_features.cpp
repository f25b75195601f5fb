// SPDX-License-Identifier: Apache-2.0
#include "cpu_features.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

#include <cstdint>
#include <cstdlib>

namespace exn::cpu {

#if defined(__x86_64__)
namespace {

struct Features {
  bool avx2 = false;
  bool avx512 = false;
  bool tiles = false;
  bool intel = false;
};

bool bit(uint32_t word, int n) { return (word >> n & 1) != 0; }

// CPUID says what the processor has, XGETBV what the system saves on a context switch; both are
// needed, or the first wide instruction faults.
uint64_t saved_state() {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
}

// Linux hands the registers of tiles out to processes that ask for them, and refuses where a signal
// stack of one of its threads is too short for them.
bool may_use_tiles() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

Features detect() {
  Features f;
  uint32_t a, b, c, d;
  // "GenuineIntel"
  if (__get_cpuid(0, &a, &b, &c, &d))
    f.intel = b == 0x756e6547 && d == 0x49656e69 && c == 0x6c65746e;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return f;
  const bool fma = bit(c, 12), osxsave = bit(c, 27), f16c = bit(c, 29);
  if (!osxsave || !fma || !f16c) return f;
  const uint64_t saved = saved_state();
  const bool ymm = (saved & 0x6) == 0x6;
  const bool zmm = (saved & 0xe6) == 0xe6;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return f;
  f.avx2 = ymm && bit(b, 5) && bit(b, 3) && bit(b, 8);
  const bool foundation = bit(b, 16) && bit(b, 17) && bit(b, 30) && bit(b, 31);
  uint32_t a1 = 0, b1, c1, d1;
  if (a < 1 || !__get_cpuid_count(7, 1, &a1, &b1, &c1, &d1)) return f;
  f.avx512 = f.avx2 && zmm && foundation && bit(a1, 5);
  f.tiles = bit(d, 22) && bit(d, 24) && (saved & 0x60000) == 0x60000;
  return f;
}

const Features& features() {
  static const Features f = detect();
  return f;
}

}  // namespace

bool has_avx2() { return features().avx2; }
bool has_avx512() { return features().avx512; }
// Asks, which detect() must not: a process that forces another set goes without.
bool has_amx() {
  static const bool may = features().avx512 && features().tiles && may_use_tiles();
  return may;
}
#endif

// The maker, whose cores differ in what they are fast at. Tests take either way.
static bool intel() {
#if defined(EXN_EMULATE_AVX512)
  return std::getenv("EXEUNT_TEST_AS_INTEL") != nullptr;
#elif defined(__x86_64__)
  return features().intel;
#else
  return true;
#endif
}

bool bf16_dot_pays() { return !intel(); }
bool alternation_pays() { return intel(); }
bool line_requests_pay() { return intel(); }
bool copies_by_l2() { return intel(); }
bool asking_again_pays() { return !intel(); }

}  // namespace exn::cpu
