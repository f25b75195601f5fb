// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate.draft;

import java.nio.IntBuffer;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.Verify;

/** How much of each draft is right, by what the model chose in its rows. */
public final class Decision {
  private final Verify verify;
  private final int rows; // of a sequence
  private final IntBuffer drafted;
  private final IntBuffer lengths;
  private final IntBuffer chosen;
  private final IntBuffer accepted;
  private final IntBuffer out;
  private final IntBuffer count;

  /** @param length most tokens of a draft */
  public Decision(Scope scope, int sequences, int length) {
    rows = length + 1;
    Tensor drafts = ints(scope, sequences, length);
    Tensor draftLengths = ints(scope, sequences);
    Tensor tokens = ints(scope, (long) sequences * rows);
    Tensor right = ints(scope, sequences);
    Tensor found = ints(scope, sequences, rows);
    Tensor counts = ints(scope, sequences);
    verify =
        Verify.builder()
            .drafted(drafts)
            .draftLength(draftLengths)
            .argmax(tokens)
            .accepted(right)
            .token(ints(scope, sequences))
            .out(found)
            .outCount(counts)
            .build(scope);
    drafted = drafts.intBuffer();
    lengths = draftLengths.intBuffer();
    chosen = tokens.intBuffer();
    accepted = right.intBuffer();
    out = found.intBuffer();
    count = counts.intBuffer();
  }

  private static Tensor ints(Scope scope, long... shape) {
    return scope.allocate(Device.CPU, DType.I32, shape);
  }

  /** A sequence's draft; nothing is decided for one that does not go on. */
  public void draft(int sequence, Drafts drafts) {
    int length = drafts.going(sequence) ? drafts.count(sequence) : 0;
    lengths.put(sequence, length);
    for (int i = 0; i < length; i++) {
      drafted.put(sequence * (rows - 1) + i, drafts.token(sequence, i));
    }
    for (int i = 0; i < rows; i++) {
      chosen.put(sequence * rows + i, -1);
    }
  }

  /** What the model chose after the newest token, or after the first {@code row} drafted ones. */
  public void choose(int sequence, int row, int token) {
    chosen.put(sequence * rows + row, token);
  }

  /** What was last said there; negative: nothing. */
  int chosen(int sequence, int row) {
    return chosen.get(sequence * rows + row);
  }

  public void run() {
    verify.run();
  }

  /** How many drafted tokens were right. */
  public int accepted(int sequence) {
    return accepted.get(sequence);
  }

  /** How many tokens are settled: one more, unless its logits were no numbers. */
  public int count(int sequence) {
    return count.get(sequence);
  }

  public int token(int sequence, int index) {
    return out.get(sequence * rows + index);
  }
}
