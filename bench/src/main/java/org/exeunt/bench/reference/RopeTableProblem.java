// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

/** The cosine and sine of every position and frequency, in turn; the result is [T, n/2, 2]. */
public final class RopeTableProblem extends Problem<float[]> {
  public final int positions;
  public final int pairs;
  public final double base;

  public RopeTableProblem(int positions, int pairs, double base) {
    super("rope_table");
    this.positions = positions;
    this.pairs = pairs;
    this.base = base;
  }

  /** Angle from one position to the next. */
  public double frequency(int pair) {
    return Math.pow(base, -(double) pair / pairs);
  }

  /** Bytes that must move: the table. */
  @Override
  public long bytes() {
    return 8L * positions * pairs;
  }

  /** Throws unless the table is right, to what angles in f32 allow. */
  @Override
  public void check(float[] table) {
    Check.length("elements", 2 * positions * pairs, table.length);
    for (int i = 0; i < pairs; i++) {
      double frequency = frequency(i);
      for (int t = 0; t < positions; t++) {
        int at = 2 * (t * pairs + i);
        Check.close("cosine", at, Math.cos(t * frequency), table[at], Check.F32_TOLERANCE, 1);
        Check.close("sine", at + 1, Math.sin(t * frequency), table[at + 1], Check.F32_TOLERANCE, 1);
      }
    }
  }
}
