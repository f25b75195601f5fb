// SPDX-License-Identifier: Apache-2.0
//
// perp_grad: removes from a gradient its component along the weights.
//
// All sums are of w' = w 2^a and g' = g 2^b, where the powers of two bring the largest magnitudes
// near 1: exact, and neither overflow nor underflow can occur. Dot products are pairs (high, low)
// of nearly twice the storage's precision, since the result is the difference of two nearly equal
// vectors when g is nearly parallel to w.
#pragma once

#include "elements.cuh"
#include "reduce.cuh"
#include "scale.cuh"

namespace exn::cuda {

__device__ __forceinline__ float fused(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double fused(double a, double b, double c) { return fma(a, b, c); }
__device__ __forceinline__ float magnitude(float x) { return fabsf(x); }
__device__ __forceinline__ double magnitude(double x) { return fabs(x); }
__device__ __forceinline__ float root(float x) { return sqrtf(x); }
__device__ __forceinline__ double root(double x) { return sqrt(x); }

// An unevaluated sum high + low.
template <class A>
struct Pair {
  A high;
  A low;

  // Adds x exactly up to the rounding of `low`.
  __device__ __forceinline__ void add(A x) {
    const A sum = high + x;
    const A added = sum - high;
    low += (high - (sum - added)) + (x - added);
    high = sum;
  }
  __device__ __forceinline__ void add_product(A x, A y) {
    const A product = x * y;
    add(product);
    low += fused(x, y, -product);
  }
  __device__ __forceinline__ void add(const Pair& other) {
    add(other.high);
    low += other.low;
  }
  __device__ __forceinline__ void scale(A factor) {  // a power of two
    high *= factor;
    low *= factor;
  }
};

// Dot products of a chunk of the tensors, relative to the scales of its largest magnitudes.
template <class A>
struct Dots {
  A largest_w;
  A largest_g;
  Pair<A> ww;
  Pair<A> wg;
  Pair<A> gg;
};

// Moves the dots to the scales of larger magnitudes.
template <class A>
__device__ __forceinline__ void rescale(Dots<A>& dots, A largest_w, A largest_g) {
  // New scale over old; the old one's inverse is exact. It may underflow to 0, as then do the dots.
  const A w = power_of_two_scale(largest_w) * (A(1) / power_of_two_scale(dots.largest_w));
  const A g = power_of_two_scale(largest_g) * (A(1) / power_of_two_scale(dots.largest_g));
  dots.ww.scale(w * w);
  dots.wg.scale(w * g);
  dots.gg.scale(g * g);
  dots.largest_w = largest_w;
  dots.largest_g = largest_g;
}

template <class A>
__device__ __forceinline__ A larger(A a, A b) {
  return Max::apply(a, b);
}

template <class A>
__device__ __forceinline__ void merge(Dots<A>& a, Dots<A> b) {
  const A largest_w = larger(a.largest_w, b.largest_w);
  const A largest_g = larger(a.largest_g, b.largest_g);
  rescale(a, largest_w, largest_g);
  rescale(b, largest_w, largest_g);
  a.ww.add(b.ww);
  a.wg.add(b.wg);
  a.gg.add(b.gg);
}

template <class A>
__device__ __forceinline__ Dots<A> empty_dots() {
  return {A(0), A(0), {A(0), A(0)}, {A(0), A(0)}, {A(0), A(0)}};
}

template <class A>
__device__ __forceinline__ Pair<A> shuffle_down(const Pair<A>& pair, int offset) {
  return {__shfl_down_sync(kFullWarp, pair.high, offset),
          __shfl_down_sync(kFullWarp, pair.low, offset)};
}

// Merges the block's dots in a fixed tree; thread 0 gets the result.
template <int WARPS, class A>
__device__ __forceinline__ Dots<A> block_merge(Dots<A> dots, Dots<A>* scratch) {
#pragma unroll 1
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    Dots<A> other;
    other.largest_w = __shfl_down_sync(kFullWarp, dots.largest_w, offset);
    other.largest_g = __shfl_down_sync(kFullWarp, dots.largest_g, offset);
    other.ww = shuffle_down(dots.ww, offset);
    other.wg = shuffle_down(dots.wg, offset);
    other.gg = shuffle_down(dots.gg, offset);
    merge(dots, other);
  }
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = dots;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int warp = 1; warp < WARPS; ++warp) merge(dots, scratch[warp]);
  }
  return dots;
}

// The share of |g| up to which |g_perp| is rounding noise (the unit roundoff of the storage type;
// eight in f64, where sums and quotient round no finer), and how small |g_perp|^2 / |g|^2 may be
// for its value from the dot products to be trusted.
template <class T>
struct Precision;
template <>
struct Precision<double> {
  static constexpr double kNoise = 0x1p-50, kTrusted = 0x1p-30;
};
template <>
struct Precision<float> {
  static constexpr float kNoise = 0x1p-24f, kTrusted = 0x1p-16f;
};
template <>
struct Precision<__half> {
  static constexpr float kNoise = 0x1p-11f, kTrusted = 0x1p-8f;
};
template <>
struct Precision<__nv_bfloat16> {
  static constexpr float kNoise = 0x1p-8f, kTrusted = 0x1p-8f;
};

// What the projection needs; lives in the workspace. g_perp' = g' - (along.high + along.low) w'.
template <class A>
struct Projection {
  Pair<A> along;
  A scale_w;
  A scale_g;
  A gg;                // |g'|^2
  A factor;            // of g_perp'
  int needs_residual;  // |g_perp'| has to be summed up from its elements
};

template <class T>
struct PerpGradTask {
  const T* weight;
  const T* grad;
  T* out;
  int64_t size;
  int keep_norm;         // 1: |out| = |g|
  Dots<acc_t<T>>* dots;  // one per block of perp_dots_kernel
  acc_t<T>* residuals;   // one per block of perp_residual_kernel
  Projection<acc_t<T>>* projection;
};

// Adds a tile's products. Products of 16-bit numbers are exact in f32, and sums of a few of them
// are more precise than the storage by far, so that only the sums of tiles need pairs.
template <class T, class A>
__device__ __forceinline__ void add_products(Dots<A>& dots, A w, A g, Dots<A>& tile) {
  if constexpr (sizeof(T) == 2) {
    tile.ww.high = fused(w, w, tile.ww.high);
    tile.wg.high = fused(w, g, tile.wg.high);
    tile.gg.high = fused(g, g, tile.gg.high);
  } else {
    dots.ww.add_product(w, w);
    dots.wg.add_product(w, g);
    dots.gg.add_product(g, g);
  }
}

// Step 1 of 5: dot products, one partial result per block.
//
// Bytes: w and g once. As many blocks as run at once (the launcher's choice from the SM count),
// each over every gridDim-th tile.
template <class T>
__global__ __launch_bounds__(kTileThreads, 4) void perp_dots_kernel(PerpGradTask<T> task) {
  using A = acc_t<T>;
  constexpr int kItems = kTileItems<T> / 2;
  __shared__ Dots<A> scratch[kTileThreads / kWarp];
  Dots<A> dots = empty_dots<A>();
  const int64_t step = static_cast<int64_t>(gridDim.x) * kItems * kTileThreads;
  for (int64_t begin = static_cast<int64_t>(blockIdx.x) * kItems * kTileThreads; begin < task.size;
       begin += step) {
    const int count = tile_count(begin, task.size, kItems * kTileThreads);
    A w[kItems], g[kItems];
    load_tile(task.weight + begin, count, A(0), w);
    load_tile(task.grad + begin, count, A(0), g);
    A largest_w = dots.largest_w, largest_g = dots.largest_g;
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      largest_w = larger(largest_w, magnitude(w[i]));
      largest_g = larger(largest_g, magnitude(g[i]));
    }
    rescale(dots, largest_w, largest_g);
    const A scale_w = power_of_two_scale(largest_w);
    const A scale_g = power_of_two_scale(largest_g);
    Dots<A> tile = empty_dots<A>();
#pragma unroll
    for (int i = 0; i < kItems; ++i) add_products<T>(dots, w[i] * scale_w, g[i] * scale_g, tile);
    dots.ww.add(tile.ww);
    dots.wg.add(tile.wg);
    dots.gg.add(tile.gg);
  }
  dots = block_merge<kTileThreads / kWarp>(dots, scratch);
  if (threadIdx.x == 0) task.dots[blockIdx.x] = dots;
}

// The factor of g_perp' for its squared norm: 0 if it cannot be told from rounding noise.
template <class T, class A>
__device__ __forceinline__ A norm_factor(const PerpGradTask<T>& task, A gg, A squared, A scale_g) {
  const A norm_g = root(gg);
  const A norm = root(larger(squared, A(0)));
  if (norm <= Precision<T>::kNoise * norm_g) return A(0);
  return task.keep_norm ? norm_g / (norm + static_cast<A>(1e-30) * scale_g) : A(1);
}

constexpr int kPerpMergeThreads = 128;

// Step 2: one block merges the dots and finds the projection.
template <class T>
__global__ __launch_bounds__(kPerpMergeThreads) void perp_projection_kernel(PerpGradTask<T> task,
                                                                            int parts) {
  using A = acc_t<T>;
  __shared__ Dots<A> scratch[kPerpMergeThreads / kWarp];
  Dots<A> dots = empty_dots<A>();
  for (int chunk = threadIdx.x; chunk < parts; chunk += kPerpMergeThreads)
    merge(dots, task.dots[chunk]);
  dots = block_merge<kPerpMergeThreads / kWarp>(dots, scratch);
  if (threadIdx.x != 0) return;

  Projection<A> p;
  p.scale_w = power_of_two_scale(dots.largest_w);
  p.scale_g = power_of_two_scale(dots.largest_g);
  p.gg = dots.gg.high + dots.gg.low;
  // The guard 1e-30 of w.w, in the scale of w'. It is infinite for a w of (nearly) nothing but
  // zeros: no projection.
  const A guard = static_cast<A>(1e-30) * p.scale_w * p.scale_w;
  Pair<A> ww = dots.ww;
  ww.add(guard);
  p.along.high = dots.wg.high / ww.high;
  const A rest =
      fused(-p.along.high, ww.high, dots.wg.high) + (dots.wg.low - p.along.high * ww.low);
  p.along.low = rest / ww.high;
  if (guard > A(1e30)) p.along = {A(0), A(0)};

  // |g_perp'|^2 = g.g - c w.g - c^2 guard with c = w.g / (w.w + guard)
  const A product = p.along.high * dots.wg.high;
  const A product_rest = fused(p.along.high, dots.wg.high, -product) + p.along.high * dots.wg.low +
                         p.along.low * dots.wg.high;
  A squared = (dots.gg.high - product) + (dots.gg.low - product_rest);
  if (guard <= A(1e30)) squared -= p.along.high * p.along.high * guard;
  p.needs_residual = !(squared >= Precision<T>::kTrusted * p.gg);
  p.factor = norm_factor(task, p.gg, squared, p.scale_g);

  const A sums = dots.ww.high + dots.ww.low + dots.wg.high + dots.wg.low + p.gg;
  if (!(magnitude(sums) < static_cast<A>(INFINITY))) {  // a NaN or an infinity somewhere
    p.factor = static_cast<A>(NAN);
    p.needs_residual = 0;
  }
  *task.projection = p;
}

template <class A>
__device__ __forceinline__ A project(const Projection<A>& p, A w, A g) {
  const A scaled = w * p.scale_w;
  return fused(-p.along.low, scaled, fused(-p.along.high, scaled, g * p.scale_g));
}

// Step 3, in the rare case that g is nearly parallel to w: |g_perp'|^2 from its elements. Otherwise
// every block leaves at once, having read the projection. Bytes then: w and g once more.
template <class T>
__global__ __launch_bounds__(kTileThreads, 4) void perp_residual_kernel(PerpGradTask<T> task) {
  using A = acc_t<T>;
  constexpr int kItems = kTileItems<T> / 2;
  __shared__ A scratch[kTileThreads / kWarp];
  __shared__ Projection<A> p;
  if (threadIdx.x == 0) p = *task.projection;
  __syncthreads();
  if (!p.needs_residual) return;
  A sum = A(0);
  const int64_t step = static_cast<int64_t>(gridDim.x) * kItems * kTileThreads;
  for (int64_t begin = static_cast<int64_t>(blockIdx.x) * kItems * kTileThreads; begin < task.size;
       begin += step) {
    const int count = tile_count(begin, task.size, kItems * kTileThreads);
    A w[kItems], g[kItems];
    load_tile(task.weight + begin, count, A(0), w);
    load_tile(task.grad + begin, count, A(0), g);
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      const A x = project(p, w[i], g[i]);
      sum = fused(x, x, sum);
    }
  }
  sum = block_reduce<Sum, kTileThreads / kWarp>(sum, scratch);
  if (threadIdx.x == 0) task.residuals[blockIdx.x] = sum;
}

// Step 4: one block adds up step 3.
template <class T>
__global__ __launch_bounds__(kPerpMergeThreads) void perp_norm_kernel(PerpGradTask<T> task,
                                                                      int parts) {
  using A = acc_t<T>;
  __shared__ A scratch[kPerpMergeThreads / kWarp];
  __shared__ int needed;
  if (threadIdx.x == 0) needed = task.projection->needs_residual;
  __syncthreads();
  if (!needed) return;
  A sum = A(0);
  for (int chunk = threadIdx.x; chunk < parts; chunk += kPerpMergeThreads)
    sum += task.residuals[chunk];
  sum = block_reduce<Sum, kPerpMergeThreads / kWarp>(sum, scratch);
  if (threadIdx.x == 0) {
    task.projection->factor = norm_factor(task, task.projection->gg, sum, task.projection->scale_g);
  }
}

// Step 5: writes the projected gradient. `out` may be the gradient.
//
// Bytes: w and g once, out once, and 20 (f64: 40) per block of the projection, which one thread
// reads while the tile is on its way. One block per tile.
template <class T>
__global__ __launch_bounds__(kTileThreads, 8) void perp_write_kernel(PerpGradTask<T> task) {
  using A = acc_t<T>;
  constexpr int kItems = kTileItems<T> / 2;
  __shared__ Projection<A> shared;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kItems * kTileThreads;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kItems * kTileThreads;
  for (int64_t begin = first; begin < task.size; begin += step) {
    const int count = tile_count(begin, task.size, kItems * kTileThreads);
    A w[kItems], g[kItems];
    load_tile(task.weight + begin, count, A(0), w);
    load_tile(task.grad + begin, count, A(0), g);
    if (begin == first && threadIdx.x == 0) shared = *task.projection;
    __syncthreads();
    const Projection<A> p = shared;
    const A unscale = A(1) / p.scale_g;
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      // NaN must reach every element, also where the projection is finite.
      g[i] = p.factor == A(0) ? A(0) : project(p, w[i], g[i]) * p.factor * unscale;
    }
    store_tile(task.out + begin, count, g);
  }
}

}  // namespace exn::cuda
