// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import org.exeunt.bench.cases.BenchCase;
import org.exeunt.bench.contenders.Contenders;
import org.exeunt.bench.contenders.Peers;
import org.exeunt.bench.reference.AttentionProblem;
import org.exeunt.bench.reference.AttentionScoresProblem;
import org.exeunt.bench.reference.CosineProblem;
import org.exeunt.bench.reference.CrossEntropyProblem;
import org.exeunt.bench.reference.ExitHeadProblem;
import org.exeunt.bench.reference.FfnProblem;
import org.exeunt.bench.reference.GateProblem;
import org.exeunt.bench.reference.GatherProblem;
import org.exeunt.bench.reference.KvAppendProblem;
import org.exeunt.bench.reference.KvCompactProblem;
import org.exeunt.bench.reference.KvPropagateProblem;
import org.exeunt.bench.reference.LinearProblem;
import org.exeunt.bench.reference.NormProblem;
import org.exeunt.bench.reference.PerpGradProblem;
import org.exeunt.bench.reference.RopeTableProblem;
import org.exeunt.bench.reference.RowStatsProblem;
import org.exeunt.bench.reference.SelectProblem;
import org.exeunt.bench.reference.SoftmaxProblem;

/**
 * What a careful Java author writes with {@code jdk.incubator.vector}, on heap arrays, where there
 * is something to compute; projections deliver f32. Selections and moves are plain loops.
 * References to constructors would load what the process that plans a run has no module for.
 */
public final class VectorContenders extends Contenders {
  public VectorContenders() {
    offer("stablemax",
        (SoftmaxProblem problem,
            int threads) -> VectorSoftmax.forward(problem.normalizer, problem.logits, threads));
    offer("cross_entropy",
        (CrossEntropyProblem problem, int threads) -> VectorSoftmax.loss(problem, threads));
    offer("row_stats",
        (RowStatsProblem problem, int threads) -> new VectorStats(Peers.four(problem), threads));
    offer("exit_head",
        (ExitHeadProblem problem, int threads) -> new VectorExitHead(Peers.bare(problem), threads));
    offer("cosine", (CosineProblem problem, int threads) -> new VectorCosine(problem, threads));
    offer("perp_grad",
        (PerpGradProblem problem, int threads) -> new VectorPerpGrad(problem, threads));
    offer("gate", (GateProblem problem, int threads) -> new VectorGate(problem, threads));
    offer("norm", (NormProblem problem, int threads) -> new VectorNorm(problem, threads));
    offer("linear", (LinearProblem problem, int threads) -> new VectorLinear(problem, threads));
    offer("ffn", (FfnProblem problem, int threads) -> new VectorFfn(Peers.plain(problem), threads));
    offer("kv_propagate",
        (KvPropagateProblem problem, int threads) -> new VectorKvPropagate(problem, threads));
    offer("attention",
        (AttentionProblem problem,
            int threads) -> new VectorAttention(Peers.decode(problem), threads));
    offer("select", (SelectProblem problem, int threads) -> new JavaSelect(problem));
    offer("attention_scores",
        (AttentionScoresProblem problem,
            int threads) -> new VectorScores(Peers.lastRow(problem), threads));
    offer("gather",
        (GatherProblem problem,
            int threads) -> new JavaGather(Peers.copy(problem, problem.inPlace), threads));
    offer("kv_compact",
        (KvCompactProblem problem,
            int threads) -> new JavaGather(Peers.copy(problem, problem.inPlace), threads));
    offer("kv_append", (KvAppendProblem problem, int threads) -> new VectorAppend(problem));
    offer("rope_table",
        (RopeTableProblem problem, int threads) -> new VectorRopeTable(problem, threads));
  }

  @Override
  public boolean offers(BenchCase benchCase) {
    return super.offers(benchCase) && Peers.offer(benchCase);
  }
}
