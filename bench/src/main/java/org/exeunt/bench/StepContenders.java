// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.FfnSkipRuleProblem;
import org.exeunt.bench.reference.HiddenStackProblem;
import org.exeunt.bench.reference.HiredBudgetProblem;
import org.exeunt.bench.reference.KvAppendProblem;
import org.exeunt.bench.reference.KvLengthProblem;
import org.exeunt.bench.reference.LayerScheduleProblem;
import org.exeunt.bench.reference.RopeTableProblem;
import org.exeunt.bench.reference.ScheduleResult;
import org.exeunt.bench.reference.StackResult;

/** What is written, counted, decided or tabulated around layers, as {@link Contenders} has it. */
public interface StepContenders {
  Contender<float[]> kvAppend(KvAppendProblem problem, int threads);

  Contender<int[]> kvLength(KvLengthProblem problem, int threads);

  Contender<StackResult> hiddenStack(HiddenStackProblem problem, int threads);

  Contender<int[]> ffnSkipRule(FfnSkipRuleProblem problem, int threads);

  Contender<int[]> hiredBudget(HiredBudgetProblem problem, int threads);

  Contender<float[]> ropeTable(RopeTableProblem problem, int threads);

  Contender<ScheduleResult> layerSchedule(LayerScheduleProblem problem, int threads);
}
