// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.AttentionScoresProblem;

/** What a few queries pay to each token, and the tokens to keep for it. */
public class AttentionScoresBenchmark extends OpBenchmark {
  @Override
  String op() {
    return "attention_scores";
  }

  @Override
  Prepared prepare(BenchCase benchCase, Contenders contenders) {
    AttentionScoresProblem problem = DropProblems.attentionScores(benchCase);
    return checked(contenders.attentionScores(problem, threads), problem::check, problem.bytes())
        .computing(problem.multiplyAdds());
  }
}
