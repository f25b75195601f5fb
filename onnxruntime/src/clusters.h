// SPDX-License-Identifier: Apache-2.0
// Nodes of bf16 that ONNX Runtime lacks, put together into as few as there can be.
#pragma once

#include "match.h"

namespace exn::ort {

// Adds clusters to the claims, which no way leads out of and back into. Claims that wait for one
// another are taken out first.
void add_clusters(const Graph& graph, const Refused& refused, Claims* claims);

}  // namespace exn::ort
