// SPDX-License-Identifier: Apache-2.0
//
// How logits become probabilities: p_j = weight_j / sum of weights.
//
//   Softmax    weight exp(z)
//   StableMax  weight s(z) = z + 1 for z >= 0, 1 / (1 - z) for z < 0
//
// Weights are taken relative to that of a reference logit (the largest one known), so that sums of
// them neither overflow nor vanish. -inf has weight 0; a NaN gives NaN.
#pragma once

#include "approximate.cuh"

namespace exn::cuda {

__device__ __forceinline__ float exp_of(float x) { return expf(x); }
__device__ __forceinline__ double exp_of(double x) { return exp(x); }
__device__ __forceinline__ float log_of(float x) { return logf(x); }
__device__ __forceinline__ double log_of(double x) { return log(x); }
__device__ __forceinline__ float log1p_of(float x) { return log1pf(x); }
__device__ __forceinline__ double log1p_of(double x) { return log1p(x); }
__device__ __forceinline__ float abs_of(float x) { return fabsf(x); }
__device__ __forceinline__ double abs_of(double x) { return fabs(x); }
__device__ __forceinline__ float max_of(float a, float b) { return fmaxf(a, b); }
__device__ __forceinline__ double max_of(double a, double b) { return fmax(a, b); }

template <class A>
__device__ __forceinline__ A infinity() {
  return static_cast<A>(INFINITY);
}
template <class A>
__device__ __forceinline__ A quiet_nan() {
  return static_cast<A>(NAN);
}

// The smallest logarithm of a weight that matters: e to it underflows to 0, and 0 times it is still
// 0, unlike 0 times -inf.
constexpr float kLowestLog = -200.0f;

// A weight and its logarithm, which is at least kLowestLog.
struct Weighed {
  float weight;
  float log;
};

template <class A>
struct Softmax {
  A reference;

  // Nothing but -inf seen so far: every weight is 0 whatever the reference, as long as it is
  // finite.
  __device__ __forceinline__ explicit Softmax(A largest)
      : reference(largest == -infinity<A>() ? A(0) : largest) {}

  __device__ __forceinline__ static A log_weight(A z) { return z; }
  // d log_weight / dz
  __device__ __forceinline__ static A slope(A) { return A(1); }
  __device__ __forceinline__ A weight(A z) const { return exp_of(z - reference); }
  __device__ __forceinline__ A relative_log_weight(A z) const { return z - reference; }
};

// As Softmax, for sums over many elements: the hardware's power of two. Its argument, the distance
// from the reference times log2 e, is rounded, which ten units away would cost 1e-6; what is left
// of the distance makes up for it to first order.
struct FastSoftmax : Softmax<float> {
  using Softmax<float>::Softmax;
  __device__ __forceinline__ Weighed weigh(float z) const {
    const float log = max_or_nan(z - reference, kLowestLog);
    const float argument = __fmul_rn(log, 1.44269504f);
    const float left =
        __fmaf_rn(argument, 1.90465430e-9f, __fmaf_rn(argument, -0.693147182f, log));  // ln 2
    const float power = exp2_approx(argument);
    return {__fmaf_rn(power, left, power), log};
  }
};

template <class A>
struct StableMax {
  A log_reference;
  A inverse;  // 1 / s(reference)

  __device__ __forceinline__ explicit StableMax(A largest) {
    const A reference = largest == -infinity<A>() ? A(0) : largest;
    log_reference = log_weight(reference);
    inverse = s(-reference);  // s(x) s(-x) = 1
  }

  __device__ __forceinline__ static A s(A z) { return z < A(0) ? A(1) / (A(1) - z) : z + A(1); }
  __device__ __forceinline__ static A log_weight(A z) {
    const A magnitude = log1p_of(abs_of(z));
    return z < A(0) ? -magnitude : magnitude;
  }
  __device__ __forceinline__ static A slope(A z) { return A(1) / (A(1) + abs_of(z)); }
  __device__ __forceinline__ A weight(A z) const { return s(z) * inverse; }
  __device__ __forceinline__ A relative_log_weight(A z) const {
    return log_weight(z) - log_reference;
  }
  __device__ __forceinline__ Weighed weigh(float z) const {
    return {weight(z), fmaxf(relative_log_weight(z), kLowestLog)};
  }
};

}  // namespace exn::cuda
