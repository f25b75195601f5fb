// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.LayerScheduleProblem;

/** A table of the layers that each position runs. */
public class LayerScheduleBenchmark extends OpBenchmark {
  @Override
  String op() {
    return "layer_schedule";
  }

  @Override
  Prepared prepare(BenchCase benchCase, Contenders contenders) {
    LayerScheduleProblem problem = StepProblems.layerSchedule(benchCase);
    return checked(contenders.layerSchedule(problem, threads), problem::check, problem.bytes());
  }
}
