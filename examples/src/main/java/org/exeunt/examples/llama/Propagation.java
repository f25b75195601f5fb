// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

import java.nio.ByteBuffer;
import java.nio.IntBuffer;
import java.util.ArrayList;
import java.util.List;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.KvLength;
import org.exeunt.KvPropagate;
import org.exeunt.Norm;
import org.exeunt.Rope;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** Gives every layer that a token did not run its keys and values, all in one call. */
final class Propagation {
  private final Exits exits;
  private final int layers;
  private final int sequences;
  private final ByteBuffer owed;
  private final IntBuffer positions;
  private final List<KvLength> advance = new ArrayList<>();
  private final KvPropagate op;

  Propagation(
      Scope scope, LlamaWeights weights, KvState kv, Tensor ropeTable, Exits exits, int sequences) {
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
    List<KvPropagate.Layer> list = new ArrayList<>();
    int keys = config.width();
    int values = keys + config.kvWidth();
    for (int l = 0; l < layers; l++) {
      LlamaWeights.Layer layer = weights.layers().get(l);
      Tensor projections = layer.queryKeyValue();
      list.add(KvPropagate.Layer.of(l, layer.attentionNorm(), projections.rows(keys, values),
          projections.rows(values, projections.size(0)), kv.cache(l)));
      advance.add(kv.cache(l)
              .advance()
              .length(kv.lengths(l))
              .sequence(sequence)
              .active(owing.row(l))
              .slot(slot.row(l))
              .build(scope));
    }
    op = KvPropagate.builder()
             .hidden(exits.hidden())
             .exitLayer(exits.exitDepth())
             .sequence(sequence)
             .slot(slot)
             .norm(Norm.Kind.RMS, config.epsilon())
             .rope(ropeTable, Rope.Style.INTERLEAVED, position)
             .modelLayers(layers)
             .layers(list)
             .build(scope);
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
    op.run();
    work.propagation(layers - least);
  }
}
