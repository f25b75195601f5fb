// SPDX-License-Identifier: Apache-2.0
// Products of weights in panels (exeunt/pack.h) with rows of f32, for linear: a vector of weights
// belongs to as many outputs, and is multiplied by one element of an input.
//
// A product is the sum, in ascending order, of those of up to 512 columns each, which are summed
// from 0 on, a column after the other: in every lane of every set, for any number of inputs. So a
// row's bits depend neither on its batch nor on what stands beside an output.
#pragma once

#include "elements.h"

namespace exn::cpu::EXN_ISA {

// Most inputs that are multiplied by one panel after the other.
constexpr int64_t kMostPanelInputs = 448;
// The largest depth block, whose columns are summed from 0 on, and the depth block of a product:
// blocks are of about the same length, as each prefetches as much of what comes next.
constexpr int64_t kPanelDepth = 512;
static EXN_SIMD int64_t panel_depth(int64_t dim) {
  const int64_t blocks = (dim + kPanelDepth - 1) / kPanelDepth;
  return (dim + blocks - 1) / blocks;
}

// What a thread keeps in between.
struct PanelScratch {
  alignas(64) float sums[kMostPanelInputs * kPanelRows];
  alignas(64) float wide[kPanelDepth * kPanelRows];  // columns of a panel that was widened
};

// The blocks of inputs and groups of panels of a product, in the order in which threads take them.
struct PanelGrid {
  int64_t inputs, outputs, block, together, groups;

  PanelGrid(const Matrix& weight, int64_t all_inputs);
  EXN_SIMD int64_t items() const { return (inputs + block - 1) / block * groups; }

  struct Item {
    int64_t input, inputs, output, outputs;
  };
  EXN_SIMD Item item(int64_t i) const {
    const int64_t whole = outputs / kPanelRows * kPanelRows, input = i / groups * block;
    const int64_t next = i % groups * together * kPanelRows;
    // What fills no panel is the last group.
    const int64_t output = next < whole ? next : whole, end = output < whole ? whole : outputs;
    const int64_t left = end - output, most = together * kPanelRows;
    return {input, inputs - input < block ? inputs - input : block, output,
            left < most ? left : most};
  }
};

// scratch.sums[r * outputs + j], of outputs rounded up to whole panels: the products of an item,
// where the first of all inputs begins at x.
void panel_products(const Matrix& weight, const PanelGrid::Item& item, const float* x,
                    int64_t stride, PanelScratch& scratch);

}  // namespace exn::cpu::EXN_ISA
