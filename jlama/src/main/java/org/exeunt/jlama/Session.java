// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import com.github.tjake.jlama.safetensors.Config;
import com.github.tjake.jlama.tensor.GrowingCache;
import java.util.ArrayList;
import java.util.List;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.KvCache;
import org.exeunt.KvPropagate;
import org.exeunt.Norm;
import org.exeunt.Rope;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** The ops of one of Jlama's sessions, on its keys and values. */
final class Session implements AutoCloseable {
  private final Config config;
  private final List<Layer> layers;
  private final Tensor ropeTable;
  private final int generation;
  private final List<KvCache> caches = new ArrayList<>();
  private final Scope scope = Scope.open();
  private final LayerRun step;
  private final KvPropagate propagate;
  private final Tensor depth;
  private final Tensor position;

  Session(Config config, List<Layer> layers, Tensor ropeTable, GrowingCache.Buffer buffer) {
    this.config = config;
    this.layers = layers;
    this.ropeTable = ropeTable;
    generation = buffer.generation();
    Tensor memory = buffer.reserve(0);
    List<KvPropagate.Layer> owed = new ArrayList<>();
    for (int l = 0; l < layers.size(); l++) {
      KvCache cache = KvCache.ofTokenMajor(memory.row(l).row(0), memory.row(l).row(1));
      caches.add(cache);
      Layer layer = layers.get(l);
      owed.add(KvPropagate.Layer
              .of(l, layer.attentionNorm(), layer.key().tensor(), layer.value().tensor(), cache)
              .withBlocks(layer.key().blocks(), layer.value().blocks()));
    }
    step = new LayerRun(config, layers, ropeTable, caches, 1);
    boolean done = false;
    try {
      depth = scope.allocate(Device.CPU, DType.I32, 1);
      position = scope.allocate(Device.CPU, DType.I32, 1);
      propagate = layers.size() > KvPropagate.MAX_LAYERS
          ? null
          : KvPropagate.builder()
                .hidden(step.hidden())
                .exitLayer(depth)
                .slot(position)
                .norm(Norm.Kind.RMS, config.layerNormEps)
                .rope(ropeTable, Rope.Style.HALF, position)
                .modelLayers(layers.size())
                .layers(owed)
                .build(scope);
      done = true;
    } finally {
      if (!done) {
        close();
      }
    }
  }

  /** Whether the session's memory is still this. */
  boolean fits(GrowingCache.Buffer buffer) {
    return generation == buffer.generation();
  }

  /** The layers for one row, which stay. */
  LayerRun step() {
    return step;
  }

  /** The layers for a part of a prompt; to be closed. */
  LayerRun prompt(int rows) {
    return new LayerRun(config, layers, ropeTable, caches, rows);
  }

  /** Gives the layers from {@code ran} on the keys and values of the step's row. */
  void propagate(int ran, int at) {
    depth.intBuffer().put(0, ran);
    position.intBuffer().put(0, at);
    propagate.run();
  }

  @Override
  public void close() {
    step.close();
    scope.close();
  }
}
