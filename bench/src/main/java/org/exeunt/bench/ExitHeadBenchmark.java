// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.ExitHeadProblem;

/** LM head and statistics; the logits are not wanted. */
public class ExitHeadBenchmark extends OpBenchmark {
  @Override
  String op() {
    return "exit_head";
  }

  @Override
  Prepared prepare(BenchCase benchCase, Contenders contenders) {
    ExitHeadProblem problem = Problems.exitHead(benchCase);
    return checked(contenders.exitHead(problem, threads), problem::check, problem.bytes())
        .computing(problem.multiplyAdds());
  }
}
