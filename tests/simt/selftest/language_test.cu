// SPDX-License-Identifier: Apache-2.0
//
// Built-in variables, shared memory, barriers, atomics and intrinsics.
#include <limits>

#include "selftest.h"

namespace {

__global__ void index_kernel(int* out) {
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] =
      static_cast<int>(blockIdx.z * 100000 + blockIdx.y * 10000 + blockIdx.x * 1000 +
                       threadIdx.z * 100 + threadIdx.y * 10 + threadIdx.x);
}

TEST(Language, Indices) {
  under_all_schedules([] {
    const dim3 grid(2, 3, 2);
    const dim3 block(4, 2, 3);
    DeviceArray<int> out(12 * 24);
    EXN_LAUNCH(index_kernel, grid, block, 0, nullptr, out.data());
    const std::vector<int> values = out.to_host();
    size_t next = 0;
    for (int bz = 0; bz < 2; ++bz) {
      for (int by = 0; by < 3; ++by) {
        for (int bx = 0; bx < 2; ++bx) {
          for (int t = 0; t < 24; ++t) {
            const int expected =
                bz * 100000 + by * 10000 + bx * 1000 + t / 8 * 100 + t / 4 % 2 * 10 + t % 4;
            ASSERT_EQ(expected, values[next++]);
          }
        }
      }
    }
  });
}

// Static and dynamic shared memory, in a template, several blocks in flight: every block sees its
// own.
template <class T, int kThreads>
__global__ void reverse_kernel(T* data) {
  __shared__ T first[kThreads];
  __shared__ __align__(16) T second[kThreads];
  EXN_DYN_SMEM(memory);
  T* third = reinterpret_cast<T*>(memory);
  const int t = static_cast<int>(threadIdx.x);
  T* mine = data + static_cast<size_t>(blockIdx.x) * kThreads;
  first[t] = mine[t];
  __syncthreads();
  second[t] = first[kThreads - 1 - t];
  __syncthreads();
  third[t] = second[kThreads - 1 - t];
  __syncthreads();
  mine[t] = third[kThreads - 1 - t];
}

template <class T>
void check_reverse() {
  constexpr int kThreads = 96;
  constexpr int kBlocks = 7;
  std::vector<T> values(kThreads * kBlocks);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(i % 251);
  DeviceArray<T> data(values);
  EXN_LAUNCH((reverse_kernel<T, kThreads>), kBlocks, kThreads, kThreads * sizeof(T), nullptr,
             data.data());
  const std::vector<T> reversed = data.to_host();
  for (int block = 0; block < kBlocks; ++block) {
    for (int t = 0; t < kThreads; ++t) {
      ASSERT_EQ(values[block * kThreads + kThreads - 1 - t], reversed[block * kThreads + t])
          << block << " " << t;
    }
  }
}

TEST(Language, SharedMemory) {
  under_all_schedules([] {
    check_reverse<int>();
    check_reverse<double>();
    check_reverse<unsigned char>();
  });
}

__global__ void vote_kernel(int* out) {
  const int t = static_cast<int>(threadIdx.x);
  out[t * 3 + 0] = __syncthreads_or(t == 17) != 0;
  out[t * 3 + 1] = __syncthreads_and(t != 17) != 0;
  out[t * 3 + 2] = __syncthreads_count(t % 3 == 0);
}

TEST(Language, BarrierVotes) {
  under_all_schedules([] {
    DeviceArray<int> out(64 * 3);
    EXN_LAUNCH(vote_kernel, 1, 64, 0, nullptr, out.data());
    const std::vector<int> values = out.to_host();
    for (int t = 0; t < 64; ++t) {
      EXPECT_EQ(1, values[t * 3 + 0]);
      EXPECT_EQ(0, values[t * 3 + 1]);
      EXPECT_EQ(22, values[t * 3 + 2]);
    }
  });
}

__global__ void atomics_kernel(int* ints, unsigned* unsigneds, unsigned long long* longs) {
  const int id = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  atomicAdd(&ints[0], 2);
  atomicMax(&ints[1], id);
  atomicMin(&ints[2], -id);
  atomicOr(&unsigneds[0], 1u << (id % 32));
  atomicAnd(&unsigneds[1], ~(1u << (id % 16)));
  atomicInc(&unsigneds[2], 9u);
  atomicAdd(&longs[0], 1ull << 33);
  atomicCAS(&unsigneds[3], 0u, 5u);
  atomicExch(&unsigneds[4], 7u);
  atomicSub(&unsigneds[5], 1u);
}

TEST(Language, Atomics) {
  under_all_schedules([] {
    DeviceArray<int> ints(std::vector<int>{0, -1, 1});
    DeviceArray<unsigned> unsigneds(std::vector<unsigned>{0, ~0u, 0, 0, 0, 0});
    DeviceArray<unsigned long long> longs(std::vector<unsigned long long>{0});
    EXN_LAUNCH(atomics_kernel, 4, 64, 0, nullptr, ints.data(), unsigneds.data(), longs.data());
    EXPECT_EQ((std::vector<int>{512, 255, -255}), ints.to_host());
    EXPECT_EQ((std::vector<unsigned>{~0u, 0xffff0000u, 256 % 10, 5, 7, 0u - 256u}),
              unsigneds.to_host());
    EXPECT_EQ(256ull << 33, longs.to_host()[0]);
  });
}

TEST(Language, BitIntrinsics) {
  EXPECT_EQ(32, __clz(0));
  EXPECT_EQ(0, __clz(-1));
  EXPECT_EQ(64, __clzll(0));
  EXPECT_EQ(0, __ffs(0));
  EXPECT_EQ(5, __ffs(16));
  EXPECT_EQ(8, __popc(0xf0f0u));
  EXPECT_EQ(0x80000000u, __brev(1u));
  EXPECT_EQ(0x22114433u, __byte_perm(0x11223344u, 0x55667788u, 0x2301u));
  EXPECT_EQ(0x55667788u, __byte_perm(0x11223344u, 0x55667788u, 0x7654u));
  EXPECT_EQ(0x23456789u, __funnelshift_l(0x9abcdef0u, 0x12345678u, 4));
  EXPECT_EQ(0x89abcdefu, __funnelshift_r(0x9abcdef0u, 0x12345678u, 4));
  const auto a = static_cast<int>(0xfc03fe01u);  // 1, -2, 3, -4 from the lowest byte up
  const auto b = static_cast<int>(0x08f90605u);  // 5, 6, -7, 8
  EXPECT_EQ(5 - 12 - 21 - 32 + 100, __dp4a(a, b, 100));
  EXPECT_EQ(255u * 255u * 4u, __dp4a(~0u, ~0u, 0u));
}

TEST(Language, Conversions) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(2, __float2int_rn(2.5f));
  EXPECT_EQ(4, __float2int_rn(3.5f));
  EXPECT_EQ(-2, __float2int_rz(-2.9f));
  EXPECT_EQ(-3, __float2int_rd(-2.1f));
  EXPECT_EQ(0, __float2int_rn(nan));
  EXPECT_EQ(std::numeric_limits<int>::max(), __float2int_rn(1e20f));
  EXPECT_EQ(std::numeric_limits<int>::min(), __float2int_rn(-1e20f));
  EXPECT_EQ(0u, __float2uint_rn(-3.0f));
  EXPECT_EQ(0x3f800000u, __float_as_uint(1.0f));
  EXPECT_EQ(-2.0f, __uint_as_float(0xc0000000u));
}

TEST(Language, MinAndMaxDropNaN) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(1.0f, max(nan, 1.0f));
  EXPECT_EQ(1.0f, min(1.0f, nan));
  EXPECT_EQ(-1, min(-1, 1));
}

__global__ void bf16_kernel(const __nv_bfloat16* in, float* out) {
  const unsigned t = threadIdx.x;
  const float2 pair = __bfloat1622float2(reinterpret_cast<const __nv_bfloat162*>(in)[t]);
  out[t] = pair.x * 2.0f + pair.y;
}

TEST(Language, Bfloat16) {
  std::vector<__nv_bfloat16> values;
  for (int i = 0; i < 64; ++i) values.push_back(__float2bfloat16(static_cast<float>(i) * 0.25f));
  DeviceArray<__nv_bfloat16> in(values);
  DeviceArray<float> out(32);
  EXN_LAUNCH(bf16_kernel, 1, 32, 0, nullptr, in.data(), out.data());
  for (int t = 0; t < 32; ++t) EXPECT_EQ(1.5f * static_cast<float>(t) + 0.25f, out.to_host()[t]);
}

// The same seed gives the same schedule, another seed another.
__global__ void order_kernel(unsigned* next, unsigned* order) {
  order[atomicAdd(next, 1u)] = blockIdx.x * blockDim.x + threadIdx.x;
}

std::vector<unsigned> order_under(const char* seed) {
  simt_configure("POLICY", "random");
  simt_configure("SEED", seed);
  DeviceArray<unsigned> next(std::vector<unsigned>{0});
  DeviceArray<unsigned> order(256);
  EXN_LAUNCH(order_kernel, 4, 64, 0, nullptr, next.data(), order.data());
  simt_configure("POLICY", "inorder");
  simt_configure("SEED", "1");
  return order.to_host();
}

TEST(Language, SchedulesAreRepeatable) {
  EXPECT_EQ(order_under("11"), order_under("11"));
  EXPECT_NE(order_under("11"), order_under("12"));
}

// Two products that differ by their rounding alone: fused with the sum, one would stay exact.
__global__ void unfused_kernel(float a, float b, float* out) {
  out[0] = __fadd_rn(__fmul_rn(a, b), -(a * b));
  out[1] = __fmul_rn(a, b) - __fmul_rn(b, a);
  out[2] = __fmaf_rn(a, b, -__fmul_rn(a, b));
}

TEST(Language, RoundsAsWritten) {
  DeviceArray<float> out(3);
  const float a = 1.0f + 0x1p-12f;
  EXN_LAUNCH(unfused_kernel, 1, 1, 0, nullptr, a, a, out.data());
  const std::vector<float> values = out.to_host();
  EXPECT_EQ(0.0f, values[0]);
  EXPECT_EQ(0.0f, values[1]);
  EXPECT_EQ(0x1p-24f, values[2]);
}

}  // namespace
