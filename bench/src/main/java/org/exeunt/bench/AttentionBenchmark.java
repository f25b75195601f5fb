// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.AttentionProblem;

/** Attention over a cache. */
public class AttentionBenchmark extends OpBenchmark {
  @Override
  String op() {
    return "attention";
  }

  @Override
  Prepared prepare(BenchCase benchCase, Contenders contenders) {
    AttentionProblem problem = LayerProblems.attention(benchCase);
    return checked(contenders.attention(problem, threads), problem::check, problem.bytes())
        .computing(problem.multiplyAdds());
  }
}
