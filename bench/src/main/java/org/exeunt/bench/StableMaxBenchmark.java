// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.SoftmaxProblem;

/** StableMax and softmax of rows of logits. */
public class StableMaxBenchmark extends OpBenchmark {
  @Override
  String op() {
    return "stablemax";
  }

  @Override
  Prepared prepare(BenchCase benchCase, Contenders contenders) {
    SoftmaxProblem problem = Problems.softmax(benchCase);
    return checked(contenders.softmax(problem, threads), problem::check, problem.bytes());
  }
}
