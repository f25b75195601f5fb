// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.SelectProblem;

/** The best columns of each row, as an ascending list. */
public class SelectBenchmark extends OpBenchmark {
  @Override
  String op() {
    return "select";
  }

  @Override
  Prepared prepare(BenchCase benchCase, Contenders contenders) {
    SelectProblem problem = DropProblems.select(benchCase);
    return checked(contenders.select(problem, threads), problem::check, problem.bytes());
  }
}
