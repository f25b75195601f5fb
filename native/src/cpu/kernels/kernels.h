// SPDX-License-Identifier: Apache-2.0
// The CPU kernels of one instruction set. Every kernels/*.cpp is compiled once per instruction set into the namespace
// exn::cpu::EXN_ISA; table.cpp collects them.
#pragma once

#include "../../core/ops.h"

namespace exn::cpu {

struct Kernels {
  const char* isa;
  exn_status (*row_stats)(const RowStatsArgs&, Workspace&);
  exn_status (*exit_head)(const ExitHeadArgs&, Workspace&);
  exn_status (*stablemax)(const StableMaxArgs&, Workspace&);
  exn_status (*cross_entropy)(const CrossEntropyArgs&, Workspace&);
  exn_status (*perp_grad)(const PerpGradArgs&, Workspace&);
  exn_status (*cosine)(const CosineArgs&, Workspace&);
  exn_status (*gate)(const GateArgs&, Workspace&);
  exn_status (*exit_rule)(const ExitRuleArgs&, Workspace&);
  uint64_t (*read_probe)(const void* data, int64_t bytes);
};

}  // namespace exn::cpu
