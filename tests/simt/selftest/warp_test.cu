// SPDX-License-Identifier: Apache-2.0
//
// Warp collectives against their definition in the CUDA programming guide.
#include <exeunt/cuda/mma.cuh>

#include "selftest.h"

namespace {

constexpr unsigned kFull = 0xffffffffu;

template <int kWidth>
__global__ void shuffle_kernel(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  const int value = 100 + lane;
  out[4 * lane + 0] = __shfl_sync(kFull, value, lane * 7 + 3, kWidth);
  out[4 * lane + 1] = __shfl_up_sync(kFull, value, 3, kWidth);
  out[4 * lane + 2] = __shfl_down_sync(kFull, value, 3, kWidth);
  out[4 * lane + 3] = __shfl_xor_sync(kFull, value, 5, kWidth);
}

template <int kWidth>
void check_shuffles() {
  DeviceArray<int> out(4 * 32);
  EXN_LAUNCH((shuffle_kernel<kWidth>), 1, 32, 0, nullptr, out.data());
  const std::vector<int> values = out.to_host();
  for (int lane = 0; lane < 32; ++lane) {
    const int first = lane / kWidth * kWidth;
    const int last = first + kWidth - 1;
    const int up = lane - 3 < first ? lane : lane - 3;
    const int down = lane + 3 > last ? lane : lane + 3;
    const int crossed = (lane ^ 5) > last ? lane : lane ^ 5;
    EXPECT_EQ(100 + first + (lane * 7 + 3) % kWidth, values[4 * lane + 0]) << lane;
    EXPECT_EQ(100 + up, values[4 * lane + 1]) << lane;
    EXPECT_EQ(100 + down, values[4 * lane + 2]) << lane;
    EXPECT_EQ(100 + crossed, values[4 * lane + 3]) << lane;
  }
}

TEST(Warp, ShufflesOfEveryWidth) {
  under_all_schedules([] {
    check_shuffles<32>();
    check_shuffles<16>();
    check_shuffles<8>();
    check_shuffles<4>();
    check_shuffles<2>();
    check_shuffles<1>();
  });
}

__global__ void types_kernel(double* doubles, unsigned long long* longs, __nv_bfloat16* halves) {
  const unsigned lane = threadIdx.x;
  doubles[lane] = __shfl_sync(kFull, lane + 0.5, 31 - lane);
  longs[lane] = __shfl_xor_sync(kFull, 1ull << (lane + 20), 1);
  halves[lane] = __shfl_down_sync(kFull, __float2bfloat16(static_cast<float>(lane)), 1);
}

TEST(Warp, ShufflesOfOtherTypes) {
  under_all_schedules([] {
    DeviceArray<double> doubles(32);
    DeviceArray<unsigned long long> longs(32);
    DeviceArray<__nv_bfloat16> halves(32);
    EXN_LAUNCH(types_kernel, 1, 32, 0, nullptr, doubles.data(), longs.data(), halves.data());
    for (unsigned lane = 0; lane < 32; ++lane) {
      EXPECT_EQ(31 - lane + 0.5, doubles.to_host()[lane]);
      EXPECT_EQ(1ull << ((lane ^ 1) + 20), longs.to_host()[lane]);
      const unsigned source = lane == 31 ? 31 : lane + 1;
      EXPECT_EQ(static_cast<float>(source), __bfloat162float(halves.to_host()[lane]));
    }
  });
}

__global__ void vote_kernel(unsigned* out) {
  const unsigned lane = threadIdx.x;
  out[lane * 8 + 0] = __ballot_sync(kFull, lane % 3 == 0);
  out[lane * 8 + 1] = static_cast<unsigned>(__any_sync(kFull, lane == 9));
  out[lane * 8 + 2] = static_cast<unsigned>(__all_sync(kFull, lane < 32));
  out[lane * 8 + 3] = __match_any_sync(kFull, lane / 5);
  int same = 7;
  out[lane * 8 + 4] = __match_all_sync(kFull, lane, &same);
  out[lane * 8 + 5] = static_cast<unsigned>(same);
  out[lane * 8 + 6] = static_cast<unsigned>(__any_sync(kFull, lane == 40));
  out[lane * 8 + 7] = static_cast<unsigned>(__all_sync(kFull, lane != 5));
}

TEST(Warp, VotesAndMatches) {
  under_all_schedules([] {
    DeviceArray<unsigned> out(32 * 8);
    EXN_LAUNCH(vote_kernel, 1, 32, 0, nullptr, out.data());
    const std::vector<unsigned> values = out.to_host();
    for (unsigned lane = 0; lane < 32; ++lane) {
      unsigned thirds = 0;
      unsigned matching = 0;
      for (unsigned other = 0; other < 32; ++other) {
        thirds |= static_cast<unsigned>(other % 3 == 0) << other;
        matching |= static_cast<unsigned>(other / 5 == lane / 5) << other;
      }
      const unsigned* row = &values[lane * 8];
      EXPECT_EQ(thirds, row[0]);
      EXPECT_EQ(1u, row[1]);
      EXPECT_EQ(1u, row[2]);
      EXPECT_EQ(matching, row[3]);
      EXPECT_EQ(0u, row[4]);
      EXPECT_EQ(0u, row[5]);
      EXPECT_EQ(0u, row[6]);
      EXPECT_EQ(0u, row[7]);
    }
  });
}

__global__ void reduce_kernel(int* signed_out, unsigned* unsigned_out) {
  const int lane = static_cast<int>(threadIdx.x);
  const int sum = __reduce_add_sync(kFull, lane - 20);
  const int smallest = __reduce_min_sync(kFull, lane - 20);
  const int largest = __reduce_max_sync(kFull, lane - 20);
  const unsigned largest_unsigned = __reduce_max_sync(kFull, static_cast<unsigned>(lane - 20));
  const unsigned any = __reduce_or_sync(kFull, 1u << lane);
  const unsigned all = __reduce_and_sync(kFull, ~(1u << lane));
  if (lane != 0) return;
  signed_out[0] = sum;
  signed_out[1] = smallest;
  signed_out[2] = largest;
  unsigned_out[0] = largest_unsigned;
  unsigned_out[1] = any;
  unsigned_out[2] = all;
}

TEST(Warp, Reductions) {
  under_all_schedules([] {
    DeviceArray<int> signed_out(3);
    DeviceArray<unsigned> unsigned_out(3);
    EXN_LAUNCH(reduce_kernel, 1, 32, 0, nullptr, signed_out.data(), unsigned_out.data());
    EXPECT_EQ((std::vector<int>{31 * 16 - 20 * 32, -20, 11}), signed_out.to_host());
    EXPECT_EQ((std::vector<unsigned>{0xffffffffu, kFull, 0u}), unsigned_out.to_host());
  });
}

// Two halves of a warp go separate ways and meet only their own lanes.
__global__ void halves_kernel(unsigned* out) {
  const unsigned lane = threadIdx.x;
  unsigned value = lane;
  if (lane < 16) {
    for (int round = 0; round < 5; ++round) value += __shfl_xor_sync(0x0000ffffu, value, 1);
  } else {
    for (int round = 0; round < 3; ++round) value += __shfl_xor_sync(0xffff0000u, value, 2);
  }
  __syncwarp();
  out[lane] = value;
}

TEST(Warp, DisjointMasksAreIndependent) {
  under_all_schedules([] {
    DeviceArray<unsigned> out(32);
    EXN_LAUNCH(halves_kernel, 1, 32, 0, nullptr, out.data());
    const std::vector<unsigned> values = out.to_host();
    for (unsigned lane = 0; lane < 32; ++lane) {
      const unsigned expected = lane < 16 ? 16 * (lane + (lane ^ 1)) : 4 * (lane + (lane ^ 2));
      EXPECT_EQ(expected, values[lane]) << lane;
    }
  });
}

// A warp of 8 threads: the full mask means the lanes that exist.
__global__ void partial_kernel(unsigned* out) { out[threadIdx.x] = __ballot_sync(kFull, 1); }

TEST(Warp, PartialWarp) {
  under_all_schedules([] {
    DeviceArray<unsigned> out(8);
    EXN_LAUNCH(partial_kernel, 1, 8, 0, nullptr, out.data());
    EXPECT_EQ(std::vector<unsigned>(8, 0xffu), out.to_host());
  });
}

constexpr int kMmaRows = 32, kMmaColumns = 8, kMmaDepth = 32;

// C = A B^T from memory, A [32, 32] and B [8, 32] of bf16, by the layout in the comment of mma_bf16.
__global__ void mma_kernel(const unsigned* a, const unsigned* b, const float* before, float* c) {
  constexpr int kPairs = kMmaDepth / 2;  // words of a row
  const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4;
  unsigned of_a[2][2][4], of_b[2][2];
  float sums[2][4];
  for (int step = 0; step < 2; ++step) {
    const int first = step * 8 + t, second = first + 4;
    for (int m = 0; m < 2; ++m) {
      const unsigned* const low = a + (m * 16 + g) * kPairs;
      const unsigned* const high = low + 8 * kPairs;
      of_a[m][step][0] = low[first];
      of_a[m][step][1] = high[first];
      of_a[m][step][2] = low[second];
      of_a[m][step][3] = high[second];
    }
    of_b[step][0] = b[g * kPairs + first];
    of_b[step][1] = b[g * kPairs + second];
  }
  for (int m = 0; m < 2; ++m) {
    for (int i = 0; i < 4; ++i) {
      const int at = (m * 16 + g + i / 2 * 8) * kMmaColumns + 2 * t + i % 2;
      sums[m][i] = before[at];
    }
  }
  exn::cuda::mma_bf16(sums, of_a, of_b);
  for (int m = 0; m < 2; ++m) {
    for (int i = 0; i < 4; ++i)
      c[(m * 16 + g + i / 2 * 8) * kMmaColumns + 2 * t + i % 2] = sums[m][i];
  }
}

// The same of signed bytes, A [16, 16 * STEPS] and B [8, 16 * STEPS].
template <int STEPS>
__global__ void mma_bytes_kernel(const unsigned* a, const unsigned* b, const int* before, int* c) {
  const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4, words = 4 * STEPS;
  unsigned of_a[STEPS][2], of_b[STEPS];
  for (int step = 0; step < STEPS; ++step) {
    of_a[step][0] = a[g * words + step * 4 + t];
    of_a[step][1] = a[(g + 8) * words + step * 4 + t];
    of_b[step] = b[g * words + step * 4 + t];
  }
  int sums[4], first[4];
  const auto at = [&](int i) { return (g + i / 2 * 8) * kMmaColumns + 2 * t + i % 2; };
  for (int i = 0; i < 4; ++i) first[i] = before[at(i)];
  exn::cuda::mma_s8<STEPS>(sums, of_a, of_b, first);
  for (int i = 0; i < 4; ++i) c[at(i)] = sums[i];
}

template <int STEPS>
void check_products_of_bytes() {
  constexpr int kRows = 16, kDepth = 16 * STEPS;
  std::vector<int8_t> a(kRows * kDepth), b(kMmaColumns * kDepth);
  for (size_t i = 0; i < a.size(); ++i) a[i] = static_cast<int8_t>(i * 7919 % 256);
  for (size_t i = 0; i < b.size(); ++i) b[i] = static_cast<int8_t>(i * 104729 % 256);
  std::vector<int> before(kRows * kMmaColumns);
  for (size_t i = 0; i < before.size(); ++i) before[i] = static_cast<int>(i) * -1000;
  DeviceArray<int8_t> of_a(a), of_b(b);
  DeviceArray<int> of_before(before), c(before.size());
  EXN_LAUNCH(mma_bytes_kernel<STEPS>, 1, 32, 0, nullptr,
             reinterpret_cast<const unsigned*>(of_a.data()),
             reinterpret_cast<const unsigned*>(of_b.data()), of_before.data(), c.data());
  const std::vector<int> got = c.to_host();
  for (int i = 0; i < kRows * kMmaColumns; ++i) {
    int sum = before[static_cast<size_t>(i)];
    for (int k = 0; k < kDepth; ++k) {
      sum += a[static_cast<size_t>(i / kMmaColumns * kDepth + k)] *
             b[static_cast<size_t>(i % kMmaColumns * kDepth + k)];
    }
    EXPECT_EQ(sum, got[static_cast<size_t>(i)]) << i;
  }
}

TEST(Warp, ProductsOfBytes) {
  under_all_schedules([] {
    check_products_of_bytes<1>();
    check_products_of_bytes<2>();
  });
}

// Against double precision, and never rounded up: sums of positive products are cut.
TEST(Warp, ProductsOfTensorCores) {
  std::vector<__nv_bfloat16> a(kMmaRows * kMmaDepth), b(kMmaColumns * kMmaDepth);
  std::vector<float> before(kMmaRows * kMmaColumns);
  for (size_t i = 0; i < a.size(); ++i)
    a[i] = __float2bfloat16(1.0f + static_cast<float>(i * 7919 % 251) / 16);
  for (size_t i = 0; i < b.size(); ++i)
    b[i] = __float2bfloat16(0.25f + static_cast<float>(i * 104729 % 127) / 64);
  for (size_t i = 0; i < before.size(); ++i) before[i] = 1.0f + static_cast<float>(i) * 0x1.23p-20f;
  under_all_schedules([&] {
    DeviceArray<__nv_bfloat16> of_a(a), of_b(b);
    DeviceArray<float> of_before(before), c(before.size());
    EXN_LAUNCH(mma_kernel, 1, 32, 0, nullptr, reinterpret_cast<const unsigned*>(of_a.data()),
               reinterpret_cast<const unsigned*>(of_b.data()), of_before.data(), c.data());
    const std::vector<float> got = c.to_host();
    for (int row = 0; row < kMmaRows; ++row) {
      for (int column = 0; column < kMmaColumns; ++column) {
        const auto at = static_cast<size_t>(row * kMmaColumns + column);
        double sum = before[at];
        for (int k = 0; k < kMmaDepth; ++k) {
          sum +=
              static_cast<double>(__bfloat162float(a[static_cast<size_t>(row * kMmaDepth + k)])) *
              static_cast<double>(__bfloat162float(b[static_cast<size_t>(column * kMmaDepth + k)]));
        }
        EXPECT_LE(got[at], sum) << row << " " << column;
        EXPECT_GE(got[at], sum * (1 - 0x1p-20)) << row << " " << column;
      }
    }
  });
}

}  // namespace
