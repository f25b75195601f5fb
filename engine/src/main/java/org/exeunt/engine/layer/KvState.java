// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.layer;

import java.nio.IntBuffer;
import java.util.ArrayList;
import java.util.List;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.KvCache;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.model.LlamaWeights;

/**
 * The keys and values of some sequences: one cache for each layer, and a length for each layer and
 * sequence, since layers that a token skipped know nothing of it.
 */
public final class KvState {
  private final List<KvCache> caches = new ArrayList<>();
  private final Tensor lengths;
  private final IntBuffer counts; // null: they lie on a device
  private final int sequences;
  private final int capacity;

  public KvState(Scope scope, LlamaWeights weights, int sequences, int capacity) {
    LlamaConfig config = weights.config();
    DType type = weights.cacheType();
    Device device = weights.device();
    this.sequences = sequences;
    this.capacity = capacity;
    // One block for all layers: large enough for huge pages, without which a short cache is read at
    // half the speed.
    // Where layers see a window, a slot's heads lie side by side: as a page, a slot is one piece.
    boolean slotBySlot = config.localPeriod() > 1;
    Tensor memory = slotBySlot
        ? scope.allocate(device, type, config.layers(), 2, sequences, capacity, config.kvHeads(),
              config.headWidth())
        : scope.allocate(device, type, config.layers(), 2, sequences, config.kvHeads(), capacity,
              config.headWidth());
    for (int l = 0; l < config.layers(); l++) {
      Tensor k = memory.row(l).row(0);
      Tensor v = memory.row(l).row(1);
      caches.add(slotBySlot ? KvCache.ofTokenMajor(k, v) : KvCache.ofHeadMajor(k, v));
    }
    lengths = scope.allocate(device, DType.I32, config.layers(), sequences);
    lengths.copyFrom(new int[config.layers() * sequences]);
    counts = device.equals(Device.CPU) ? lengths.intBuffer() : null;
  }

  private KvState(KvState all, int sequence) {
    sequences = 1;
    capacity = all.capacity;
    for (KvCache cache : all.caches) {
      caches.add(KvCache.ofHeadMajor(cache.k().row(sequence), cache.v().row(sequence)));
    }
    lengths = all.lengths.slice(1, sequence, sequence + 1);
    counts = null;
  }

  /** One sequence alone, on a device: the same memory, described as a state of its own. */
  public KvState alone(int sequence) {
    return new KvState(this, sequence);
  }

  /** The cache of one layer. */
  public KvCache cache(int layer) {
    return caches.get(layer);
  }

  /** How many tokens of {@code sequence} one layer knows. */
  public int length(int layer, int sequence) {
    int index = layer * sequences + sequence;
    return counts == null ? lengths.toIntArray()[index] : counts.get(index);
  }

  /** All layers forget the last tokens of {@code sequence}. */
  public void forget(int sequence, int tokens) {
    for (int l = 0; l < caches.size(); l++) {
      int index = l * sequences + sequence;
      counts.put(index, counts.get(index) - tokens);
    }
  }

  /** All layers forget {@code sequence}. */
  public void clear(int sequence) {
    for (int l = 0; l < caches.size(); l++) {
      counts.put(l * sequences + sequence, 0);
    }
  }

  public int sequences() {
    return sequences;
  }

  /** Slots for each sequence in each layer. */
  public int capacity() {
    return capacity;
  }

  /** Bytes of the keys and values that are in use. */
  public long bytesInUse() {
    long bytes = 0;
    for (int l = 0; l < caches.size(); l++) {
      KvCache cache = caches.get(l);
      long slot = 2 * cache.heads() * cache.headDim() * cache.dtype().bytes();
      for (int s = 0; s < sequences; s++) {
        bytes += slot * length(l, s);
      }
    }
    return bytes;
  }

  /** The lengths of some sequences in one layer. */
  public Tensor length(int layer, int from, int to) {
    return lengths(layer).slice(0, from, to);
  }

  /** The lengths in all layers, [L,S]. */
  public Tensor lengths() {
    return lengths;
  }

  /** The lengths in one layer, [S]. */
  public Tensor lengths(int layer) {
    return lengths.row(layer);
  }
}
