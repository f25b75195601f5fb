// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import org.exeunt.bench.Contender;
import org.exeunt.bench.StepContenders;
import org.exeunt.bench.reference.FfnSkipRuleProblem;
import org.exeunt.bench.reference.HiddenStackProblem;
import org.exeunt.bench.reference.HiredBudgetProblem;
import org.exeunt.bench.reference.KvAppendProblem;
import org.exeunt.bench.reference.KvLengthProblem;
import org.exeunt.bench.reference.LayerScheduleProblem;
import org.exeunt.bench.reference.RopeTableProblem;
import org.exeunt.bench.reference.ScheduleResult;
import org.exeunt.bench.reference.StackResult;

/**
 * What is written, counted, decided or tabulated around layers: plain loops, and vectors where
 * there is something to compute.
 */
abstract class VectorSteps extends VectorDrops implements StepContenders {
  @Override
  public Contender<float[]> kvAppend(KvAppendProblem problem, int threads) {
    return new VectorAppend(problem);
  }

  @Override
  public Contender<int[]> kvLength(KvLengthProblem problem, int threads) {
    return new JavaLength(problem);
  }

  @Override
  public Contender<StackResult> hiddenStack(HiddenStackProblem problem, int threads) {
    return new JavaStack(problem);
  }

  @Override
  public Contender<int[]> ffnSkipRule(FfnSkipRuleProblem problem, int threads) {
    return new JavaSkipRule(problem);
  }

  @Override
  public Contender<int[]> hiredBudget(HiredBudgetProblem problem, int threads) {
    return new JavaHired(problem);
  }

  @Override
  public Contender<float[]> ropeTable(RopeTableProblem problem, int threads) {
    return new VectorRopeTable(problem, threads);
  }

  @Override
  public Contender<ScheduleResult> layerSchedule(LayerScheduleProblem problem, int threads) {
    return new JavaSchedule(problem);
  }
}
