// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.CrossEntropyProblem;

/** Mean cross-entropy and its gradient. */
public class CrossEntropyBenchmark extends OpBenchmark {
  @Override
  String op() {
    return "cross_entropy";
  }

  @Override
  Prepared prepare(BenchCase benchCase, Contenders contenders) {
    CrossEntropyProblem problem = Problems.crossEntropy(benchCase);
    return checked(contenders.crossEntropy(problem, threads), problem::check, problem.bytes());
  }
}
