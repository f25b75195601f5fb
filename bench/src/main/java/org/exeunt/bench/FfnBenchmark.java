// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.FfnProblem;

/** Feed-forward blocks, some or all of whose rows skip. */
public class FfnBenchmark extends OpBenchmark {
  @Override
  String op() {
    return "ffn";
  }

  @Override
  Prepared prepare(BenchCase benchCase, Contenders contenders) {
    FfnProblem problem = LayerProblems.ffn(benchCase);
    return checked(contenders.ffn(problem, threads), problem::check, problem.bytes())
        .computing(problem.multiplyAdds());
  }
}
