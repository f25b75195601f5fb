// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import org.exeunt.bench.Contender;
import org.exeunt.bench.DropContenders;
import org.exeunt.bench.Peers;
import org.exeunt.bench.reference.AttentionScoresProblem;
import org.exeunt.bench.reference.GatherProblem;
import org.exeunt.bench.reference.KvCompactProblem;
import org.exeunt.bench.reference.ScoresResult;
import org.exeunt.bench.reference.SelectProblem;

/** The ops that drop tokens in Java: scores with the Vector API, selections and moves without. */
abstract class VectorDrops extends VectorLayers implements DropContenders {
  @Override
  public Contender<int[]> select(SelectProblem problem, int threads) {
    return new JavaSelect(problem);
  }

  @Override
  public Contender<ScoresResult> attentionScores(AttentionScoresProblem problem, int threads) {
    Peers.requireLastRow(problem);
    return new VectorScores(problem, threads);
  }

  @Override
  public Contender<float[]> gather(GatherProblem problem, int threads) {
    Peers.requireCopy(problem.inPlace);
    return new JavaGather(problem, threads);
  }

  @Override
  public Contender<float[]> kvCompact(KvCompactProblem problem, int threads) {
    Peers.requireCopy(problem.inPlace);
    return new JavaGather(problem, threads);
  }
}
