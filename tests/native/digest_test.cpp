// SPDX-License-Identifier: Apache-2.0
// The digest of images beside XXH3 as others compute it.
#include "base/digest.h"

#include <exeunt/exeunt.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <set>
#include <utility>
#include <vector>

namespace exn::test {
namespace {

std::vector<char> squares(int64_t count) {
  std::vector<char> bytes(static_cast<size_t>(count));
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * i % 251);
  return bytes;
}

TEST(DigestTables, IsXxh3WithMoreThan240Bytes) {
  const struct {
    int64_t count;
    uint64_t digest[2];
  } known[] = {
      {241, {0xfa3e3f950b821a67u, 0x8f7b3b6898244931u}},
      {256, {0x5d47b716ae4e6cc9u, 0x882aeca4f02176f7u}},
      {257, {0xbb2d64ab9dfdd340u, 0xe0c4189fd1d2607cu}},
      {1024, {0xa3115476086f73f1u, 0x58ffb390b197a68au}},
      {1025, {0x66b070bd27327c00u, 0x99fd280e417dee68u}},
      {1088, {0xc1e20c0fd2599af8u, 0x3899032ea195fd43u}},
      {1089, {0x157ca606b29f7400u, 0x1090403c8a621e7au}},
      {4096, {0x96637d627c3bc740u, 0x8f2bc487b7849122u}},
      {4999, {0x402598f95f9e3408u, 0x3828ee60d5b52ed5u}},
  };
  for (const auto& [count, expected] : known) {
    Digest whole;
    whole.bytes(squares(count).data(), count);
    EXPECT_TRUE(whole.is(expected)) << count;
    uint64_t taken[2];
    whole.take(taken);
    EXPECT_EQ(taken[0], expected[0]) << count;
    EXPECT_EQ(taken[1], expected[1]) << count;
    for (int s = 0; s < 2; ++s) {
      taken[s] ^= 1;
      EXPECT_FALSE(whole.is(taken));
      taken[s] ^= 1;
    }
  }
}

// Of less than a stripe as well, where zeros follow.
TEST(DigestTables, ZerosCount) {
  const std::vector<char> zeros(200);
  std::set<std::pair<uint64_t, uint64_t>> seen;
  for (int64_t count = 0; count <= 200; ++count) {
    Digest digest;
    digest.bytes(zeros.data(), count);
    uint64_t taken[2];
    digest.take(taken);
    EXPECT_TRUE(seen.insert({taken[0], taken[1]}).second) << count;
  }
}

TEST(DigestTables, DoesNotDependOnHowBytesCome) {
  const int64_t kBytes = 2300;
  std::vector<char> bytes = squares(kBytes);
  Digest whole;
  whole.bytes(bytes.data(), kBytes);
  uint64_t expected[2];
  whole.take(expected);
  for (int64_t step = 1; step <= kBytes; ++step) {
    Digest parts;
    for (int64_t i = 0; i < kBytes; i += step)
      parts.bytes(bytes.data() + i, std::min(step, kBytes - i));
    EXPECT_TRUE(parts.is(expected)) << step;
  }
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<char>(bytes[i] ^ 16);
    Digest other;
    other.bytes(bytes.data(), kBytes);
    EXPECT_FALSE(other.is(expected)) << i;
    bytes[i] = static_cast<char>(bytes[i] ^ 16);
  }
}

double cpu_milliseconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) * 1e-6;
}

// Says what a check of 100 MB takes, in turns with reading them.
TEST(DigestTables, DISABLED_Costs) {
  const int64_t kRows = 25'000, kColumns = 1000;
  std::vector<float> values(kRows * kColumns, 1.5f);
  int64_t shape[] = {kRows, kColumns};
  DLTensor weight = {values.data(), {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, shape, nullptr, 0};
  exn_pack_params p = {};
  p.struct_size = sizeof p;
  p.weight = &weight;
  size_t bytes = 0;
  ASSERT_EQ(exn_pack_size(&p, &bytes), EXN_OK) << exn_last_error();
  void* memory = nullptr;
  ASSERT_EQ(exn_alloc(kDLCPU, 0, bytes, &memory), EXN_OK);
  int64_t size[] = {static_cast<int64_t>(bytes)};
  DLTensor image = {memory, {kDLCPU, 0}, 1, {kDLUInt, 8, 1}, size, nullptr, 0};
  p.image = &image;
  ASSERT_EQ(exn_pack_build(&p), EXN_OK) << exn_last_error();
  p.weight = nullptr;
  ASSERT_EQ(exn_cpu_set_threads(1), EXN_OK);
  std::vector<double> checks, reads;
  for (int i = 0; i < 21; ++i) {
    const double begin = cpu_milliseconds();
    exn_pack_info info;
    ASSERT_EQ(exn_pack_check(&p, &info), EXN_OK) << exn_last_error();
    const double checked = cpu_milliseconds();
    uint64_t sum = 0;
    ASSERT_EQ(exn_read_probe(memory, bytes, 0, &sum), EXN_OK);
    checks.push_back(checked - begin);
    reads.push_back(cpu_milliseconds() - checked);
  }
  for (std::vector<double>* times : {&checks, &reads}) {
    std::sort(times->begin(), times->end());
    for (double& each : *times) each *= 1e8 / static_cast<double>(bytes);
    std::printf("%s: median %.1f, least %.1f ms of CPU time a 100 MB\n",
                times == &checks ? "check" : "read", (*times)[10], times->front());
  }
  EXPECT_EQ(exn_free(kDLCPU, 0, memory), EXN_OK);
  EXPECT_EQ(exn_cpu_set_threads(0), EXN_OK);
}

}  // namespace
}  // namespace exn::test
