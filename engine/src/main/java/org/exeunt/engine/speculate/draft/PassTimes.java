// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate.draft;

/**
 * What passes have taken of late: what a row more costs, and what a drafted token does, of the time
 * of one token alone. Drafts may go by that, since it does not matter to the answer.
 */
public final class PassTimes {
  /** How much the newest pass counts. */
  private static final double NEWEST = 0.2;

  private double one; // nanoseconds of a pass of one row; 0: not known
  private double row;
  private final double[] draft; // by source
  private long seen; // by number of rows, those that occurred: the first of a kind prepares its ops

  /**
   * @param row a guess at what another row costs
   * @param draft a guess at what drafting a token costs each source; 0: nothing
   */
  public PassTimes(double row, double... draft) {
    this.row = row;
    this.draft = draft.clone();
  }

  /** What a row costs that joins {@code rows} others, of what each of these does. */
  double row(int rows) {
    return rows * row / (1 + row * (rows - 1));
  }

  /** What drafting a token costs {@code rows} sequences at once, of a token each of theirs. */
  double draft(int source, int rows) {
    return draft[source] / (1 + row * (rows - 1));
  }

  /** A pass of all layers took so long. */
  public void verified(int rows, int sequences, long nanos) {
    boolean known = (seen >>> rows - 1 & 1) != 0;
    seen |= 1L << rows - 1;
    if (!known) {
      return;
    }
    if (rows == sequences) {
      double now = nanos / (1 + row * (rows - 1));
      one = one == 0 ? now : one + NEWEST * (now - one);
    } else if (one > 0) {
      double now = (nanos / one - 1) / (rows - 1);
      row += NEWEST * (Math.max(0.01, Math.min(1, now)) - row);
    }
  }

  /** Drafting took a source so long, in so many passes. */
  void drafted(int source, int passes, long nanos) {
    if (one > 0 && passes > 0 && draft[source] > 0) {
      double now = Math.max(0.01, Math.min(1, nanos / one / passes));
      draft[source] += NEWEST * (now - draft[source]);
    }
  }
}
