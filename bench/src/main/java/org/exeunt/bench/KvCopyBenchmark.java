// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.KvCopyProblem;

/** Slots of a cache copied or compacted. */
public class KvCopyBenchmark extends OpBenchmark {
  @Override
  String op() {
    return "kv_copy";
  }

  @Override
  Prepared prepare(BenchCase benchCase, Contenders contenders) {
    KvCopyProblem problem = LayerProblems.kvCopy(benchCase);
    return checked(contenders.kvCopy(problem, threads), problem::check, problem.bytes(),
        problem.moved());
  }
}
