// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.FfnSkipRuleProblem;

/** A rule that skips feed-forward blocks: one token through all layers. */
public class FfnSkipRuleBenchmark extends OpBenchmark {
  @Override
  String op() {
    return "ffn_skip_rule";
  }

  @Override
  Prepared prepare(BenchCase benchCase, Contenders contenders) {
    FfnSkipRuleProblem problem = StepProblems.ffnSkipRule(benchCase);
    return checked(contenders.ffnSkipRule(problem, threads), problem::check, problem.bytes());
  }
}
