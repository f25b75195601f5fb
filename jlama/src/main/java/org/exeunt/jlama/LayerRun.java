// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import com.github.tjake.jlama.safetensors.Config;
import java.nio.IntBuffer;
import java.util.ArrayList;
import java.util.List;
import org.exeunt.Attention;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Ffn;
import org.exeunt.KvCache;
import org.exeunt.Linear;
import org.exeunt.Norm;
import org.exeunt.Op;
import org.exeunt.Rope;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.Workspace;

/**
 * All layers for a fixed number of rows of one session: built once, run for every token of an
 * answer or for each part of a prompt.
 */
final class LayerRun implements AutoCloseable {
  private final Scope scope = Scope.open();
  private final Tensor hidden;
  private final IntBuffer positions;
  private final IntBuffer visible;
  private final List<List<Op>> layers = new ArrayList<>();

  LayerRun(Config config, List<Layer> weights, Tensor ropeTable, List<KvCache> caches, int rows) {
    boolean done = false;
    try {
      hidden = floats(rows, config.embeddingLength);
      Tensor position = scope.allocate(Device.CPU, DType.I32, rows);
      Tensor seen = scope.allocate(Device.CPU, DType.I32, rows);
      positions = position.intBuffer();
      visible = seen.intBuffer();
      build(config, weights, ropeTable, caches, position, seen);
      done = true;
    } finally {
      if (!done) {
        scope.close();
      }
    }
  }

  private void build(Config config, List<Layer> weights, Tensor ropeTable, List<KvCache> caches,
      Tensor position, Tensor seen) {
    long rows = hidden.size(0);
    Workspace workspace = Workspace.in(scope, Device.CPU);
    int headWidth = config.headSize;
    Tensor normed = floats(rows, config.embeddingLength);
    Tensor query = floats(rows, config.numberOfHeads, headWidth);
    Tensor key = floats(rows, config.numberOfKeyValueHeads, headWidth);
    Tensor value = floats(rows, config.numberOfKeyValueHeads, headWidth);
    Tensor attended = floats(rows, config.numberOfHeads, headWidth);
    for (int l = 0; l < weights.size(); l++) {
      Layer layer = weights.get(l);
      KvCache cache = caches.get(l);
      List<Op> ops = new ArrayList<>();
      ops.add(Norm.builder()
              .input(hidden)
              .rms(layer.attentionNorm(), config.layerNormEps)
              .out(normed)
              .build(scope, workspace));
      ops.add(product(workspace, normed, layer.query(), null, flat(query)));
      ops.add(product(workspace, normed, layer.key(), null, flat(key)));
      ops.add(product(workspace, normed, layer.value(), null, flat(value)));
      for (Tensor turned : List.of(query, key)) {
        ops.add(Rope.builder()
                .input(turned)
                .position(position)
                .table(ropeTable, Rope.Style.HALF)
                .out(turned)
                .build(scope, workspace));
      }
      ops.add(cache.append().k(key).v(value).slot(position).build(scope, workspace));
      ops.add(Attention.builder()
              .query(query)
              .cache(cache)
              .visible(seen)
              .scale((float) (1 / Math.sqrt(headWidth)))
              .out(attended)
              .build(scope, workspace));
      ops.add(product(workspace, flat(attended), layer.output(), hidden, hidden));
      ops.add(Ffn.builder()
              .hidden(hidden)
              .rmsNorm(layer.feedForwardNorm(), config.layerNormEps)
              .gate(layer.gate().tensor(), null)
              .up(layer.up().tensor(), null)
              .down(layer.down().tensor(), null)
              .weightBlocks(layer.gate().blocks(), layer.up().blocks(), layer.down().blocks())
              .activation(Ffn.Activation.SILU)
              .out(hidden)
              .build(scope, workspace));
      layers.add(ops);
    }
  }

  private Tensor floats(long... shape) {
    return scope.allocate(Device.CPU, DType.F32, shape);
  }

  private static Tensor flat(Tensor heads) {
    return heads.reshape(heads.size(0), heads.size(1) * heads.size(2));
  }

  private Op product(
      Workspace workspace, Tensor input, Weight weight, Tensor residual, Tensor out) {
    return Linear.builder()
        .input(input)
        .weight(weight.tensor())
        .weightBlocks(weight.blocks())
        .residual(residual)
        .out(out)
        .build(scope, workspace);
  }

  /** The rows that go in, and come out; [R,D]. */
  Tensor hidden() {
    return hidden;
  }

  /** Says where the rows lie: one after the other from {@code first} on. */
  void at(int first) {
    for (int row = 0; row < positions.capacity(); row++) {
      positions.put(row, first + row);
      visible.put(row, first + row + 1);
    }
  }

  void layer(int index) {
    for (Op op : layers.get(index)) {
      op.run();
    }
  }

  @Override
  public void close() {
    scope.close();
  }
}
