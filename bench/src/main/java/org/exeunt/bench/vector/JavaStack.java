// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import java.util.Arrays;
import org.exeunt.bench.Contender;
import org.exeunt.bench.reference.Bfloat16;
import org.exeunt.bench.reference.HiddenStackProblem;
import org.exeunt.bench.reference.Matrix;
import org.exeunt.bench.reference.StackResult;
import org.exeunt.bench.reference.Storage;

/** A stack of rows in Java: {@code System.arraycopy}, row by row to push, all at once to gather. */
final class JavaStack implements Contender<StackResult> {
  private final int dim;
  private final int tagsPerRow;
  private final int capacity;
  private final int rows;
  private final boolean[] mask;
  private final boolean gather;
  private final Object pushed;
  private final int[] tags;
  private final Object stack;
  private final int[] stackTags;
  private final Object out;
  private final int[] outTags;
  private int count;

  JavaStack(HiddenStackProblem problem) {
    dim = problem.dim();
    tagsPerRow = problem.tagsPerRow();
    rows = problem.rows();
    mask = problem.mask;
    gather = problem.gather;
    capacity = problem.capacity;
    boolean wide = problem.pushed[0].storage() == Storage.F32;
    stack = wide ? new float[capacity * dim] : new short[capacity * dim];
    stackTags = new int[capacity * tagsPerRow];
    out = wide ? new float[capacity * dim] : new short[capacity * dim];
    outTags = new int[stackTags.length];
    for (int n = 0; gather && n < problem.pushed.length; n++) {
      push(elements(problem.pushed[n]), problem.tags[n]);
    }
    pushed = elements(problem.pushed[0]);
    tags = problem.tags[0];
  }

  private static Object elements(Matrix matrix) {
    return matrix.storage() == Storage.F32 ? matrix.values() : matrix.halves();
  }

  @Override
  public Object run() {
    if (gather) {
      System.arraycopy(stack, 0, out, 0, count * dim);
      for (int m = 0; m < tagsPerRow; m++) {
        System.arraycopy(stackTags, m * capacity, outTags, m * capacity, count);
        Arrays.fill(outTags, m * capacity + count, (m + 1) * capacity, -1);
      }
    } else {
      count = 0;
      push(pushed, tags);
    }
    return out;
  }

  private void push(Object from, int[] fromTags) {
    for (int r = 0; r < rows; r++) {
      if (mask == null || mask[r]) {
        System.arraycopy(from, r * dim, stack, count * dim, dim);
        for (int m = 0; m < tagsPerRow; m++) {
          stackTags[m * capacity + count] = fromTags[m * rows + r];
        }
        count++;
      }
    }
  }

  @Override
  public StackResult result() {
    Object held = gather ? out : stack;
    return new StackResult(count, held instanceof float[] values ? values : widened((short[]) held),
        gather ? outTags : stackTags);
  }

  private static float[] widened(short[] halves) {
    float[] values = new float[halves.length];
    for (int i = 0; i < values.length; i++) {
      values[i] = Bfloat16.widen(halves[i]);
    }
    return values;
  }
}
