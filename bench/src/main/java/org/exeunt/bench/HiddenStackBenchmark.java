// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.HiddenStackProblem;

/** Hidden states pushed onto their stack, or all of them gathered from it. */
public class HiddenStackBenchmark extends OpBenchmark {
  @Override
  String op() {
    return "hidden_stack";
  }

  @Override
  Prepared prepare(BenchCase benchCase, Contenders contenders) {
    HiddenStackProblem problem = StepProblems.hiddenStack(benchCase);
    return checked(contenders.hiddenStack(problem, threads), problem::check, problem.bytes(),
        problem.moved());
  }
}
