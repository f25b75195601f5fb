// SPDX-License-Identifier: Apache-2.0
// The products of panel_products.h, a GEMM over packed panels. The microkernel multiplies each
// vector of weights that it loads by as many inputs (NR) as there are registers for accumulators.
// The columns that all inputs of a block share stay in cache meanwhile, and those that come next
// are prefetched. Few inputs take several panels side by side, since each addition waits for the
// one before; they read on in one direction, which the hardware prefetches by itself.
#include "panel_products.h"

#include "../simd/prefetch.h"

namespace exn::cpu::EXN_ISA {
namespace {

constexpr int kHalf = static_cast<int>(kPanelRows) / 2;
// NR, the inputs of the largest register tile, with two accumulators each.
constexpr int kMostNR = kRegisters == 32 ? 14 : 6;
// Inputs that are multiplied by several panels side by side.
constexpr int kFewInputs = 3;
// Bytes of inputs that L2 holds beside a panel.
constexpr int64_t kNearInputs = int64_t{512} << 10;

// Sets without a conversion of f16, the baseline, have its panels widened before they are
// multiplied.
template <class T>
constexpr bool kWidens = std::is_same_v<T, f16> && kLanes == 4 && kRegisters == 16;

// Columns of one panel, or of some side by side, and the inputs that they are multiplied by.
struct PanelSlice {
  const float* x;
  int64_t stride;
  const char* at;
  int64_t pitch;  // bytes from panel to panel
  int64_t columns;
  float* sums;
  int64_t sums_stride;
  bool first;          // there are no sums yet
  int64_t distance;    // the prefetch distance: bytes from what is read to what comes next
  int64_t prefetched;  // bytes of it that were prefetched
  int64_t step_bytes;  // bytes that each column prefetches
};

// Of a column, kLanes of the first half of a panel's outputs and those 16 after them.
template <class T>
EXN_SIMD void load_outputs(const T* column, int begin, f32v& low, f32v& high) {
  low = load(column + begin);
  high = load(column + begin + kHalf);
}
EXN_SIMD void load_outputs(const bf16* column, int begin, f32v& low, f32v& high) {
  load_pair(column + 2 * begin, low, high);
}

template <class T, int kInputs, int kPanels>
EXN_SIMD void microkernel(const PanelSlice& p, int begin) {
  constexpr int kLines = static_cast<int>(kPanelRows * sizeof(T) / kLine);
  f32v low[kPanels][kInputs], high[kPanels][kInputs];
  for (int n = 0; n < kPanels; ++n) {
    for (int m = 0; m < kInputs; ++m) low[n][m] = high[n][m] = zero();
  }
  // An address is one of these and no, one or two strides: one for each input would not fit into
  // registers.
  constexpr int kPerPointer = 3;
  const float* x[(kInputs + kPerPointer - 1) / kPerPointer];
  for (int m = 0; m < kInputs; m += kPerPointer) x[m / kPerPointer] = p.x + m * p.stride;
  const char* at = p.at;
  const char* ahead = p.at + p.distance + p.prefetched;
  for (int64_t k = 0; k < p.columns; ++k) {
    f32v a[kPanels], b[kPanels];
    for (int n = 0; n < kPanels; ++n) {
      load_outputs(reinterpret_cast<const T*>(at + n * p.pitch), begin, a[n], b[n]);
      if constexpr (kInputs > kFewInputs) prefetch_lines<kLines>(ahead + n * p.pitch);
    }
    at += kPanelRows * static_cast<int64_t>(sizeof(T));
    ahead += p.step_bytes;
#pragma GCC unroll 16
    for (int m = 0; m < kInputs; ++m) {
      const f32v input = set1(x[m / kPerPointer][m % kPerPointer * p.stride]);
      for (int n = 0; n < kPanels; ++n) {
        low[n][m] = add_product(input, a[n], low[n][m]);
        high[n][m] = add_product(input, b[n], high[n][m]);
      }
    }
    for (const float*& from : x) {
      ++from;
      asm("" : "+r"(from));  // else compilers make an address for each input of it
    }
  }
  for (int m = 0; m < kInputs; ++m) {
    for (int n = 0; n < kPanels; ++n) {
      float* const to = p.sums + m * p.sums_stride + n * kPanelRows + begin;
      store(to, p.first ? low[n][m] : add(load(to), low[n][m]));
      store(to + kHalf, p.first ? high[n][m] : add(load(to + kHalf), high[n][m]));
    }
  }
}

template <class T, int kInputs, int kPanels>
__attribute__((noinline)) void register_tile(PanelSlice p) {
  for (int begin = 0; begin < kHalf; begin += kLanes) {
    microkernel<T, kInputs, kPanels>(p, begin);
    p.prefetched += p.columns * p.step_bytes;
  }
}

// As few register tiles as there can be, of about the same height; each prefetches its share of
// what comes next.
template <class T, int kMost, int kPanels>
EXN_SIMD void register_tiles(PanelSlice p, int64_t inputs) {
  int64_t left = (inputs + kMost - 1) / kMost;
  const int64_t shares = left * (kHalf / kLanes);
  p.step_bytes = (kPanelRows * static_cast<int64_t>(sizeof(T)) + shares - 1) / shares;
  for (; left > 0; --left) {
    const int64_t height = (inputs + left - 1) / left;
    const auto of = [&](auto count) EXN_FLAT {
      constexpr int kInputs = decltype(count)::value;
      if constexpr (kInputs <= kMost) {
        if (height == kInputs) register_tile<T, kInputs, kPanels>(p);
      }
    };
#define EXN_HEIGHT(n) of(std::integral_constant<int, n>());
    EXN_HEIGHT(1)
    EXN_HEIGHT(2)
    EXN_HEIGHT(3)
    EXN_HEIGHT(4)
    EXN_HEIGHT(5)
    EXN_HEIGHT(6)
    EXN_HEIGHT(7)
    EXN_HEIGHT(8)
    EXN_HEIGHT(9)
    EXN_HEIGHT(10)
    EXN_HEIGHT(11)
    EXN_HEIGHT(12)
    EXN_HEIGHT(13)
    EXN_HEIGHT(14)
#undef EXN_HEIGHT
    p.x += height * p.stride;
    p.sums += height * p.sums_stride;
    p.prefetched += p.columns * p.step_bytes * (kHalf / kLanes);
    inputs -= height;
  }
}

// Panels that so many inputs take side by side, if no panel has to be widened.
constexpr int64_t panels_at_once(int64_t inputs) {
  return inputs == 1 ? 4 : inputs <= kFewInputs ? 2 : 1;
}

template <class T>
EXN_SIMD void multiply(const PanelSlice& p, int64_t inputs, int64_t panels) {
  if (panels == 4) {
    register_tiles<T, 1, 4>(p, inputs);
  } else if (panels == 2) {
    register_tiles<T, kFewInputs, 2>(p, inputs);
  } else {
    register_tiles<T, kMostNR, 1>(p, inputs);
  }
}

// Columns of a panel of `width` outputs, in their order, as f32; zeros beyond.
template <class T>
EXN_SIMD void widen(const T* from, int64_t columns, int64_t width, float* to) {
  for (int64_t k = 0; k < columns; ++k, from += width, to += kPanelRows) {
    for_vectors(width,
                [&](int64_t i, int n) EXN_FLAT { store(to + i, load_part(from + i, n, 0.0f)); });
    for (int64_t i = (width + kLanes - 1) / kLanes * kLanes; i < kPanelRows; i += kLanes) {
      store(to + i, zero());
    }
  }
}

template <class T>
void multiply_panels(const Matrix& weight, const PanelGrid::Item& item, const float* x,
                     int64_t stride, PanelScratch& scratch) {
  const int64_t dim = weight.cols, panel = dim * kPanelRows * static_cast<int64_t>(sizeof(T));
  const int64_t panels = (item.outputs + kPanelRows - 1) / kPanelRows;
  const int64_t width = item.outputs < kPanelRows ? item.outputs : kPanelRows;
  const bool widened = width < kPanelRows || kWidens<T>;
  const int64_t side = panels_at_once(item.inputs);
  const int64_t together = panels == side && !widened ? side : 1;
  const char* const at = static_cast<const char*>(weight.data) + item.output / kPanelRows * panel;
  const int64_t step = width * static_cast<int64_t>(sizeof(T));  // bytes of a column
  const int64_t depth = panel_depth(dim);
  for (int64_t first = 0; first < dim; first += depth) {
    const int64_t columns = dim - first < depth ? dim - first : depth;
    PanelSlice p = {x + first,
                    stride,
                    nullptr,
                    panel,
                    columns,
                    scratch.sums,
                    panels * kPanelRows,
                    first == 0,
                    first + columns < dim ? columns * step : together * panel - first * step,
                    0,
                    0};
    for (int64_t n = 0; n < panels; n += together, p.sums += together * kPanelRows) {
      p.at = at + n * panel + first * step;
      if (widened) {
        widen(reinterpret_cast<const T*>(p.at), columns, width, scratch.wide);
        p.at = reinterpret_cast<const char*>(scratch.wide);
        p.distance = 0;
        multiply<float>(p, item.inputs, 1);
      } else if constexpr (!kWidens<T>) {
        multiply<T>(p, item.inputs, together);
      }
    }
  }
}

}  // namespace

PanelGrid::PanelGrid(const Matrix& weight, int64_t all_inputs)
    : inputs(all_inputs), outputs(weight.rows) {
  const int64_t tiles = kNearInputs / (weight.cols * int64_t{sizeof(float)}) / kMostNR;
  const int64_t near = tiles < 1 ? kMostNR : tiles * kMostNR;
  const int64_t most = near < kMostPanelInputs ? near : kMostPanelInputs;
  const int64_t blocks = (inputs + most - 1) / most;
  block = blocks < 1 ? 1 : (inputs + blocks - 1) / blocks;
  together = kWidens<f16> && weight.blocks == Blocks::kPanelsF16 ? 1 : panels_at_once(block);
  const int64_t whole = outputs / kPanelRows;
  groups = (whole + together - 1) / together + (outputs % kPanelRows > 0 ? 1 : 0);
}

void panel_products(const Matrix& weight, const PanelGrid::Item& item, const float* x,
                    int64_t stride, PanelScratch& scratch) {
  x += item.input * stride;
  switch (weight.blocks) {
    case Blocks::kPanelsF16:
      multiply_panels<f16>(weight, item, x, stride, scratch);
      break;
    case Blocks::kPanelsBF16:
      multiply_panels<bf16>(weight, item, x, stride, scratch);
      break;
    default:
      multiply_panels<float>(weight, item, x, stride, scratch);
  }
}

}  // namespace exn::cpu::EXN_ISA
