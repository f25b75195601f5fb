// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.layer;

import java.nio.IntBuffer;
import java.util.stream.IntStream;
import org.exeunt.Attention;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.KvCache;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.Workspace;
import org.exeunt.engine.model.LlamaConfig;

/**
 * What some rows see in local layers, where attention knows leading slots alone: the cache, read as
 * pages of one slot, and for each row a table of those that it sees, the last ones its layer holds.
 */
final class Window {
  private final LlamaConfig config;
  private final Rows rows;
  private final int count;
  private final int capacity;
  private final int[] slots; // 0, 1, 2, ...
  private final Tensor table;
  private final Tensor visible;
  private final Tensor own;
  private final IntBuffer seen;
  private final IntBuffer tables;
  private final IntBuffer visibles;

  /** For the first {@code count} rows. */
  Window(Scope scope, LlamaConfig config, KvState kv, Rows rows, int count) {
    this.config = config;
    this.rows = rows;
    this.count = count;
    capacity = kv.capacity();
    slots = IntStream.range(0, kv.sequences() * capacity).toArray();
    table = scope.allocate(Device.CPU, DType.I32, count, config.window());
    table.copyFrom(new int[count * config.window()]);
    visible = scope.allocate(Device.CPU, DType.I32, count);
    own = scope.allocate(Device.CPU, DType.I32, count);
    own.copyFrom(IntStream.range(0, count).toArray());
    seen = rows.visible(count).intBuffer();
    tables = table.intBuffer();
    visibles = visible.intBuffer();
  }

  /** Attention that sees what the last {@link #look} found. */
  Attention attention(
      Scope scope, Workspace workspace, KvCache cache, Tensor query, Tensor attended) {
    long[] pages = {slots.length, 1, config.kvHeads(), config.headWidth()};
    return Attention.builder()
        .query(query)
        .cache(KvCache.ofPages(cache.k().reshape(pages), cache.v().reshape(pages), table))
        .scale(config.attentionScale())
        .sequence(own)
        .visible(visible)
        .out(attended)
        .build(scope, workspace);
  }

  /** Looks which slots the rows see; false if that is all of them. */
  boolean look() {
    boolean hides = false;
    for (int row = 0; row < count; row++) {
      hides |= seen.get(row) > config.window();
    }
    for (int row = 0; hides && row < count; row++) {
      int until = seen.get(row);
      int sees = Math.min(until, config.window());
      int first = rows.sequenceOf(row) * capacity + until - sees;
      tables.put(row * config.window(), slots, first, sees);
      visibles.put(row, sees);
    }
    return hides;
  }
}
