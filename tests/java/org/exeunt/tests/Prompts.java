// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.KvCache;
import org.exeunt.PromptLayer;
import org.exeunt.Scope;
import org.exeunt.Selection;
import org.exeunt.Tensor;

/** Prompts for the methods that drop tokens, and what the methods chose. */
final class Prompts {
  private Prompts() {}

  static Tensor tensor(Scope scope, float[] values, long... shape) {
    return scope.allocate(Device.defaultDevice(), DType.F32, shape).copyFrom(values);
  }

  /** A cache of one sequence, [heads, tokens, width], without values. */
  static KvCache keys(Scope scope, float[] values, int heads, int tokens, int width) {
    return KvCache.ofHeadMajor(tensor(scope, values, 1, heads, tokens, width), null);
  }

  /** The last rows' queries, [heads, window, width], as a prompt whose other rows are zero. */
  static PromptLayer prompt(
      Scope scope, float[] last, int heads, int window, int width, KvCache keys, int tokens) {
    float[] query = new float[tokens * heads * width];
    for (int h = 0; h < heads; h++) {
      for (int i = 0; i < window; i++) {
        System.arraycopy(last, (h * window + i) * width, query,
            ((tokens - window + i) * heads + h) * width, width);
      }
    }
    return new PromptLayer(tensor(scope, query, tokens, heads, width), keys, 0, tokens);
  }

  /** One list of a selection that has run. */
  static int[] list(Selection kept, int row) {
    int capacity = (int) kept.indices().size(1);
    int count = kept.count().toIntArray()[row];
    return Arrays.copyOfRange(kept.indices().toIntArray(), row * capacity, row * capacity + count);
  }

  /** One of so many rows. */
  static int[] row(int[] all, int rows, int row) {
    int columns = all.length / rows;
    return Arrays.copyOfRange(all, row * columns, (row + 1) * columns);
  }
}
