// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.AttentionScoresProblem;
import org.exeunt.bench.reference.GatherProblem;
import org.exeunt.bench.reference.KvCompactProblem;
import org.exeunt.bench.reference.ScoresResult;
import org.exeunt.bench.reference.SelectProblem;

/** The ops that drop tokens, as {@link Contenders} offers them. */
public interface DropContenders {
  Contender<int[]> select(SelectProblem problem, int threads);

  Contender<ScoresResult> attentionScores(AttentionScoresProblem problem, int threads);

  Contender<float[]> gather(GatherProblem problem, int threads);

  Contender<float[]> kvCompact(KvCompactProblem problem, int threads);
}
