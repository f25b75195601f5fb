// SPDX-License-Identifier: Apache-2.0
// Which products pay.
#pragma once

#include "match.h"

namespace exn::ort {

// Whether ONNX Runtime alone is slower at what a group computes, as far as one can tell from sizes,
// types and what is fused. `release`: of ONNX Runtime, 24 for 1.24. docs/onnxruntime.md has the
// figures for it.
bool worth(const Graph& graph, const Group& group, int release);

}  // namespace exn::ort
