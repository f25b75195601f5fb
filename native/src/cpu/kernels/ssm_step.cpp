// SPDX-License-Identifier: Apache-2.0
// ssm_step on the CPU: states are read and written once for each row, in the order of the rows, by
// whichever thread has their channels.
#include "../ids.h"
#include "base/args/ssm_step.h"
#include "elements.h"

namespace exn::cpu::EXN_ISA {
namespace {

constexpr int64_t kChannels = 64;  // of a block, whose numbers lie beside each other
constexpr int64_t kPiece = 32768;  // states of a piece of the loop

// Elements of a row, in f32.
EXN_SIMD void widen(const Matrix& m, int64_t row, int64_t first, int64_t n, float* to) {
  with_float_type(m.dtype, [&](auto type) {
    const auto* from = row_of<EXN_TYPE_OF(type)>(m, row) + first;
    for_vectors(n, [&](int64_t i, int lanes)
                       EXN_FLAT {
      store_part(to + i, load_part(from + i, lanes, 0.0f), lanes);
    });
  });
}

EXN_SIMD void narrow(const float* from, const Matrix& m, int64_t row, int64_t first, int64_t n) {
  with_float_type(m.dtype, [&](auto type) {
    using T = EXN_TYPE_OF(type);
    T* to = static_cast<T*>(m.data) + row * m.stride + first;
    for_vectors(n, [&](int64_t i, int lanes)
                       EXN_FLAT {
      store_part(to + i, load_part(from + i, lanes, 0.0f), lanes);
    });
  });
}

// ln(1 + e^v): e^-20 is lost beside 20, so that there is no need to tell large v apart.
EXN_SIMD f32v softplus(f32v v) {
  const f32v t = exp_negative(sub(zero(), abs(v)));
  const f32v over = div(set1(1.0f), add(set1(1.0f), t));
  return add(max(zero(), v), log1p_positive(t, over));
}

// e^x. Of each x alone, whatever its neighbours are.
template <int N>
EXN_SIMD void exp_any(const f32v (&x)[N], f32v (&e)[N]) {
  exp_clamped(x, e);
  f32v top = x[0];
  for (int k = 1; k < N; ++k) top = max(x[k], top);
  if (__builtin_expect(bits_of(less(zero(), top)) == 0, 1)) return;
  for (int k = 0; k < N; ++k) {
    const f32v root = div(set1(1.0f), exp_negative(mul(abs(x[k]), set1(-0.5f))));
    e[k] = select(less(zero(), x[k]), mul(root, root), e[k]);
  }
}

// ---- convolution --------------------------------------------------------------------------------

// W: the width, or 0 for any.
template <int W>
EXN_SIMD void convolve(float* state, const float* weight, int64_t any_width, const float* x,
                       int64_t n, float* out) {
  const int64_t width = W > 0 ? W : any_width;
  for (int64_t c = 0; c < n; ++c) {
    float* of = state + c * width;
    float sum = 0;
    for (int64_t k = 0; k < width; ++k) {
      const float value = k + 1 < width ? of[k + 1] : x[c];
      of[k] = value;
      sum += value * weight[c * width + k];
    }
    out[c] = sum;
  }
}

__attribute__((noinline)) void conv_block(const SsmStepArgs& a, int64_t row, int64_t first,
                                          int64_t n, float* state) {
  alignas(64) float x[kChannels], out[kChannels];
  const float* weight = a.weight + first * a.width;
  widen(a.x, row, first, n, x);
  switch (a.width) {
    case 2:
      convolve<2>(state, weight, 2, x, n, out);
      break;
    case 3:
      convolve<3>(state, weight, 3, x, n, out);
      break;
    case 4:
      convolve<4>(state, weight, 4, x, n, out);
      break;
    default:
      convolve<0>(state, weight, a.width, x, n, out);
  }
  for_vectors(n, [&](int64_t i, int lanes) EXN_FLAT {
    f32v v = load_part(out + i, lanes, 0.0f);
    if (a.bias != nullptr) v = add(v, load_part(a.bias + first + i, lanes, 0.0f));
    store_part(out + i, silu(v), lanes);
  });
  narrow(out, a.out, row, first, n);
}

// ---- scan ---------------------------------------------------------------------------------------

// What a block's channels have in common with no state.
struct Scanned {
  alignas(64) float dt[kChannels];
  alignas(64) float dt_x[kChannels];
  alignas(64) float out[kChannels];
};

// h and a of N channels.
template <int N>
EXN_SIMD void scan_channels(float* h, const float* a, int64_t width, const float* dt,
                            const float* dt_x, const float* b, const float* c, float* out) {
  f32v sums[N];
  for (int k = 0; k < N; ++k) sums[k] = zero();
  for_vectors(width, [&](int64_t i, int lanes) EXN_FLAT {
    const f32v b_i = load_part(b + i, lanes, 0.0f), c_i = load_part(c + i, lanes, 0.0f);
    f32v x[N], e[N];
    for (int k = 0; k < N; ++k) x[k] = mul(set1(dt[k]), load_part(a + k * width + i, lanes, 0.0f));
    exp_any(x, e);
    for (int k = 0; k < N; ++k) {
      float* at = h + k * width + i;
      const f32v now = fma(load_part(at, lanes, 0.0f), e[k], mul(set1(dt_x[k]), b_i));
      store_part(at, now, lanes);
      sums[k] = fma(now, c_i, sums[k]);
    }
  });
  reduce_add_all(sums, out);
}

__attribute__((noinline)) void scan_block(const SsmStepArgs& a, int64_t row, int64_t first,
                                          int64_t n, float* h, const float* b, const float* c) {
  alignas(64) float x[kChannels];
  Scanned s;
  widen(a.x, row, first, n, x);
  widen(a.dt, row, first, n, s.dt);
  for_vectors(n, [&](int64_t i, int lanes) EXN_FLAT {
    f32v v = load_part(s.dt + i, lanes, 0.0f);
    if (a.bias != nullptr) v = add(v, load_part(a.bias + first + i, lanes, 0.0f));
    const f32v dt = softplus(v);
    store_part(s.dt + i, dt, lanes);
    store_part(s.dt_x + i, mul(dt, load_part(x + i, lanes, 0.0f)), lanes);
  });
  const float* weight = a.weight + first * a.width;
  int64_t d = 0;
  for (; d + kGroup <= n; d += kGroup) {
    scan_channels<kGroup>(h + d * a.width, weight + d * a.width, a.width, s.dt + d, s.dt_x + d, b,
                          c, s.out + d);
  }
  for (; d < n; ++d) {
    scan_channels<1>(h + d * a.width, weight + d * a.width, a.width, s.dt + d, s.dt_x + d, b, c,
                     s.out + d);
  }
  if (a.out.data == nullptr) return;
  if (a.z.data != nullptr) widen(a.z, row, first, n, s.dt);
  for_vectors(n, [&](int64_t i, int lanes) EXN_FLAT {
    f32v y = load_part(s.out + i, lanes, 0.0f);
    if (a.skip != nullptr) {
      y = fma(load_part(a.skip + first + i, lanes, 0.0f), load_part(x + i, lanes, 0.0f), y);
    }
    if (a.z.data != nullptr) y = mul(y, silu(load_part(s.dt + i, lanes, 0.0f)));
    store_part(s.out + i, y, lanes);
  });
  narrow(s.out, a.out, row, first, n);
}

// One after the other: a sequence's later rows go on from its earlier ones.
void rows_of_channels(const SsmStepArgs& args, int64_t begin, int64_t end) {
  const SsmStepArgs a = args;  // a copy that no store can alias
  alignas(64) float b[EXN_SSM_MOST_STATES], c[EXN_SSM_MOST_STATES];
  const bool scans = a.stage == EXN_SSM_SCAN;
  for (int64_t row = 0; row < a.x.rows; ++row) {
    if (a.active != nullptr && a.active[row] == 0) {
      if (a.out.data == nullptr) continue;
      const int64_t size = size_of(a.out.dtype);
      char* out = static_cast<char*>(a.out.data) + (row * a.out.stride + begin) * size;
      std::memset(out, 0, static_cast<size_t>((end - begin) * size));
      continue;
    }
    const int64_t sequence = a.sequence != nullptr ? a.sequence[row] : 0;
    float* state = a.state + sequence * a.x.cols * a.width;
    if (scans) {
      widen(a.b, row, 0, a.width, b);
      widen(a.c, row, 0, a.width, c);
    }
    for (int64_t first = begin; first < end; first += kChannels) {
      const int64_t n = end - first < kChannels ? end - first : kChannels;
      float* of = state + first * a.width;
      scans ? scan_block(a, row, first, n, of, b, c) : conv_block(a, row, first, n, of);
    }
  }
}

}  // namespace

exn_status ssm_step(const SsmStepArgs& a, Workspace& ws) {
  if (ws.counting()) return EXN_OK;
  const exn_status status =
      check_ids("exn_ssm_step", "sequence", a.sequence, a.x.rows, 0, a.states - 1);
  if (status != EXN_OK) return status;
  ran(EXN_CPU_PATH(ws, "ssm_step"));
  const int64_t rows = a.x.rows;
  if (rows == 0) return EXN_OK;
  const int64_t blocks = kPiece / product(rows, a.width, kChannels) + 1;
  parallel_for(a.x.cols, blocks * kChannels,
               [&](int64_t begin, int64_t end) { rows_of_channels(a, begin, end); });
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
