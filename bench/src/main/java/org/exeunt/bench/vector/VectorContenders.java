// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import org.exeunt.bench.BenchCase;
import org.exeunt.bench.Contender;
import org.exeunt.bench.Contenders;
import org.exeunt.bench.Peers;
import org.exeunt.bench.reference.CosineProblem;
import org.exeunt.bench.reference.CrossEntropyProblem;
import org.exeunt.bench.reference.ExitHeadProblem;
import org.exeunt.bench.reference.ExitRuleProblem;
import org.exeunt.bench.reference.GateProblem;
import org.exeunt.bench.reference.LossAndGrad;
import org.exeunt.bench.reference.PerpGradProblem;
import org.exeunt.bench.reference.RowStats;
import org.exeunt.bench.reference.RowStatsProblem;
import org.exeunt.bench.reference.SoftmaxProblem;

/** What a careful Java author writes with {@code jdk.incubator.vector}, on heap arrays. */
public final class VectorContenders extends VectorSteps implements Contenders {
  @Override
  public boolean offers(BenchCase benchCase) {
    return Peers.offer(benchCase) && !benchCase.op().equals("rope");
  }

  @Override
  public Contender<float[]> softmax(SoftmaxProblem problem, int threads) {
    return VectorSoftmax.forward(problem.normalizer, problem.logits, threads);
  }

  @Override
  public Contender<LossAndGrad> crossEntropy(CrossEntropyProblem problem, int threads) {
    return VectorSoftmax.loss(problem, threads);
  }

  @Override
  public Contender<RowStats> rowStats(RowStatsProblem problem, int threads) {
    Peers.requireFour(problem);
    return new VectorStats(problem, threads);
  }

  @Override
  public Contender<RowStats> exitHead(ExitHeadProblem problem, int threads) {
    Peers.requireBare(problem);
    return new VectorExitHead(problem, threads);
  }

  @Override
  public Contender<float[]> cosine(CosineProblem problem, int threads) {
    return new VectorCosine(problem, threads);
  }

  @Override
  public Contender<float[]> perpGrad(PerpGradProblem problem, int threads) {
    return new VectorPerpGrad(problem, threads);
  }

  @Override
  public Contender<float[]> gate(GateProblem problem, int threads) {
    return new VectorGate(problem, threads);
  }

  @Override
  public Contender<int[]> exitRule(ExitRuleProblem problem, int threads) {
    return new VectorExitRule(problem);
  }
}
