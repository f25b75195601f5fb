// SPDX-License-Identifier: Apache-2.0
//
// Warp collectives whose mask does not fit the lanes that take part.
#include <exeunt/cuda/mma.cuh>

#include "mutants.h"

namespace {

constexpr unsigned kFull = 0xffffffffu;

template <bool kBroken>
__global__ void shuffle_from_absent_lane(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  if (kBroken && lane == 31) return;
  out[lane] = __shfl_xor_sync(kFull, lane, 1);
}

template <bool kBroken>
__global__ void shuffle_outside_mask(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  if (lane >= 16) return;
  out[lane] = __shfl_sync(0x0000ffffu, lane, kBroken ? 20 : 5);
}

template <bool kBroken>
__global__ void mask_without_caller(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  if (lane >= 8) return;
  out[lane] = static_cast<int>(__ballot_sync(kBroken ? 0x0000007fu : 0x000000ffu, lane % 2));
}

// Some lanes of the mask vote while the others shuffle.
template <bool kBroken>
__global__ void different_collectives(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  if (lane < (kBroken ? 16 : 32)) {
    out[lane] = __shfl_sync(kFull, lane, 0);
  } else {
    out[lane] = static_cast<int>(__ballot_sync(kFull, 1));
  }
}

// Partial warps: lanes that do not exist have nothing to give.
template <bool kBroken>
__global__ void partial_warp_reduction(int* out) {
  int sum = static_cast<int>(threadIdx.x);
  for (int offset = kBroken ? 16 : 4; offset > 0; offset /= 2) {
    sum += __shfl_xor_sync(kFull, sum, offset);
  }
  out[threadIdx.x] = sum;
}

// Tensor cores take the fragments of all lanes.
template <bool kBroken>
__global__ void product_by_half_a_warp(int* out) {
  float sums[1][4] = {};
  const unsigned a[1][1][4] = {}, b[1][2] = {};
  if (!kBroken || threadIdx.x < 16) exn::cuda::mma_bf16(sums, a, b);
  out[threadIdx.x] = static_cast<int>(sums[0][0]);
}

template <void (*kKernel)(int*), int kBlock = 32>
void run() {
  EXN_LAUNCH(kKernel, 1, kBlock, 0, nullptr, device_zeros<int>(32));
}

const Registration registration({
    {"shuffle_from_absent_lane", kAllModes, run<shuffle_from_absent_lane<false>>,
     run<shuffle_from_absent_lane<true>>},
    {"shuffle_outside_mask", kAllModes, run<shuffle_outside_mask<false>>,
     run<shuffle_outside_mask<true>>},
    {"mask_without_caller", kAllModes, run<mask_without_caller<false>>,
     run<mask_without_caller<true>>},
    {"different_collectives", kAllModes, run<different_collectives<false>>,
     run<different_collectives<true>>},
    {"product_by_half_a_warp", kAllModes, run<product_by_half_a_warp<false>>,
     run<product_by_half_a_warp<true>>},
    {"partial_warp_reduction", kAllModes, run<partial_warp_reduction<false>, 8>,
     run<partial_warp_reduction<true>, 8>},
});

}  // namespace
