// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.GateProblem;

/** Learned exit gates. */
public class GateBenchmark extends OpBenchmark {
  @Override
  String op() {
    return "gate";
  }

  @Override
  Prepared prepare(BenchCase benchCase, Contenders contenders) {
    GateProblem problem = Problems.gate(benchCase);
    return checked(contenders.gate(problem, threads), problem::check, problem.bytes());
  }
}
