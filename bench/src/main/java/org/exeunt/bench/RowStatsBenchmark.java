// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.RowStatsProblem;

/** Confidence statistics of rows of logits. */
public class RowStatsBenchmark extends OpBenchmark {
  @Override
  String op() {
    return "row_stats";
  }

  @Override
  Prepared prepare(BenchCase benchCase, Contenders contenders) {
    RowStatsProblem problem = Problems.rowStats(benchCase);
    return checked(contenders.rowStats(problem, threads), problem::check, problem.bytes());
  }
}
