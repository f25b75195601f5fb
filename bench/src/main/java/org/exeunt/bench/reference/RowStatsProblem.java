// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

import java.util.stream.IntStream;

/** Statistics of the rows of a matrix of logits. */
public final class RowStatsProblem extends Problem<RowStats> {
  public final Normalizer normalizer;
  public final Matrix logits;

  /** Whether every statistic is asked for, or only the four of an exit decision. */
  public final boolean all;

  public RowStatsProblem(Normalizer normalizer, Matrix logits, boolean all) {
    super("row_stats");
    this.normalizer = normalizer;
    this.logits = logits;
    this.all = all;
  }

  /** Bytes that must be read. */
  @Override
  public long bytes() {
    return logits.bytes();
  }

  @Override
  public void check(RowStats stats) {
    Check.length("statistics", logits.rows(), stats.argmax.length);
    IntStream.range(0, logits.rows())
        .parallel()
        .forEach(
            r -> Rows.check(normalizer, Rows.row(logits, r), null, r, stats, Check.F32_TOLERANCE));
  }
}
