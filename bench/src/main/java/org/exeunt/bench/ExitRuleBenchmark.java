// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.ExitRuleProblem;

/** An exit rule: one token through all its exit points. */
public class ExitRuleBenchmark extends OpBenchmark {
  @Override
  String op() {
    return "exit_rule";
  }

  @Override
  Prepared prepare(BenchCase benchCase, Contenders contenders) {
    ExitRuleProblem problem = Problems.exitRule(benchCase);
    return checked(contenders.exitRule(problem, threads), problem::check, problem.bytes());
  }
}
