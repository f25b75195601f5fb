// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.RopeTableProblem;

/** A table of cosines and sines. */
public class RopeTableBenchmark extends OpBenchmark {
  @Override
  String op() {
    return "rope_table";
  }

  @Override
  Prepared prepare(BenchCase benchCase, Contenders contenders) {
    RopeTableProblem problem = StepProblems.ropeTable(benchCase);
    return checked(contenders.ropeTable(problem, threads), problem::check, problem.bytes());
  }
}
