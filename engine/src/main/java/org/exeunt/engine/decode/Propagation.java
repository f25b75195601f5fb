// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import java.nio.ByteBuffer;
import java.nio.IntBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.function.IntConsumer;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.KvAppend;
import org.exeunt.KvLength;
import org.exeunt.KvPropagate;
import org.exeunt.Norm;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.Workspace;
import org.exeunt.engine.layer.KvState;
import org.exeunt.engine.layer.Projection;
import org.exeunt.engine.layer.RopeTables;
import org.exeunt.engine.layer.Rows;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.model.LlamaWeights;

/** Gives every layer that a token did not run its keys and values. */
public final class Propagation {
  private final Exits exits;
  private final int layers;
  private final int sequences;
  private final ByteBuffer owed;
  private final IntBuffer positions;
  private final List<KvLength> advance = new ArrayList<>();
  private final IntConsumer pay; // from a layer on

  Propagation(Scope scope, LlamaWeights weights, KvState kv, RopeTables ropeTables, Exits exits,
      int sequences) {
    LlamaConfig config = weights.config();
    this.exits = exits;
    this.sequences = sequences;
    layers = config.layers();
    Tensor owing = scope.allocate(Device.CPU, DType.U8, layers, sequences);
    Tensor slot = scope.allocate(Device.CPU, DType.I32, layers, sequences);
    Tensor sequence = scope.allocate(Device.CPU, DType.I32, sequences);
    Tensor position = scope.allocate(Device.CPU, DType.I32, sequences);
    owed = owing.byteBuffer();
    positions = position.intBuffer();
    for (int s = 0; s < sequences; s++) {
      sequence.intBuffer().put(s, s);
    }
    for (int l = 0; l < layers; l++) {
      advance.add(kv.cache(l)
              .advance()
              .length(kv.lengths(l))
              .sequence(sequence)
              .active(owing.row(l))
              .slot(slot.row(l))
              .build(scope));
    }
    if (config.isGemma() || !alike(weights.layers())) {
      pay = inTurn(scope, weights, kv, ropeTables, sequence, slot, position);
      return;
    }
    KvPropagate op =
        ofAll(weights, kv)
            .hidden(exits.hidden())
            .exitLayer(exits.exitDepth())
            .sequence(sequence)
            .slot(slot)
            .rope(ropeTables.of(0), config.architecture().ropeStyle(), position)
            .build(scope);
    pay = least -> op.run();
  }

  /** The op with all layers' weights and caches; who owes is still to be said. */
  public static KvPropagate.Builder ofAll(LlamaWeights weights, KvState kv) {
    LlamaConfig config = weights.config();
    List<KvPropagate.Layer> list = new ArrayList<>();
    int keys = config.queryWidth();
    int values = keys + config.kvWidth();
    for (int l = 0; l < config.layers(); l++) {
      LlamaWeights.Layer layer = weights.layers().get(l);
      Tensor bias = layer.bias();
      KvPropagate.Layer owed =
          KvPropagate.Layer
              .of(l, layer.attentionNorm(), layer.key().tensor(), layer.value().tensor(),
                  kv.cache(l))
              .withBlocks(layer.key().blocks(), layer.value().blocks());
      list.add(bias == null
              ? owed
              : owed.withBias(bias.slice(0, keys, values), bias.slice(0, values, bias.size(0))));
    }
    return KvPropagate.builder()
        .norm(Norm.Kind.RMS, config.epsilon())
        .modelLayers(config.layers())
        .layers(list);
  }

  /** Whether one op takes the keys' and values' matrices of all layers. */
  public static boolean alike(List<LlamaWeights.Layer> layers) {
    DType type = layers.get(0).key().tensor().dtype(); // U8 of blocks, whatever their format
    return layers.stream().allMatch(
        layer -> layer.key().tensor().dtype() == type && layer.value().tensor().dtype() == type);
  }

  /**
   * Layer by layer, where keys are normed, for which the op has no place, or a file mixes blocks
   * and elements.
   */
  private IntConsumer inTurn(Scope scope, LlamaWeights weights, KvState kv, RopeTables ropeTables,
      Tensor sequence, Tensor slot, Tensor position) {
    LlamaConfig config = weights.config();
    Workspace workspace = Workspace.in(scope, Device.CPU);
    Tensor normed = scope.allocate(Device.CPU, DType.F32, sequences, config.width());
    Tensor projected = scope.allocate(Device.CPU, DType.F32, sequences, 2 * config.kvWidth());
    Tensor k = Rows.heads(projected, 0, config.kvHeads(), config.headWidth());
    Tensor v = Rows.heads(projected, config.kvHeads(), config.kvHeads(), config.headWidth());
    List<Projection> projections = new ArrayList<>();
    List<KvAppend> appends = new ArrayList<>();
    for (int l = 0; l < layers; l++) {
      projections.add(new Projection(scope, workspace, config, weights.layers().get(l),
          ropeTables.of(l), exits.hidden(), position, normed, projected));
      appends.add(kv.cache(l)
              .append()
              .k(k)
              .v(v)
              .sequence(sequence)
              .slot(slot.row(l))
              .build(scope, workspace));
    }
    return least -> {
      for (int l = least; l < layers; l++) {
        projections.get(l).run(Stream.DEFAULT);
        appends.get(l).run();
      }
    };
  }

  /** Pays what the newest token of each sequence owes, if it left before the last layer. */
  void run(DecodeWork work) {
    int least = layers;
    for (int s = 0; s < sequences; s++) {
      least = Math.min(least, exits.depth(s));
      positions.put(s, exits.position(s));
    }
    if (least == layers) {
      return;
    }
    for (int l = 0; l < layers; l++) {
      for (int s = 0; s < sequences; s++) {
        owed.put(l * sequences + s, (byte) (exits.depth(s) <= l ? 1 : 0));
      }
      advance.get(l).run(); // a slot of -1 where nothing is owed
    }
    pay.accept(least);
    work.propagation(least);
  }
}
