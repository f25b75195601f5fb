// SPDX-License-Identifier: Apache-2.0
// The digest of images beside XXH64 as others compute it.
#include "base/digest.h"

#include <exeunt/exeunt.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <string>
#include <vector>

namespace exn::test {
namespace {

TEST(DigestTables, IsXxh64WithTwoSeeds) {
  const struct {
    std::string text;
    uint64_t digest[2];
  } known[] = {
      {"", {0xef46db3751d8e999u, 0x92ff095aacaedd24u}},
      {"a", {0xd24ec4f1a98c6e5bu, 0x5e041645d25b8bb6u}},
      {"abc", {0x44bc2cf5ad770999u, 0xb8d965bcf76e9b21u}},
      {std::string(100, 'x'), {0x92f0de5a88a3c094u, 0xe21bf1ec944d8011u}},
  };
  for (const auto& [text, expected] : known) {
    Digest whole;
    whole.bytes(text.data(), static_cast<int64_t>(text.size()));
    EXPECT_TRUE(whole.is(expected)) << text;
    uint64_t taken[2];
    whole.take(taken);
    EXPECT_EQ(taken[0], expected[0]);
    EXPECT_EQ(taken[1], expected[1]);
    for (int s = 0; s < 2; ++s) {
      taken[s] ^= 1;
      EXPECT_FALSE(whole.is(taken));
      taken[s] ^= 1;
    }
  }
}

TEST(DigestTables, DoesNotDependOnHowBytesCome) {
  std::vector<char> bytes(300);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * i % 251);
  Digest whole;
  whole.bytes(bytes.data(), 300);
  uint64_t expected[2];
  whole.take(expected);
  for (int64_t step = 1; step <= 300; ++step) {
    Digest parts;
    for (int64_t i = 0; i < 300; i += step)
      parts.bytes(bytes.data() + i, step < 300 - i ? step : 300 - i);
    EXPECT_TRUE(parts.is(expected)) << step;
  }
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<char>(bytes[i] ^ 16);
    Digest other;
    other.bytes(bytes.data(), 300);
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
