// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.CosineProblem;

/** Row-wise cosine similarity. */
public class CosineBenchmark extends OpBenchmark {
  @Override
  String op() {
    return "cosine";
  }

  @Override
  Prepared prepare(BenchCase benchCase, Contenders contenders) {
    CosineProblem problem = Problems.cosine(benchCase);
    return checked(contenders.cosine(problem, threads), problem::check, problem.bytes());
  }
}
