// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.KvPropagateProblem;

/** Keys and values that rows which left owe the layers above. */
public class KvPropagateBenchmark extends OpBenchmark {
  @Override
  String op() {
    return "kv_propagate";
  }

  @Override
  Prepared prepare(BenchCase benchCase, Contenders contenders) {
    KvPropagateProblem problem = LayerProblems.kvPropagate(benchCase);
    return checked(contenders.kvPropagate(problem, threads), problem::check, problem.bytes())
        .computing(problem.multiplyAdds());
  }
}
