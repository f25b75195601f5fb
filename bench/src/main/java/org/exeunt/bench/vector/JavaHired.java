// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import java.util.Arrays;
import org.exeunt.bench.Contender;
import org.exeunt.bench.reference.HiredBudgetProblem;

/** Budgets in Java: sums in double, region by region, or the regions of the top tokens. */
final class JavaHired implements Contender<int[]> {
  private final HiredBudgetProblem problem;
  private final float[] attention;
  private final JavaSelect select;
  private final int[] region;
  private final double[] worth;
  private final byte[] marks;
  private final int[] budget;

  JavaHired(HiredBudgetProblem problem) {
    this.problem = problem;
    attention = problem.attention.values();
    select = problem.count
        ? new JavaSelect(attention, problem.images(), 1, problem.tokens(), problem.top()) : null;
    region = new int[problem.tokens()];
    for (int t = 0; t < region.length; t++) {
      region[t] = problem.region(t);
    }
    worth = new double[problem.parts()];
    marks = new byte[attention.length];
    budget = new int[problem.images() * (1 + problem.parts())];
  }

  @Override
  public Object run() {
    if (select != null) {
      Arrays.fill(marks, (byte) 0);
      select.run();
    }
    for (int image = 0; image < problem.images(); image++) {
      Arrays.fill(worth, 0);
      if (select == null) {
        sum(image * region.length);
      } else {
        count(image);
      }
      share(image * (1 + worth.length));
    }
    return budget;
  }

  private void sum(int first) {
    for (int t = 0; t < region.length; t++) {
      worth[region[t]] += attention[first + t];
    }
  }

  private void count(int image) {
    int[] best = select.result();
    int top = problem.top();
    for (int i = image * top; i < (image + 1) * top; i++) {
      worth[region[best[i]]]++;
      marks[image * region.length + best[i]] = 1;
    }
  }

  private void share(int first) {
    double all = 0;
    for (double part : worth) {
      all += part;
    }
    budget[first] = problem.full();
    for (int i = 0; i < worth.length; i++) {
      int wanted = (int) ((float) (worth[i] / all) * problem.shared());
      budget[first + 1 + i] = Math.min(wanted, region.length);
    }
  }

  @Override
  public int[] result() {
    if (select == null) {
      return budget;
    }
    int[] result = Arrays.copyOf(budget, budget.length + marks.length);
    for (int i = 0; i < marks.length; i++) {
      result[budget.length + i] = marks[i];
    }
    return result;
  }
}
