// SPDX-License-Identifier: Apache-2.0
//
// Elements whose type is known at run time only. For the few values at the end of a
// kernel: a branch that all threads take alike costs less there than another compiled
// copy of the whole kernel.
#pragma once

#include "elements.cuh"

namespace exn::cuda {

enum class Storage : int { kF32, kF16, kBF16 };

__device__ __forceinline__ float load_as(Storage storage, const void* base, int64_t index) {
  switch (storage) {
    case Storage::kF16:
      return widen(static_cast<const __half*>(base)[index]);
    case Storage::kBF16:
      return widen(static_cast<const __nv_bfloat16*>(base)[index]);
    default:
      return static_cast<const float*>(base)[index];
  }
}

__device__ __forceinline__ void store_as(Storage storage, void* base, int64_t index, float value) {
  switch (storage) {
    case Storage::kF16:
      static_cast<__half*>(base)[index] = narrow<__half>(value);
      break;
    case Storage::kBF16:
      static_cast<__nv_bfloat16*>(base)[index] = narrow<__nv_bfloat16>(value);
      break;
    default:
      static_cast<float*>(base)[index] = value;
  }
}

}  // namespace exn::cuda
