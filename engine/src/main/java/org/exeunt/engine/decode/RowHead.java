// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import java.nio.FloatBuffer;
import java.nio.IntBuffer;

/** A head of some rows, whose results the host reads row by row. */
public final class RowHead {
  private final Head head;
  private final IntBuffer argmax;
  private final FloatBuffer p1; // null: a screen finds none
  private final FloatBuffer logits; // null: they are not kept

  public RowHead(Head head) {
    this.head = head;
    argmax = head.statistics().argmax().intBuffer();
    p1 = head.statistics().p1() == null ? null : head.statistics().p1().floatBuffer();
    logits = head.logits() == null ? null : head.logits().floatBuffer();
  }

  public Head head() {
    return head;
  }

  /** The most probable token of a row; -1 if its logits are not numbers. */
  public int argmax(int row) {
    return argmax.get(row);
  }

  /** The probability of that token. */
  public float probability(int row) {
    return p1.get(row);
  }

  /** The logits of a row, if they are kept. */
  public FloatBuffer logits(int row) {
    int vocabulary = (int) head.logits().size(1);
    return logits.slice(row * vocabulary, vocabulary);
  }
}
