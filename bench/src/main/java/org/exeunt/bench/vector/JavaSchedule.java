// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import java.util.Arrays;
import org.exeunt.bench.Contender;
import org.exeunt.bench.reference.LayerScheduleProblem;
import org.exeunt.bench.reference.ScheduleResult;

/** A schedule in Java: plain loops that write its tables, position after position. */
final class JavaSchedule implements Contender<ScheduleResult> {
  private final LayerScheduleProblem problem;
  private final int[] layers;
  private final int[] count;
  private final byte[] exitTest;
  private final float[] threshold;

  JavaSchedule(LayerScheduleProblem problem) {
    this.problem = problem;
    layers = new int[problem.positions * problem.layers];
    count = new int[problem.positions];
    exitTest = new byte[layers.length];
    threshold = problem.calm ? new float[problem.positions] : null;
  }

  @Override
  public Object run() {
    for (int t = 0; t < problem.positions; t++) {
      count[t] = problem.calm ? problem.layers : active(t);
      list(t * problem.layers, count[t]);
      Arrays.fill(exitTest, t * problem.layers, (t + 1) * problem.layers - 1,
          (byte) (problem.calm ? 1 : 0));
      exitTest[(t + 1) * problem.layers - 1] = 0;
      if (problem.calm) {
        float fade = (float) Math.exp(-problem.tau * t / problem.horizon);
        threshold[t] = 0.9f * problem.start + 0.1f * problem.start * fade;
      }
    }
    return layers;
  }

  private int active(int position) {
    long decay = problem.horizon;
    long fall = (long) (problem.most - problem.least) * Math.min(position, decay);
    return (int) ((2 * (problem.most * decay - fall) + decay) / (2 * decay));
  }

  private void list(int first, int active) {
    int bottom = problem.calm ? 0 : problem.warmUp;
    for (int i = 0; i < bottom; i++) {
      layers[first + i] = i;
    }
    for (int i = bottom; i < active; i++) {
      layers[first + i] = problem.layers - active + i;
    }
    Arrays.fill(layers, first + active, first + problem.layers, -1);
  }

  @Override
  public ScheduleResult result() {
    int[] tests = new int[exitTest.length];
    for (int i = 0; i < tests.length; i++) {
      tests[i] = exitTest[i];
    }
    return new ScheduleResult(layers, count, tests, threshold);
  }
}
