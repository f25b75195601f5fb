// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import org.exeunt.bench.contenders.Contenders;

/**
 * What a careful Java author writes with {@code jdk.incubator.vector}, on heap arrays, where there
 * is something to compute; projections deliver f32.
 * References to constructors would load what the process that plans a run has no module for.
 */
public final class VectorContenders extends Contenders {
  public VectorContenders() {
    offer("stablemax", (problem, threads) -> VectorSoftmax.forward(problem, threads));
    offer("cross_entropy", (problem, threads) -> VectorSoftmax.loss(problem, threads));
    offer("row_stats", (problem, threads) -> new VectorStats(problem, threads));
    offer("exit_head", (problem, threads) -> new VectorExitHead(problem, threads));
    offer("cosine", (problem, threads) -> new VectorCosine(problem, threads));
    offer("perp_grad", (problem, threads) -> new VectorPerpGrad(problem, threads));
    offer("gate", (problem, threads) -> new VectorGate(problem, threads));
    offer("norm", (problem, threads) -> new VectorNorm(problem, threads));
    offer("linear", (problem, threads) -> new VectorLinear(problem, threads));
    offer("ffn", (problem, threads) -> new VectorFfn(problem, threads));
    offer("kv_propagate", (problem, threads) -> new VectorKvPropagate(problem, threads));
    offer("attention", (problem, threads) -> new VectorAttention(problem, threads));
    offer("select", (problem, threads) -> JavaSelect.of(problem));
    offer("attention_scores", (problem, threads) -> new VectorScores(problem, threads));
    offer("rope_table", (problem, threads) -> new VectorRopeTable(problem, threads));
    offer("column_norms", (problem, threads) -> new VectorColumnNorms(problem, threads));
    offer("prune_mask", (problem, threads) -> new VectorPruneMask(problem, threads));
    offer("prune_apply", (problem, threads) -> new VectorPruneApply(problem, threads));
    offer("elr", (problem, threads) -> new VectorElr(problem, threads));
    offer("ssm_step", (problem, threads) -> new VectorSsmStep(problem, threads));
    offer("verify", (problem, threads) -> new VectorVerify(problem, threads));
    offer("draft_lookup", (problem, threads) -> new VectorDraftLookup(problem, threads));
    offer("token_bias", (problem, threads) -> new JavaTokenBias(problem, threads));
    offer("exit_rule", (problem, threads) -> new JavaExitRule(problem));
    offer("stop_rule", (problem, threads) -> new JavaStopRule(problem));
  }
}
