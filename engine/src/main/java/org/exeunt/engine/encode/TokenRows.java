// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.encode;

import java.nio.IntBuffer;
import java.util.List;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.RowCompaction;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;

/**
 * The tokens of all sentences that are on their way through the layers, one row each, one sentence
 * after the other, without padding. Rows after the last are off.
 */
final class TokenRows {
  private static final int OFF = -1;

  private final EncoderConfig config;
  private final Tensor hidden;
  private final Tensor positional;
  private final Tensor projected;
  private final Tensor attended;
  private final Tensor token;
  private final Tensor sentence;
  private final Tensor position;
  private final Tensor slot;
  private final Tensor visible;
  private final Tensor staging;
  private final IntBuffer tokens;
  private final IntBuffer sentences;
  private final IntBuffer positions;
  private final IntBuffer slots;
  private final IntBuffer lengths;
  private final IntBuffer list;
  private final RowCompaction gather;
  private int count;
  private int listed; // entries of the list that are not off

  TokenRows(Scope scope, EncoderConfig config, int capacity) {
    this.config = config;
    int width = config.width();
    hidden = scope.allocate(Device.CPU, DType.F32, capacity, width);
    positional = scope.allocate(Device.CPU, DType.F32, capacity, width);
    projected = scope.allocate(Device.CPU, DType.F32, capacity, 3L * width);
    attended = scope.allocate(Device.CPU, DType.F32, capacity, width);
    token = scope.allocate(Device.CPU, DType.I32, capacity);
    sentence = scope.allocate(Device.CPU, DType.I32, capacity);
    position = scope.allocate(Device.CPU, DType.I32, capacity);
    slot = scope.allocate(Device.CPU, DType.I32, capacity);
    visible = scope.allocate(Device.CPU, DType.I32, capacity);
    staging = scope.allocate(Device.CPU, DType.F32, capacity, width);
    Tensor kept = scope.allocate(Device.CPU, DType.I32, capacity);
    tokens = token.intBuffer();
    sentences = sentence.intBuffer();
    positions = position.intBuffer();
    slots = slot.intBuffer();
    lengths = visible.intBuffer();
    list = kept.intBuffer();
    switchOff(0, capacity);
    listed = capacity;
    switchListOff(0);
    gather = RowCompaction.gather().input(hidden).list(kept).out(staging).build(scope);
  }

  /** Rows in use. */
  int count() {
    return count;
  }

  /** Begins anew with the tokens of these sentences. */
  void fill(List<int[]> batch) {
    int before = count;
    count = 0;
    for (int s = 0; s < batch.size(); s++) {
      int[] of = batch.get(s);
      for (int t = 0; t < of.length; t++) {
        tokens.put(count, of[t]);
        positions.put(count, t);
        set(count++, s, t, of.length);
      }
    }
    switchOff(count, before);
  }

  private void set(int row, int ofSentence, int inSlot, int length) {
    sentences.put(row, ofSentence);
    slots.put(row, inSlot);
    lengths.put(row, length);
  }

  private void switchOff(int from, int to) {
    for (int row = from; row < to; row++) {
      tokens.put(row, 0);
      positions.put(row, 0);
      set(row, 0, OFF, OFF);
    }
  }

  private void switchListOff(int from) {
    for (int i = from; i < listed; i++) {
      list.put(i, OFF);
    }
    listed = from;
  }

  /** Keeps the rows of sentences that stay: all tokens of one that leaves go with it. */
  void keep(boolean[] stays) {
    int kept = 0;
    for (int row = 0; row < count; row++) {
      int of = sentences.get(row);
      if (stays[of]) {
        set(kept, of, slots.get(row), lengths.get(row));
        list.put(kept++, row);
      }
    }
    switchListOff(kept);
    if (kept < count) {
      switchOff(kept, count);
      gather.run();
      staging.rows(0, kept).copyTo(hidden.rows(0, kept), Stream.DEFAULT);
      count = kept;
    }
  }

  Tensor hidden(int rows) {
    return hidden.rows(0, rows);
  }

  /** The embeddings of the rows' positions. */
  Tensor positional(int rows) {
    return positional.rows(0, rows);
  }

  Tensor projected(int rows) {
    return projected.rows(0, rows);
  }

  Tensor attended(int rows) {
    return attended.rows(0, rows);
  }

  Tensor token(int rows) {
    return token.rows(0, rows);
  }

  Tensor sentence(int rows) {
    return sentence.rows(0, rows);
  }

  /** The place of each row's token in its sentence, until some leave. */
  Tensor position(int rows) {
    return position.rows(0, rows);
  }

  /** The same as a slot of the cache; -1 for rows that are off. */
  Tensor slot(int rows) {
    return slot.rows(0, rows);
  }

  /** The length of each row's sentence. */
  Tensor visible(int rows) {
    return visible.rows(0, rows);
  }

  /** The H heads from {@code first} on in {@link #projected}. */
  Tensor heads(int rows, int first) {
    long width = config.headWidth();
    long begin = first * width;
    return projected(rows)
        .slice(1, begin, begin + config.width())
        .strided(
            new long[] {rows, config.heads(), width}, new long[] {3L * config.width(), width, 1});
  }
}
