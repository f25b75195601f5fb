// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.layer;

import java.nio.IntBuffer;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.FfnSkipRule;
import org.exeunt.KvCache;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.model.LlamaWeights;

/**
 * The tokens that are on their way through the layers, one row each: their hidden states, what they
 * are, and the buffers that a layer's ops share. The first {@link #count()} rows are in use.
 */
public final class Rows {
  private final LlamaConfig config;
  private final int capacity;
  private final Tensor hidden;
  private final Tensor normed;
  private final Tensor projected;
  private final Tensor attended;
  private final Tensor branch;
  private final Tensor before;
  private final Tensor known; // what rows are: the next three
  private final Tensor written; // the same where the host can write it
  private final Tensor token;
  private final Tensor sequence;
  private final Tensor position;
  private final Tensor slot;
  private final Tensor visible;
  private final Tensor skip;
  private final Tensor skipState;
  private final Tensor cosine;
  private final Tensor branchCosine;
  private final IntBuffer tokens;
  private final IntBuffer sequences;
  private final IntBuffer positions;
  private int count;

  public Rows(Scope scope, LlamaWeights weights, int capacity) {
    Device device = weights.device();
    config = weights.config();
    this.capacity = capacity;
    hidden = scope.allocate(device, DType.F32, capacity, config.width());
    normed = scope.allocate(device, DType.F32, capacity, config.width());
    projected = scope.allocate(device, DType.F32, capacity, config.queryKeyValueWidth());
    attended = scope.allocate(device, DType.F32, capacity, config.queryWidth());
    branch = config.isGemma() ? scope.allocate(device, DType.F32, capacity, config.width()) : null;
    before = config.isGemma() ? scope.allocate(device, DType.F32, capacity, config.width()) : null;
    boolean here = device.equals(Device.CPU);
    known = scope.allocate(device, DType.I32, 3, capacity);
    written = here ? known : scope.allocatePinned(device, DType.I32, 3, capacity);
    token = known.row(0);
    sequence = known.row(1);
    position = known.row(2);
    slot = scope.allocate(device, DType.I32, capacity);
    visible = scope.allocate(device, DType.I32, capacity);
    skip = scope.allocate(device, DType.U8, capacity);
    skipState = FfnSkipRule.allocateState(scope, device, capacity);
    cosine = scope.allocate(device, DType.F32, capacity);
    branchCosine = scope.allocate(device, DType.F32, capacity);
    tokens = written.row(0).intBuffer();
    sequences = written.row(1).intBuffer();
    positions = written.row(2).intBuffer();
  }

  /** Rows in use. */
  public int count() {
    return count;
  }

  /** Most rows there may be. */
  public int capacity() {
    return capacity;
  }

  public void clear() {
    count = 0;
  }

  public void count(int rows) {
    count = rows;
  }

  /** Appends a row for {@code id}; its hidden state is still to come. */
  public void add(int id, int ofSequence, int atPosition) {
    tokens.put(count, id);
    set(count++, ofSequence, atPosition);
  }

  void set(int row, int ofSequence, int atPosition) {
    sequences.put(row, ofSequence);
    positions.put(row, atPosition);
  }

  /**
   * Queues a copy of what rows are to the device that they lie on; until that is done, none may be
   * added. Nothing on the CPU.
   */
  public void send(Stream stream) {
    if (written != known) {
      known.copyFrom(written, stream);
    }
  }

  /** The sequence that a row belongs to. */
  public int sequenceOf(int row) {
    return sequences.get(row);
  }

  /** The position of a row's token in its sequence. */
  public int positionOf(int row) {
    return positions.get(row);
  }

  /** The residual stream, [count, D]. */
  public Tensor hidden() {
    return hidden.rows(0, count);
  }

  /** The queries of the layer run last, after RoPE, [count, H, dh]. */
  public Tensor query() {
    return heads(count, 0, config.heads());
  }

  /** How many slots of its sequence each row saw in the layer run last, [count]. */
  public Tensor visible() {
    return visible.rows(0, count);
  }

  /**
   * Cosine of the last feed-forward block's input and output, [count]; where skipped NaN, or what
   * nothing added gives (Gemma).
   */
  public Tensor cosine() {
    return cosine.rows(0, count);
  }

  /** Cosine of the last feed-forward block's input and what it added, [count]. */
  public Tensor branchCosine() {
    return branchCosine.rows(0, count);
  }

  /** Which rows the last feed-forward block let pass, [count]. */
  public Tensor skip() {
    return skip.rows(0, count);
  }

  public Tensor allHidden() {
    return hidden;
  }

  public Tensor hidden(int rows) {
    return hidden.rows(0, rows);
  }

  Tensor normed(int rows) {
    return normed.rows(0, rows);
  }

  Tensor projected(int rows) {
    return projected.rows(0, rows);
  }

  Tensor attended(int rows) {
    return attended.rows(0, rows);
  }

  /** What a block is about to add. */
  Tensor branch(int rows) {
    return branch.rows(0, rows);
  }

  /** The residual stream before the feed-forward block. */
  Tensor before(int rows) {
    return before.rows(0, rows);
  }

  /** Some of the heads in {@link #projected}: queries first, then keys, then values. */
  Tensor heads(int rows, int first, int number) {
    return heads(projected(rows), first, number, config.headWidth());
  }

  /** Some of the heads that lie side by side in each row. */
  public static Tensor heads(Tensor rows, int first, int number, long width) {
    return rows.slice(1, first * width, (first + number) * width)
        .strided(new long[] {rows.size(0), number, width}, new long[] {rows.size(1), width, 1});
  }

  /** Writes the keys and values projected last to the first slots of a cache for one sequence. */
  public void appendTo(KvCache cache) {
    int heads = config.heads();
    int kvHeads = config.kvHeads();
    for (int row = 0; row < count; row++) {
      slot.intBuffer().put(row, row);
    }
    cache.append()
        .k(heads(count, heads, kvHeads))
        .v(heads(count, heads + kvHeads, kvHeads))
        .slot(slot(count))
        .runOnce();
  }

  public Tensor token(int rows) {
    return token.rows(0, rows);
  }

  public Tensor sequence(int rows) {
    return sequence.rows(0, rows);
  }

  public Tensor position(int rows) {
    return position.rows(0, rows);
  }

  public Tensor slot(int rows) {
    return slot.rows(0, rows);
  }

  public Tensor visible(int rows) {
    return visible.rows(0, rows);
  }

  public Tensor skip(int rows) {
    return skip.rows(0, rows);
  }

  public Tensor skipState(int rows) {
    return skipState.rows(0, rows);
  }

  Tensor cosine(int rows) {
    return cosine.rows(0, rows);
  }

  Tensor branchCosine(int rows) {
    return branchCosine.rows(0, rows);
  }
}
