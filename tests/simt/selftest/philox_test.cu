// SPDX-License-Identifier: Apache-2.0
//
// The device's random numbers, bit for bit, where products and sums are contracted unless the source
// forbids it.
#include <exeunt/cuda/philox.cuh>

#include "../../native/known_noise.h"
#include "selftest.h"

namespace {

using namespace exn::test;

__global__ void block_kernel(KnownBlock known, unsigned* out) {
  const unsigned* c = known.counter;
  const uint4 words = exn::cuda::philox(make_uint4(c[0], c[1], c[2], c[3]), known.key);
  out[0] = words.x;
  out[1] = words.y;
  out[2] = words.z;
  out[3] = words.w;
}

TEST(Philox, IsThatOfRandom123) {
  DeviceArray<unsigned> out(4);
  for (const KnownBlock& known : kKnownBlocks) {
    EXN_LAUNCH(block_kernel, 1, 1, 0, nullptr, known, out.data());
    EXPECT_EQ(std::vector<unsigned>(known.words, known.words + 4), out.to_host());
  }
}

__global__ void gumbel_kernel(unsigned word, float* out) { out[0] = exn::cuda::gumbel_of(word); }

TEST(Philox, GumbelHasKnownBits) {
  DeviceArray<float> out(1);
  for (const auto& [word, noise] : kKnownGumbel) {
    EXN_LAUNCH(gumbel_kernel, 1, 1, 0, nullptr, word, out.data());
    EXPECT_EQ(noise, __float_as_uint(out.to_host()[0])) << word;
  }
}

__global__ void noise_kernel(uint64_t key, uint64_t counter, int32_t first, float* out) {
  const int32_t place = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  out[place] = exn::cuda::noise_of(key, counter, first + place);
}

TEST(Philox, NoiseHasKnownBits) {
  for (const KnownNoise& known : kKnownNoise) {
    DeviceArray<float> noise(kDigested), last(1);
    EXN_LAUNCH(noise_kernel, kDigested / 128, 128, 0, nullptr, known.key, known.counter, 0,
               noise.data());
    EXN_LAUNCH(noise_kernel, 1, 1, 0, nullptr, known.key, known.counter, kLastId, last.data());
    uint64_t digest = 0;
    for (const float x : noise.to_host()) digest = digest * 31 + __float_as_uint(x);
    EXPECT_EQ(known.digest, digest);
    EXPECT_EQ(known.first, __float_as_uint(noise.to_host()[0]));
    EXPECT_EQ(known.last, __float_as_uint(last.to_host()[0]));
  }
}

}  // namespace
