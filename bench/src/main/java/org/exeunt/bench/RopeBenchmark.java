// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.RopeProblem;

/** Rotary embedding of heads. */
public class RopeBenchmark extends OpBenchmark {
  @Override
  String op() {
    return "rope";
  }

  @Override
  Prepared prepare(BenchCase benchCase, Contenders contenders) {
    RopeProblem problem = LayerProblems.rope(benchCase);
    return checked(contenders.rope(problem, threads), problem::check, problem.bytes());
  }
}
