// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

/**
 * What passes have taken of late: one of each number of rows, and what a drafted token does, of the
 * time of one token alone. Drafts may go by that, since it does not matter to the answer.
 */
final class PassTimes {
  /** How much the newest pass counts. */
  private static final double NEWEST = 0.2;

  /** A pass that takes so much longer than was expected has been disturbed. */
  private static final double DISTURBED = 2;

  private final double[] nanos = new double[Long.SIZE + 1]; // by number of rows; 0: not known
  private final double row;
  private final double[] draft; // by source
  private long seen; // by number of rows, those that occurred: the first of a kind prepares its ops

  /**
   * @param row a guess at what another row costs
   * @param draft a guess at what drafting a token costs each source; 0: nothing
   */
  PassTimes(double row, double... draft) {
    this.row = row;
    this.draft = draft.clone();
  }

  /** What a pass of so many rows takes, of one of one row. */
  double pass(int rows) {
    double one = nanos(1);
    if (one == 0) {
      return 1 + row * (rows - 1);
    }
    return Math.max(1, nanos(rows) / one);
  }

  /** Measured, or between and beyond what is; 0: nothing is known. */
  private double nanos(int rows) {
    int below = rows;
    while (below > 0 && nanos[below] == 0) {
      below--;
    }
    int above = rows;
    while (above < nanos.length && nanos[above] == 0) {
      above++;
    }
    if (below > 0 && above < nanos.length) {
      double part = below == above ? 0 : (double) (rows - below) / (above - below);
      return nanos[below] + part * (nanos[above] - nanos[below]);
    }
    int known = below > 0 ? below : above < nanos.length ? above : 0;
    return known == 0 ? 0 : nanos[known] * (1 + row * (rows - 1)) / (1 + row * (known - 1));
  }

  /** What a pass takes with {@code more} rows for each of some, of one without. */
  double pass(int rows, int more) {
    int most = nanos.length - 1;
    return pass(Math.min(most, rows * (1 + more))) / pass(Math.min(most, rows));
  }

  /** What drafting a token costs {@code rows} sequences at once, of a token each of theirs. */
  double draft(int source, int rows) {
    return draft[source] / pass(Math.min(nanos.length - 1, rows));
  }

  /** A pass of all layers took so long. */
  void verified(int rows, long took) {
    boolean known = (seen >>> rows - 1 & 1) != 0;
    seen |= 1L << rows - 1;
    if (!known) {
      return;
    }
    double before = nanos[rows];
    double now = before == 0 ? took : Math.min(took, DISTURBED * before);
    nanos[rows] = before == 0 ? now : before + NEWEST * (now - before);
  }

  /** Drafting took a source so long, in so many passes. */
  void drafted(int source, int passes, long took) {
    double one = nanos(1);
    if (one > 0 && passes > 0 && draft[source] > 0) {
      double now = Math.max(0.01, Math.min(1, took / one / passes));
      draft[source] += NEWEST * (now - draft[source]);
    }
  }
}
