// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.LinearProblem;

/** Projections of one row, a few, a prompt. */
public class LinearBenchmark extends OpBenchmark {
  @Override
  String op() {
    return "linear";
  }

  @Override
  Prepared prepare(BenchCase benchCase, Contenders contenders) {
    LinearProblem problem = LayerProblems.linear(benchCase);
    return checked(contenders.linear(problem, threads), problem::check, problem.bytes())
        .computing(problem.multiplyAdds());
  }
}
