// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

/**
 * Statistics per row as a contender delivers them: the four that an exit decision looks at, and
 * the others where the case asks for all (null elsewhere).
 */
public final class RowStats {
  public final int[] argmax;
  public final float[] p1;
  public final float[] margin;
  public final float[] entropy;
  public final float[] maxLogit;
  public final float[] lse;
  public final float[] p2;
  public final float[] pow2Entropy;
  public final float[] meanLogP;

  public RowStats(int rows, boolean all) {
    argmax = new int[rows];
    p1 = new float[rows];
    margin = new float[rows];
    entropy = new float[rows];
    maxLogit = all ? new float[rows] : null;
    lse = all ? new float[rows] : null;
    p2 = all ? new float[rows] : null;
    pow2Entropy = all ? new float[rows] : null;
    meanLogP = all ? new float[rows] : null;
  }
}
