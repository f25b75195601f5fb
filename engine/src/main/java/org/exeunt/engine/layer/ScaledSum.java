// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.layer;

import java.nio.FloatBuffer;
import org.exeunt.Tensor;

/** {@code out = factor x + plus}, element by element: the one thing here for which no op is. */
public final class ScaledSum implements Runnable {
  private final float factor;
  private final FloatBuffer x;
  private final FloatBuffer plus;
  private final FloatBuffer out;

  /**
   * All are F32, compact and of one shape, and may be one another.
   *
   * @param plus null: nothing
   */
  public ScaledSum(float factor, Tensor x, Tensor plus, Tensor out) {
    this.factor = factor;
    this.x = x.floatBuffer();
    this.plus = plus == null ? null : plus.floatBuffer();
    this.out = out.floatBuffer();
  }

  @Override
  public void run() {
    int count = out.capacity();
    if (plus == null) {
      for (int i = 0; i < count; i++) {
        out.put(i, factor * x.get(i));
      }
      return;
    }
    for (int i = 0; i < count; i++) {
      out.put(i, factor * x.get(i) + plus.get(i));
    }
  }
}
