// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Words.remainder;
import static org.exeunt.tests.Words.word;

import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.exeunt.DType;
import org.exeunt.KvCache;
import org.exeunt.KvPropagate;
import org.exeunt.Norm;
import org.exeunt.Rope;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class KvPropagateTest extends OpTest {
  KvPropagateTest() {
    super("kv_propagate");
  }

  static Stream<CaseRow> cases() {
    return CaseRow.of("kv_propagate");
  }

  /** What is the layers' own. */
  private final class Layer {
    final int index;
    final HostTensor kWeight;
    final HostTensor vWeight;
    final HostTensor kBias;
    final HostTensor vBias;
    final HostTensor normWeight;
    final HostTensor normBias;
    final CacheMemory cache;

    Layer(CaseRow c, int entry, int dim) {
      long stream = 128 + 16L * entry;
      long width = c.integer("heads") * c.integer("head_dim");
      index = c.int32("first_layer") + entry * c.int32("layer_step");
      kWeight = HostTensor.weight(c, c.text("weight_fill"), stream, width, dim);
      vWeight = HostTensor.weight(c, c.text("weight_fill"), stream + 1, width, dim);
      kBias = bells(c, c.flag("bias"), stream + 2, 0, width);
      vBias = bells(c, c.flag("bias"), stream + 3, 0, width);
      boolean normed = c.choice("norm", Norm.Kind.class) != Norm.Kind.NONE;
      normWeight = bells(c, normed, stream + 4, 1, dim);
      normBias = bells(c, c.flag("norm_bias"), stream + 5, 0, dim);
      cache = new CacheMemory(CacheShape.ofLayer(c), c.dtype("cache"), 0);
      cache.k.fill(c.seed(), stream + 6, "normal", 1, "-");
      cache.v.fill(c.seed(), stream + 7, "normal", 1, "-");
    }

    private HostTensor bells(CaseRow c, boolean given, long stream, float shift, long size) {
      return given ? HostTensor.bells(DType.F32, c.seed(), stream, 0.25f, shift, size) : null;
    }

    KvPropagate.Layer described(KvCache placed) {
      return KvPropagate.Layer.of(index, input(normWeight), input(kWeight), input(vWeight), placed)
          .withBias(input(kBias), input(vBias))
          .withNormBias(input(normBias));
    }
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void matchesOracle(CaseRow c) {
    HostTensor hidden = HostTensor.matrix(c, "dim", "hidden", 0);
    int rows = hidden.rows;
    int sequences = c.int32("sequences");
    boolean rotated = c.int32("pairs") > 0;
    boolean perLayer = c.choice("slot", "shared", "per_layer") == 1;
    int count = c.int32("layers");
    HostTensor exits = HostTensor.of(DType.I32, rows);
    HostTensor sequence = sequences > 1 ? HostTensor.of(DType.I32, rows) : null;
    HostTensor slots =
        perLayer ? HostTensor.of(DType.I32, count, rows) : HostTensor.of(DType.I32, rows);
    HostTensor position = HostTensor.of(DType.I32, rows);
    HostTensor table = rotated ? HostTensor.ropeTable(c) : null;
    for (int r = 0; r < rows; r++) {
      exits.setInteger(r, exit(c, r));
      if (sequence != null) {
        sequence.setInteger(r, r % sequences);
      }
      position.setInteger(
          r, rotated ? remainder(word(c.seed(), 12, r), c.integer("positions")) : 0);
      for (int k = 0; k < (perLayer ? count : 1); k++) {
        slots.setInteger(k * rows + r, slot(c, k, r, rows));
      }
    }
    Norm.Kind norm = c.choice("norm", Norm.Kind.class);
    float eps = c.number("norm_eps");
    Rope.Style style = c.choice("rope_style", Rope.Style.class);
    KvPropagate.Builder builder =
        KvPropagate.builder()
            .hidden(input(hidden))
            .exitLayer(input(exits))
            .sequence(input(sequence))
            .slot(input(slots))
            .norm(norm, eps)
            .modelLayers(c.int32("model_layers"));
    if (rotated) {
      builder.rope(input(table), style, input(position));
    }
    List<Layer> layers = new ArrayList<>();
    List<PlacedCache> caches = new ArrayList<>();
    for (int k = 0; k < count; k++) {
      Layer layer = new Layer(c, k, hidden.cols);
      PlacedCache placed = PlacedCache.of(scope, layer.cache);
      layers.add(layer);
      caches.add(placed);
      builder.layer(layer.described(placed.described()));
    }
    run(builder.build(scope), PlacedCache.sides(caches));

    for (int k = 0; k < count; k++) {
      Layer layer = layers.get(k);
      CacheMemory.Contents expected = layer.cache.contents();
      double[][] kWeight = layer.kWeight.rows();
      double[][] vWeight = layer.vWeight.rows();
      for (int r = 0; r < rows; r++) {
        long exit = exits.integerAt(r);
        int slot = (int) slots.integerAt(perLayer ? k * rows + r : r);
        if (exit < 0 || exit > layer.index || slot < 0) {
          continue;
        }
        Traced x = new Traced(hidden.row(r)).norm(norm, eps, layer.normWeight, layer.normBias);
        if (hidden.dtype == layer.kWeight.dtype) {
          x = x.rounded(hidden.dtype);
        }
        Traced key = x.times(kWeight, layer.kBias);
        Traced value = x.times(vWeight, layer.vBias);
        for (int h = 0; rotated && h < c.int32("heads"); h++) {
          key.rotate(h * c.int32("head_dim"), table, (int) position.integerAt(r), style);
        }
        int s = sequence == null ? 0 : (int) sequence.integerAt(r);
        DType dtype = layer.cache.dtype;
        expected.put(
            s, slot, key.stored(dtype, c.tag("exact")), value.stored(dtype, c.tag("exact")));
      }
      expected.check("layer " + layer.index, caches.get(k));
    }
  }

  private static long exit(CaseRow c, int row) {
    switch (c.choice("exits", "zero", "none", "last", "first", "mixed")) {
      case 0:
        return 0;
      case 1:
        return -1;
      case 2:
        return c.integer("model_layers");
      case 3:
        return c.integer("first_layer");
      default:
        long any = remainder(word(c.seed(), 10, row), c.integer("model_layers") + 1);
        return row % 4 == 3 ? -1 : any;
    }
  }

  private static long slot(CaseRow c, int entry, int row, int rows) {
    if (c.flag("slots_off") && remainder(word(c.seed(), 11, (long) entry * rows + row), 5) == 0) {
      return -1;
    }
    return (row / c.int32("sequences") * 5 + 3 + entry) % c.int32("slots");
  }
}
