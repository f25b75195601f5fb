// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.GatherProblem;

/** Kept tokens, and the whole way from their scores to them. */
public class GatherBenchmark extends OpBenchmark {
  @Override
  String op() {
    return "gather";
  }

  @Override
  Prepared prepare(BenchCase benchCase, Contenders contenders) {
    GatherProblem problem = DropProblems.gather(benchCase);
    return checked(contenders.gather(problem, threads), problem::check, problem.bytes(),
        problem.moved());
  }
}
