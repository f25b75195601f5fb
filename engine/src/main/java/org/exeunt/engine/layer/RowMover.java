// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.layer;

import java.nio.ByteBuffer;
import java.nio.IntBuffer;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.FfnSkipRule;
import org.exeunt.RowCompaction;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/**
 * Moves rows: out of the batch when their token leaves, together when gaps are left, to the back
 * when older ones join in front of them. Lists are as long as the batch may be, with -1 for an
 * entry that is off, so that each op is built once.
 */
public final class RowMover {
  private final Rows rows;
  private final Tensor staging;
  private final IntBuffer list;
  private final RowCompaction toExits;
  private final RowCompaction gather;
  private final RowCompaction scatter;
  private final RowCompaction back;
  private final IntBuffer identity;
  private final IntBuffer skipState;
  private final ByteBuffer skip;

  /** @param exits where the states of tokens that leave go, one row for each sequence */
  public RowMover(Scope scope, Rows rows, Tensor exits) {
    this.rows = rows;
    int capacity = rows.capacity();
    Tensor hidden = rows.allHidden();
    staging = scope.allocate(Device.CPU, DType.F32, capacity, hidden.size(1));
    Tensor moves = scope.allocate(Device.CPU, DType.I32, capacity);
    Tensor stay = scope.allocate(Device.CPU, DType.I32, capacity);
    list = moves.intBuffer();
    identity = stay.intBuffer();
    toExits = RowCompaction.scatter().input(hidden).list(moves).out(exits).build(scope);
    gather = RowCompaction.gather().input(hidden).list(moves).out(staging).build(scope);
    scatter = RowCompaction.scatter().input(hidden).list(moves).out(staging).build(scope);
    back = RowCompaction.gather().input(staging).list(stay).out(hidden).build(scope);
    skipState = rows.skipState(capacity).intBuffer();
    skip = rows.skip(capacity).byteBuffer();
  }

  /** Where rows that are to join are put before {@link #joinInFront}. */
  public Tensor staging() {
    return staging;
  }

  /** Hands the states of the rows from {@code first} on to their sequences' exits. */
  public void copyToExits(int first) {
    for (int row = 0; row < rows.capacity(); row++) {
      list.put(row, row < first || row >= rows.count() ? -1 : rows.sequenceOf(row));
    }
    toExits.run();
  }

  /** Keeps the rows that {@code staying} names, in order. */
  public void keep(int[] staying, int count) {
    for (int i = 0; i < count; i++) {
      int from = staying[i];
      list.put(i, from);
      rows.set(i, rows.sequenceOf(from), rows.positionOf(from));
      skip.put(i, skip.get(from));
      for (int word = 0; word < FfnSkipRule.STATE_WORDS; word++) {
        skipState.put(i * FfnSkipRule.STATE_WORDS + word,
            skipState.get(from * FfnSkipRule.STATE_WORDS + word));
      }
    }
    switchOff(list, count);
    gather.run();
    comeBack(count);
  }

  /**
   * Makes the first {@code count} rows of {@link #staging} the first of the batch.
   *
   * @param sequences of each
   * @param positions of each
   */
  public void joinInFront(int count, IntBuffer sequences, IntBuffer positions) {
    for (int row = rows.count() - 1; row >= 0; row--) {
      list.put(row, count + row);
      rows.set(count + row, rows.sequenceOf(row), rows.positionOf(row));
    }
    switchOff(list, rows.count());
    scatter.run();
    for (int row = 0; row < count; row++) {
      rows.set(row, sequences.get(row), positions.get(row));
    }
    comeBack(count + rows.count());
  }

  private void comeBack(int count) {
    for (int row = 0; row < count; row++) {
      identity.put(row, row);
    }
    switchOff(identity, count);
    back.run();
    rows.count(count);
  }

  private static void switchOff(IntBuffer list, int from) {
    for (int i = from; i < list.capacity(); i++) {
      list.put(i, -1);
    }
  }
}
