// SPDX-License-Identifier: Apache-2.0
// What can become one node because no way leads out of it and back: nodes of bf16 that ONNX Runtime
// lacks, and claims beside one another where there are many.
#pragma once

#include "match.h"

namespace exn::ort {

// Adds clusters to the claims, which no way leads out of and back into. Claims that wait for one
// another are taken out first.
void add_clusters(const Graph& graph, const Refused& refused, Claims* claims);

// Says which claims are to be fused together. Where there are few each is alone; but ONNX Runtime
// takes a time that grows with the square or the cube of the number of nodes that it has fused.
void bundle(const Graph& graph, Claims* claims);

}  // namespace exn::ort
