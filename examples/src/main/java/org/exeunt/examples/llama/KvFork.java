// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

import java.util.Arrays;
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
final class KvFork {
  private final KvState kv;
  private final int layers;
  private final int[][] common; // by layer and sequence: slots that all of the trunk begin with
  private final boolean[] trunk; // who was in the last fork

  KvFork(KvState kv, int layers) {
    this.kv = kv;
    this.layers = layers;
    common = new int[layers][kv.sequences()];
    trunk = new boolean[kv.sequences()];
  }

  /** What {@code sequence} holds has nothing to do with the others. */
  void leave(int sequence) {
    trunk[sequence] = false;
    for (int[] ofLayer : common) {
      ofLayer[sequence] = 0;
    }
  }

  /** Makes {@code to} what {@code from} is. */
  void run(int from, int... to) {
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
        if (lists == null || !lists.are(length, begins)) {
          lists = new Lists(scope, length, begins, from, to);
        }
        lists.copy(kv.cache(layer));
      }
    }
  }

  /** The slots to copy, of layers that all have as many. */
  private static final class Lists {
    private final int length;
    private final int[] begins;
    private final int count;
    private final Tensor slots;
    private final Tensor sources;
    private final Tensor destinations;

    Lists(Scope scope, int length, int[] begins, int from, int... to) {
      this.length = length;
      this.begins = begins;
      int[] slot = IntStream.of(begins).flatMap(begin -> IntStream.range(begin, length)).toArray();
      int[] sequence =
          IntStream.range(0, to.length)
              .flatMap(i -> IntStream.range(begins[i], length).map(j -> to[i]))
              .toArray();
      count = slot.length;
      slots = scope.allocate(Device.CPU, DType.I32, count).copyFrom(slot);
      int[] same = new int[count];
      Arrays.fill(same, from);
      sources = scope.allocate(Device.CPU, DType.I32, count).copyFrom(same);
      destinations = scope.allocate(Device.CPU, DType.I32, count).copyFrom(sequence);
    }

    boolean are(int ofLength, int... beginning) {
      return length == ofLength && Arrays.equals(begins, beginning);
    }

    void copy(KvCache cache) {
      if (count > 0) {
        cache.copyTo(cache).from(slots, sources).to(slots, destinations).runOnce();
      }
    }
  }
}
