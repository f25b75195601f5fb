// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.NormProblem;

/** RMSNorm and LayerNorm. */
public class NormBenchmark extends OpBenchmark {
  @Override
  String op() {
    return "norm";
  }

  @Override
  Prepared prepare(BenchCase benchCase, Contenders contenders) {
    NormProblem problem = LayerProblems.norm(benchCase);
    return checked(contenders.norm(problem, threads), problem::check, problem.bytes());
  }
}
