// SPDX-License-Identifier: Apache-2.0
#include "isa.h"

namespace exn::cpu::EXN_ISA {

exn_status row_stats(const RowStatsArgs&, Workspace&);
exn_status exit_head(const ExitHeadArgs&, Workspace&);
exn_status stablemax(const StableMaxArgs&, Workspace&);
exn_status cross_entropy(const CrossEntropyArgs&, Workspace&);
exn_status perp_grad(const PerpGradArgs&, Workspace&);
exn_status cosine(const CosineArgs&, Workspace&);
exn_status gate(const GateArgs&, Workspace&);
exn_status exit_rule(const ExitRuleArgs&, Workspace&);
uint64_t read_probe(const void* data, int64_t bytes);

extern const Kernels kernels;
const Kernels kernels = {EXN_ISA_NAME, row_stats, exit_head, stablemax, cross_entropy,
                         perp_grad,    cosine,    gate,      exit_rule, read_probe};

}  // namespace exn::cpu::EXN_ISA
