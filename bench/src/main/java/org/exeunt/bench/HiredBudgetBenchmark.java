// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.HiredBudgetProblem;

/** Budgets of the partitions of an image. */
public class HiredBudgetBenchmark extends OpBenchmark {
  @Override
  String op() {
    return "hired_budget";
  }

  @Override
  Prepared prepare(BenchCase benchCase, Contenders contenders) {
    HiredBudgetProblem problem = StepProblems.hiredBudget(benchCase);
    return checked(contenders.hiredBudget(problem, threads), problem::check, problem.bytes());
  }
}
