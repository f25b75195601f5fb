// SPDX-License-Identifier: Apache-2.0
// The generator beside published words, its numbers beside double precision.
#include "base/philox.h"

#include <gtest/gtest.h>

#include <cmath>

#include "known_noise.h"

namespace exn::test {
namespace {

uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

TEST(PhiloxTables, IsThatOfRandom123) {
  for (const KnownBlock& known : kKnownBlocks) {
    PhiloxBlock counter;
    std::memcpy(counter.words, known.counter, sizeof counter.words);
    const PhiloxBlock block = philox(counter, known.key);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(block.words[i], known.words[i]) << known.key << " " << i;
  }
}

TEST(PhiloxTables, NoiseHasKnownBits) {
  for (const auto& [word, noise] : kKnownGumbel) EXPECT_EQ(bits_of(gumbel_of(word)), noise) << word;
  for (const KnownNoise& known : kKnownNoise) {
    const auto bits = [&](int32_t id) { return bits_of(noise_of(known.key, known.counter, id)); };
    EXPECT_EQ(bits(0), known.first);
    EXPECT_EQ(bits(kLastId), known.last);
    uint64_t digest = 0;
    for (int32_t id = 0; id < kDigested; ++id) digest = digest * 31 + bits(id);
    EXPECT_EQ(digest, known.digest);
  }
}

TEST(PhiloxTables, NoiseIsGumbelsOfTheWord) {
  for (uint32_t i = 0; i < 100000; ++i) {
    // Half of them near one of the ends.
    const PhiloxBlock some = philox({{i, 0, 0, 0}}, 5);
    const uint32_t w = (some.words[0] >> some.words[1] % 32) ^ (some.words[2] % 2 == 0 ? 0 : ~0u);
    const double v = (w + 0.5) / 0x1p32, exact = -std::log(-std::log1p(-v));
    EXPECT_NEAR(static_cast<double>(gumbel_of(w)), exact, 2e-7 * (1 + std::fabs(exact))) << w;
  }
}

}  // namespace
}  // namespace exn::test
