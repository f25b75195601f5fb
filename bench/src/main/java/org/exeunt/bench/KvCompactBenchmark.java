// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.KvCompactProblem;

/** A cache shrinks to the slots that are kept. */
public class KvCompactBenchmark extends OpBenchmark {
  @Override
  String op() {
    return "kv_compact";
  }

  @Override
  Prepared prepare(BenchCase benchCase, Contenders contenders) {
    KvCompactProblem problem = DropProblems.kvCompact(benchCase);
    return checked(contenders.kvCompact(problem, threads), problem::check, problem.bytes(),
        problem.moved());
  }
}
