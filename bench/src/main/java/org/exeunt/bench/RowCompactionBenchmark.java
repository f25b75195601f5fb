// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.RowCompactionProblem;

/** Rows gathered for a smaller batch, and back. */
public class RowCompactionBenchmark extends OpBenchmark {
  @Override
  String op() {
    return "row_compaction";
  }

  @Override
  Prepared prepare(BenchCase benchCase, Contenders contenders) {
    RowCompactionProblem problem = LayerProblems.rowCompaction(benchCase);
    return checked(contenders.rowCompaction(problem, threads), problem::check, problem.bytes(),
        problem.moved());
  }
}
