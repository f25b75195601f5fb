// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.KvAppendProblem;

/** Rows of K and V written to their slots. */
public class KvAppendBenchmark extends OpBenchmark {
  @Override
  String op() {
    return "kv_append";
  }

  @Override
  Prepared prepare(BenchCase benchCase, Contenders contenders) {
    KvAppendProblem problem = StepProblems.kvAppend(benchCase);
    return checked(contenders.kvAppend(problem, threads), problem::check, problem.bytes(),
        problem.moved());
  }
}
