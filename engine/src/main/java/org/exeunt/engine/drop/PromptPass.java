// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.drop;

import java.util.function.IntConsumer;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Gather;
import org.exeunt.KvCache;
import org.exeunt.PromptLayer;
import org.exeunt.Scope;
import org.exeunt.Selection;
import org.exeunt.Tensor;
import org.exeunt.engine.layer.KvState;
import org.exeunt.engine.layer.Rows;
import org.exeunt.engine.model.LlamaConfig;

/**
 * One prompt on its way through the layers, all its tokens at once, and what a method may do with
 * it between them: look at a layer, drop rows, shrink a layer's cache.
 */
public final class PromptPass implements AutoCloseable {
  private final Scope scope = Scope.open();
  private final LlamaConfig config;
  private final Rows rows;
  private final KvState kv;
  private final Layers layers;
  private final int sequence;
  private final int[] ids;
  private int positions;
  private KvCache scratch; // keys of rows that have not been through the layer

  /** What the decoder does for a pass. */
  public interface Layers {
    /** Puts tokens in, at positions 0, 1, ... */
    void enter(int sequence, int... ids);

    void run(int layer);

    /** Computes a layer's queries, keys and values of the rows, and their keys into a cache. */
    void project(int layer, KvCache keys);
  }

  public PromptPass(
      LlamaConfig config, Rows rows, KvState kv, Layers layers, int sequence, int... ids) {
    this.config = config;
    this.rows = rows;
    this.kv = kv;
    this.layers = layers;
    this.sequence = sequence;
    this.ids = ids;
    positions = ids.length;
    layers.enter(sequence, ids);
  }

  /** Layers of the model. */
  public int layers() {
    return config.layers();
  }

  /** Tokens that are left. */
  public int tokens() {
    return rows.count();
  }

  /** The position of the token after the prompt. */
  public int positions() {
    return positions;
  }

  /** Owns what lives as long as the pass. */
  public Scope scope() {
    return scope;
  }

  /** Runs one layer for the tokens that are left. */
  public void runLayer(int layer) {
    layers.run(layer);
  }

  /** The layer run last. */
  public PromptLayer layer(int layer) {
    return new PromptLayer(rows.query(), kv.cache(layer), sequence, kv.length(layer, sequence));
  }

  /** A layer that is about to run: its queries and keys, and nothing written to its cache. */
  public PromptLayer projected(int layer) {
    if (scratch == null) {
      KvCache like = kv.cache(layer);
      scratch = KvCache.contiguous(scope, Device.CPU, like.dtype(), like.layout(), 1,
          config.kvHeads(), rows.count(), config.headWidth());
    }
    layers.project(layer, scratch);
    return new PromptLayer(rows.query(), scratch, 0, rows.count());
  }

  /**
   * Only the chosen tokens go on.
   *
   * @param kept one list
   * @param renumber whether they take the positions 0, 1, ... or keep theirs
   */
  public void keepRows(Selection kept, boolean renumber) {
    int count = kept.count().intBuffer().get(0);
    Tensor list = kept.indices().row(0);
    Gather.Builder gather =
        Gather.builder()
            .list(list)
            .count(kept.count())
            .rows(rows.count())
            .tensor(rows.hidden(), rows.hidden());
    Tensor position = rows.position(rows.count());
    (renumber ? gather.renumber(0, position) : gather.positions(position, position)).runOnce();
    rows.count(count);
  }

  /**
   * A layer's cache keeps only the chosen slots; its heads have one length, so it keeps everything
   * where they disagree about that.
   *
   * @param kept one list for all heads, or one for each KV head
   */
  public void keepSlots(int layer, Selection kept) {
    int[] counts = kept.count().toIntArray();
    if (IntStream.of(counts).distinct().count() > 1) {
      return; // the scores of a head are not numbers: it keeps everything, so all of them must
    }
    Tensor length = kv.length(layer, sequence, sequence + 1);
    try (Scope passing = Scope.open()) {
      kv.cache(layer)
          .compact()
          .select(kept)
          .perHead(counts.length > 1)
          .length(length)
          .sequence(passing.allocate(Device.CPU, DType.I32, 1).copyFrom(new int[] {sequence}))
          .runOnce();
    }
    length.copyFrom(new int[] {counts[0]});
  }

  /** Begins anew with the chosen tokens, as a prompt of their own. */
  public void restart(Selection kept) {
    int[] list = kept.indices().row(0).toIntArray();
    int[] chosen =
        IntStream.range(0, kept.count().intBuffer().get(0)).map(i -> ids[list[i]]).toArray();
    IntConsumer forget = layer -> kv.length(layer, sequence, sequence + 1).copyFrom(new int[] {0});
    IntStream.range(0, layers()).forEach(forget);
    positions = chosen.length;
    layers.enter(sequence, chosen);
  }

  @Override
  public void close() {
    scope.close();
  }
}
