// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.layer;

import java.util.Arrays;
import java.util.function.IntFunction;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.KvCache;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/**
 * Gives sequences the keys and values of another. Of those that were forked together one goes on to
 * be forked, and what they had in common is not copied again.
 */
public final class KvFork {
  private final KvState kv;
  private final int layers;
  private final int[][] common; // by layer and sequence: slots that all of the trunk begin with
  private final boolean[] trunk; // who was in the last fork

  public KvFork(KvState kv, int layers) {
    this.kv = kv;
    this.layers = layers;
    common = new int[layers][kv.sequences()];
    trunk = new boolean[kv.sequences()];
  }

  /** What {@code sequence} holds has nothing to do with the others. */
  public void leave(int sequence) {
    trunk[sequence] = false;
    for (int[] ofLayer : common) {
      ofLayer[sequence] = 0;
    }
  }

  /** Makes {@code to} what {@code from} is. */
  public void run(int from, int... to) {
    if (!trunk[from]) {
      for (int[] ofLayer : common) {
        Arrays.fill(ofLayer, 0);
      }
    }
    Arrays.fill(trunk, false);
    trunk[from] = true;
    for (int s : to) {
      trunk[s] = true;
    }
    try (Scope scope = Scope.open()) {
      Lists lists = null;
      for (int layer = 0; layer < layers; layer++) {
        int length = kv.length(layer, from);
        int[] begins = new int[to.length];
        for (int i = 0; i < to.length; i++) {
          begins[i] = common[layer][to[i]];
          common[layer][to[i]] = length;
          kv.length(layer, to[i], to[i] + 1).copyFrom(new int[] {length});
        }
        common[layer][from] = length;
        int[] lengths = filled(to.length, length);
        if (lists == null || !lists.are(begins, lengths)) {
          lists = new Lists(scope, begins, lengths, filled(to.length, from), to);
        }
        lists.copy(kv.cache(layer), kv.cache(layer));
      }
    }
  }

  /** Gives the sequences of {@code to} what {@code sequences} of {@code from} hold, in this order. */
  public static void move(KvState from, KvState to, int layers, int... sequences) {
    int count = sequences.length;
    int[] begins = new int[count];
    int[] places = IntStream.range(0, count).toArray();
    try (Scope scope = Scope.open()) {
      Lists lists = null;
      for (int l = 0; l < layers; l++) {
        int layer = l;
        int[] lengths = IntStream.of(sequences).map(s -> from.length(layer, s)).toArray();
        to.length(layer, 0, count).copyFrom(lengths);
        if (lists == null || !lists.are(begins, lengths)) {
          lists = new Lists(scope, begins, lengths, sequences, places);
        }
        lists.copy(from.cache(layer), to.cache(layer));
      }
    }
  }

  private static int[] filled(int count, int value) {
    int[] values = new int[count];
    Arrays.fill(values, value);
    return values;
  }

  /** The slots to copy, of layers that all have as many. */
  private static final class Lists {
    private final int[] begins;
    private final int[] lengths;
    private final int count;
    private final Tensor slots;
    private final Tensor sources;
    private final Tensor destinations;

    /** Slots from {@code begins[i]} on of sequence {@code from[i]} go to {@code to[i]}. */
    Lists(Scope scope, int[] begins, int[] lengths, int[] from, int... to) {
      this.begins = begins;
      this.lengths = lengths;
      int[] slot = each(i -> IntStream.range(begins[i], lengths[i]));
      count = slot.length;
      slots = scope.allocate(Device.CPU, DType.I32, count).copyFrom(slot);
      sources = scope.allocate(Device.CPU, DType.I32, count).copyFrom(each(i -> of(i, from[i])));
      destinations = scope.allocate(Device.CPU, DType.I32, count).copyFrom(each(i -> of(i, to[i])));
    }

    private int[] each(IntFunction<IntStream> entries) {
      return IntStream.range(0, begins.length).flatMap(entries::apply).toArray();
    }

    private IntStream of(int i, int sequence) {
      return IntStream.range(begins[i], lengths[i]).map(slot -> sequence);
    }

    boolean are(int[] beginning, int... ends) {
      return Arrays.equals(begins, beginning) && Arrays.equals(lengths, ends);
    }

    void copy(KvCache from, KvCache to) {
      if (count > 0) {
        from.copyTo(to).from(slots, sources).to(slots, destinations).runOnce();
      }
    }
  }
}
