// SPDX-License-Identifier: Apache-2.0
// The digest of images beside XXH64 as others compute it.
#include "base/digest.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace exn::test
