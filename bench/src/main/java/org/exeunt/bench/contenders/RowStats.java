// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.contenders;

import org.exeunt.jni.exn_stats;

/** The four statistics of rows that an exit decision asks for. */
public final class RowStats {
  public final int[] argmax;
  public final float[] p1;
  public final float[] margin;
  public final float[] entropy;

  public RowStats(int rows) {
    argmax = new int[rows];
    p1 = new float[rows];
    margin = new float[rows];
    entropy = new float[rows];
  }

  /** Copies them into the outputs of a problem. */
  public void deliver(exn_stats out) {
    Problem.put(out.argmax(), argmax);
    Problem.put(out.p1(), p1);
    Problem.put(out.margin(), margin);
    Problem.put(out.entropy(), entropy);
  }
}
