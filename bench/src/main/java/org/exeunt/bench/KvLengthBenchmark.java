// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.KvLengthProblem;

/** Lengths of sequences advanced or cropped. */
public class KvLengthBenchmark extends OpBenchmark {
  @Override
  String op() {
    return "kv_length";
  }

  @Override
  Prepared prepare(BenchCase benchCase, Contenders contenders) {
    KvLengthProblem problem = StepProblems.kvLength(benchCase);
    return checked(contenders.kvLength(problem, threads), problem::check, problem.bytes());
  }
}
