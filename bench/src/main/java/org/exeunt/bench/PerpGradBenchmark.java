// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.PerpGradProblem;

/** A gradient without its part along the weights. */
public class PerpGradBenchmark extends OpBenchmark {
  @Override
  String op() {
    return "perp_grad";
  }

  @Override
  Prepared prepare(BenchCase benchCase, Contenders contenders) {
    PerpGradProblem problem = Problems.perpGrad(benchCase);
    return checked(contenders.perpGrad(problem, threads), problem::check, problem.bytes());
  }
}
