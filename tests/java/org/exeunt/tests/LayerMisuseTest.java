// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Refusals.invalid;
import static org.exeunt.tests.Refusals.refused;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.exeunt.Attention;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.ExitRule;
import org.exeunt.Ffn;
import org.exeunt.FfnSkipRule;
import org.exeunt.HiddenStack;
import org.exeunt.KvAppend;
import org.exeunt.KvCache;
import org.exeunt.KvLength;
import org.exeunt.KvPropagate;
import org.exeunt.LayerSchedule;
import org.exeunt.Linear;
import org.exeunt.Norm;
import org.exeunt.Op;
import org.exeunt.Rope;
import org.exeunt.RopeTable;
import org.exeunt.RowCompaction;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/**
 * Wrong arguments of the ops of a layer: each message names the argument and the values that
 * disagree. Where a run finds what a build cannot see, nothing was written.
 */
@Tag("kernels")
@ExtendWith(ForcedPath.class)
class LayerMisuseTest {
  private final Scope scope = Scope.open();

  @AfterEach
  void close() {
    scope.close();
  }

  private Tensor f32(long... shape) {
    return scope.allocate(DType.F32, shape);
  }

  private Tensor f16(long... shape) {
    return scope.allocate(DType.F16, shape);
  }

  private Tensor i32(long... shape) {
    return scope.allocate(DType.I32, shape);
  }

  private Tensor ints(int... values) {
    return scope.copyOf(values, values.length);
  }

  private KvCache cache(DType dtype, long sequences, long heads, long slots, long dim) {
    Device device = Device.defaultDevice();
    KvCache.Layout layout = KvCache.Layout.HEAD_MAJOR;
    return KvCache.contiguous(scope, device, dtype, layout, sequences, heads, slots, dim);
  }

  /** On the CPU refuses and leaves the tensor alone; a device runs, whatever it makes of it. */
  private void refusedByTheRun(Op op, Tensor written, String... words) {
    if (Setup.cuda()) {
      op.run();
      Stream.DEFAULT.synchronize();
      return;
    }
    double[] before = written.toDoubleArray();
    invalid(op::run, words);
    assertArrayEquals(before, written.toDoubleArray(), "a refused run wrote");
  }

  // ---- norm, rope, linear -----------------------------------------------------------------------

  @Test
  void norm() {
    Norm.Builder builder = Norm.builder().input(f32(2, 4)).out(f32(2, 4));
    invalid(() -> builder.rms(f32(5), 0).build(), "norm", "weight", "5", "4");
    invalid(() -> builder.rms(null, 0).build(), "weight is null");
    invalid(() -> builder.rms(f16(4), 0).build(), "weight", "f16", "f32");
    invalid(() -> builder.rms(f32(4), -1).build(), "eps", "-1");
    invalid(() -> builder.layer(f32(4), f32(3), 0).build(), "bias", "3", "4");
    invalid(() -> builder.rms(f32(4), 0).out(f32(3, 4)).build(), "out", "3 rows", "2");
    invalid(() -> Norm.builder().input(f32(2, 0)).out(f32(2, 0)).build(), "D", "0", "1");
    invalid(() -> Norm.builder().input(i32(2, 4)).out(f32(2, 4)).build(), "input", "i32");
  }

  @Test
  void rope() {
    Rope.Builder builder = Rope.builder().input(f32(2, 3, 8)).position(i32(2)).out(f32(2, 3, 8));
    Rope.Style half = Rope.Style.HALF;
    invalid(() -> builder.build(), "rope", "table is null");
    invalid(() -> builder.table(f32(9, 5, 2), half).build(), "table", "10", "8");
    invalid(() -> builder.table(f32(9, 4), half).build(), "table", "rank 2", "expected 3");
    invalid(() -> builder.table(f32(9, 0, 2), half).build(), "table", "0 pairs", "1");
    Rope.Builder whole = builder.table(f32(9, 4, 2), half);
    invalid(() -> whole.position(i32(3)).build(), "position", "3", "2");
    invalid(() -> whole.position(f32(2)).build(), "position", "f32", "i32");
    whole.position(i32(2));
    invalid(() -> whole.out(f16(2, 3, 8)).build(), "out", "f16", "f32");
    invalid(() -> whole.out(f32(2, 24)).build(), "out", "rank 2", "expected 3");
    Tensor gaps = f32(2, 3, 16).strided(new long[] {2, 3, 8}, new long[] {48, 16, 1});
    invalid(() -> whole.out(gaps).build(), "out", "strides 16", "8");
  }

  @Test
  void positionOutsideTheTable() {
    Tensor out = scope.copyOf(new float[] {7, 7, 7, 7}, 2, 1, 2);
    Rope.Builder builder =
        Rope.builder()
            .input(f32(2, 1, 2).copyFrom(new float[] {1, 2, 3, 4}))
            .table(f32(4, 1, 2).copyFrom(new float[8]), Rope.Style.HALF)
            .out(out);
    refusedByTheRun(builder.position(ints(0, 4)).build(scope), out, "position", "4", "3");
    if (Setup.cuda()) {
      assertTrue(Float.isNaN(out.toFloatArray()[2]));
      assertEquals(0, out.toFloatArray()[0]);
    }
    refusedByTheRun(builder.position(ints(-2, 0)).build(scope), out, "position", "-2", "-1..3");
  }

  @Test
  void ropeTable() {
    RopeTable.Builder builder = RopeTable.builder().table(f32(4, 2, 2));
    invalid(() -> builder.base(0).build(), "rope_table", "base", "0");
    invalid(() -> builder.base(0x1p-60).build(), "base", "angle", "2^31");
    invalid(() -> builder.base(10000).linear(0.5).build(), "factor", "0.5", "1");
    invalid(() -> builder.base(1e300).ntk(1e300).build(), "base", "inf", "finite");
    invalid(() -> RopeTable.builder().table(f32(4, 1, 2)).ntk(2).build(), "n/2", "1", "2");
    invalid(() -> Rope.table(scope, Device.defaultDevice(), 4, 7, 10000), "rotated", "7");
  }

  @Test
  void linear() {
    Linear.Builder builder = Linear.builder().input(f32(2, 4)).weight(f32(3, 4)).out(f32(2, 3));
    invalid(() -> builder.bias(f32(4)).build(), "linear", "bias", "4", "3");
    builder.bias(null);
    invalid(() -> builder.residual(f32(2, 4)).build(), "residual", "4 columns", "3");
    invalid(() -> builder.residual(f16(2, 3)).build(), "residual", "f16", "f32");
    builder.residual(null);
    invalid(() -> builder.weight(f32(3, 5)).build(), "weight", "5 columns", "4");
    invalid(() -> builder.weight(f32(12)).build(), "weight", "rank 1", "expected 2");
    invalid(() -> builder.weight(f32(0, 4)).out(f32(2, 0)).build(), "N", "0", "1");
    invalid(()
                -> builder.weight(f32(3, 4)).out(f32(2, 3).reinterpret(DType.I32, 0, 2, 3)).build(),
        "out", "i32");
    Tensor shared = f32(2, 4);
    invalid(() -> Linear.compute(shared, f32(4, 4), shared), "out", "input", "overlaps");
  }

  // ---- ffn --------------------------------------------------------------------------------------

  private Ffn.Builder ffn() {
    return Ffn.builder()
        .hidden(f32(2, 4))
        .gate(f32(6, 4), null)
        .up(f32(6, 4), null)
        .down(f32(4, 6), null)
        .out(f32(2, 4));
  }

  @Test
  void ffnBlock() {
    invalid(() -> ffn().down(f32(6, 4), null).build(), "ffn", "down_weight", "6 rows", "4");
    invalid(() -> ffn().gate(f32(5, 4), null).build(), "gate_weight", "5 rows", "6");
    invalid(() -> ffn().gate(f16(6, 4), null).build(), "gate_weight", "f16", "f32");
    invalid(() -> ffn().gate(null, f32(6)).build(), "gate_bias", "gate_weight is null");
    invalid(() -> ffn().rmsNorm(null, 0).build(), "norm_weight is null");
    invalid(() -> ffn().layerNorm(f32(4), f32(5), 0).build(), "norm_bias", "5", "4");
    invalid(() -> ffn().rmsNorm(f32(4), Float.NaN).build(), "norm_eps", "nan");
    invalid(() -> ffn().skip(f32(2)).build(), "skip", "f32", "u8");
    invalid(() -> ffn().skip(scope.allocate(DType.U8, 3)).build(), "skip", "3", "2");
    invalid(() -> ffn().cosine(f32(2, 1)).build(), "cosine", "rank 2", "expected 1");
    invalid(() -> ffn().branchCosine(f32(3)).build(), "branch_cosine", "3", "2");
    invalid(() -> ffn().out(f16(2, 4)).build(), "out", "f16", "hidden", "f32");
    invalid(() -> ffn().up(null, null).build(), "up_weight is null");
  }

  @Test
  void ffnSkipRule() {
    FfnSkipRule.Builder builder =
        FfnSkipRule.builder()
            .state(FfnSkipRule.allocateState(scope, Device.defaultDevice(), 2))
            .skip(scope.allocate(DType.U8, 2))
            .modelLayers(4);
    invalid(builder::build, "coldLayers is missing");
    builder.coldLayers(1, 3);
    invalid(builder::build, "warmUp is missing");
    builder.warmUp(0);
    invalid(builder::build, "threshold is missing");
    builder.threshold(0);
    invalid(() -> builder.coldLayers(2, 1).build(), "cold_end", "1", "2..4");
    invalid(() -> builder.coldLayers(1, 5).build(), "cold_end", "5", "1..4");
    builder.coldLayers(1, 3);
    invalid(() -> builder.warmUp(-1).build(), "warm_up", "-1");
    builder.warmUp(0);
    invalid(() -> builder.budget(-2).build(), "budget", "-2");
    builder.budget(-1);
    invalid(() -> builder.threshold(Float.NaN).build(), "threshold", "NaN");
    builder.threshold(0.5f);
    invalid(() -> builder.at(0, 0).build(), "cosine is null");
    invalid(() -> builder.at(3, 0).build(), "layer", "3", "-1..2");
    FfnSkipRule rule = builder.at(-1, 0).cosine(f32(2)).build(scope);
    invalid(() -> rule.run(3, 0), "layer", "3", "-1..2");
    invalid(() -> rule.run(-1, -1), "token_index", "-1");
    rule.run(0, 0);
    Stream.DEFAULT.synchronize();
  }

  // ---- the cache --------------------------------------------------------------------------------

  @Test
  void describedCaches() {
    invalid(() -> KvCache.ofHeadMajor(f32(4, 2), f32(4, 2)), "k", "rank 2", "3 or 4");
    invalid(() -> KvCache.ofTokenMajor(null, f32(4, 2, 3)), "k", "null");
    invalid(() -> KvCache.ofPages(f32(4, 2, 3), f32(4, 2, 3), i32(1, 4)), "k", "rank 3", "4");
    invalid(
        () -> KvCache.ofPages(f32(1, 4, 2, 3), f32(1, 4, 2, 3), i32(4)), "blockTable", "rank 1");
    invalid(()
                -> KvCache.ofPages(f32(0, 4, 2, 3), f32(0, 4, 2, 3), i32(0, 1L << 62)),
        "blockTable", "4611686018427387904 pages of 4 slots");
    Device device = Device.defaultDevice();
    invalid(()
                -> KvCache.contiguous(scope, device, DType.F32, KvCache.Layout.PAGED, 1, 1, 1, 1),
        "layout", "PAGED");
    KvCache heads = cache(DType.BF16, 2, 3, 5, 8);
    assertEquals(List.of(2L, 3L, 5L, 8L), extents(heads));
    assertEquals(
        List.of(1L, 3L, 5L, 8L), extents(KvCache.ofTokenMajor(f32(5, 3, 8), f32(5, 3, 8))));
    KvCache pages = KvCache.paged(scope, DType.F16, 7, 4, 3, 8, i32(2, 3));
    assertEquals(List.of(2L, 3L, 12L, 8L), extents(pages));
    assertEquals(DType.F16, pages.dtype());
    assertTrue(pages.toString().contains("PAGED cache of 2 sequence(s), 12 slots"));
  }

  private static List<Long> extents(KvCache cache) {
    return List.of(cache.sequences(), cache.heads(), cache.capacity(), cache.headDim());
  }

  private KvAppend.Builder append(KvCache cache) {
    return cache.append().k(f32(2, 2, 8)).v(f32(2, 2, 8)).slot(ints(0, 1));
  }

  @Test
  void append() {
    KvCache cache = cache(DType.F32, 1, 2, 4, 8);
    invalid(() -> append(cache).k(f32(2, 3, 8)).build(), "kv_append", "k", "3 heads", "2");
    invalid(() -> append(cache).k(f32(2, 2, 4)).build(), "k", "4", "8");
    invalid(() -> append(cache).v(f32(3, 2, 8)).build(), "v", "3 rows", "2");
    invalid(() -> append(cache).v(f16(2, 2, 8)).build(), "v", "f16", "k", "f32");
    invalid(() -> append(cache).slot(null).build(), "slot is null");
    invalid(() -> append(cache).slot(ints(0)).build(), "slot", "1", "2");
    invalid(() -> append(cache).sequence(ints(0, 0, 0)).build(), "sequence", "3", "2");
    invalid(
        () -> append(KvCache.ofHeadMajor(f32(2, 4, 8), f16(2, 4, 8))).build(), "v", "f16", "f32");
    invalid(() -> append(KvCache.ofHeadMajor(f32(2, 4, 8), f32(2, 5, 8))).build(), "v", "5", "4");
    invalid(() -> KvAppend.builder().k(f32(2, 2, 8)).build(), "k is null");
    invalid(
        () -> append(KvCache.ofHeadMajor(f32(2, 4, 8), f32(2, 4, 8))).cache(null).build(), "null");
  }

  @Test
  void slotsAndSequencesOutOfRange() {
    KvCache cache = cache(DType.F32, 2, 2, 4, 8);
    cache.k().copyFrom(new float[128]);
    cache.v().copyFrom(new float[128]);
    refusedByTheRun(append(cache).slot(ints(0, 4)).build(scope), cache.k(), "slot", "4", "3");
    refusedByTheRun(append(cache).slot(ints(-2, 0)).build(scope), cache.k(), "slot", "-2");
    refusedByTheRun(
        append(cache).sequence(ints(0, 2)).build(scope), cache.k(), "sequence", "2", "1");
    Tensor table = i32(1, 2).copyFrom(new int[] {0, 3});
    KvCache pages = KvCache.ofPages(f32(3, 2, 2, 8), f32(3, 2, 2, 8), table);
    pages.k().copyFrom(new float[96]);
    refusedByTheRun(
        append(pages).slot(ints(0, 2)).build(scope), pages.k(), "block_table", "3", "2");
    append(pages).slot(ints(0, -1)).runOnce(); // nobody asks for the broken page
    Stream.DEFAULT.synchronize();
  }

  @Test
  void copy() {
    KvCache cache = cache(DType.F32, 1, 2, 4, 8);
    KvCache half = cache(DType.F16, 1, 2, 4, 8);
    invalid(()
                -> cache.copyTo(half).from(ints(0), null).to(ints(1), null).build(),
        "kv_copy", "source", "f32", "destination", "f16");
    invalid(
        ()
            -> cache.copyTo(cache(DType.F32, 1, 3, 4, 8))
                .from(ints(0), null)
                .to(ints(1), null)
                .build(),
        "source", "2 heads", "3");
    invalid(()
                -> cache.copyTo(cache).from(ints(0), null).to(ints(1, 2), null).build(),
        "to_slot", "2", "1");
    KvCache sameValues = KvCache.ofHeadMajor(f32(1, 2, 4, 8), cache.v());
    invalid(()
                -> cache.copyTo(sameValues).from(ints(0), null).to(ints(1), null).build(),
        "destination.v is exactly that of source", "destination.k");
    KvCache turned =
        KvCache.ofTokenMajor(cache.k().reshape(1, 4, 2, 8), cache.v().reshape(1, 4, 2, 8));
    invalid(()
                -> cache.copyTo(turned).from(ints(0), null).to(ints(1), null).build(),
        "destination", "8 elements between heads", "source", "32");
    cache.k().copyFrom(new float[64]);
    cache.v().copyFrom(new float[64]);
    refusedByTheRun(cache.copyTo(cache).from(ints(4), null).to(ints(0), null).build(scope),
        cache.k(), "from_slot", "4", "3");
    refusedByTheRun(cache.copyTo(cache).from(ints(0), null).to(ints(0), ints(1)).build(scope),
        cache.k(), "to_sequence", "1", "0");
  }

  @Test
  void lengths() {
    Tensor length = ints(0, 3);
    invalid(() -> KvLength.advance(0).length(length).slot(i32(2)).build(), "capacity", "0", "1");
    invalid(() -> KvLength.advance(4).slot(i32(2)).build(), "length is null");
    invalid(()
                -> KvLength.advance(4).length(length).slot(i32(2)).limit(ints(1)).build(),
        "limit", "EXN_KV_ADVANCE");
    invalid(()
                -> KvLength.crop().length(length).limit(ints(1)).slot(i32(2)).build(),
        "slot", "EXN_KV_CROP");
    invalid(() -> KvLength.crop().length(length).limit(ints(1, 2, 3)).build(), "limit", "3", "2");
    invalid(
        ()
            -> KvLength.advance(4)
                .length(length)
                .slot(i32(2))
                .active(scope.allocate(DType.U8, 3))
                .build(),
        "active", "3", "2");
    Tensor slot = i32(2).copyFrom(new int[] {9, 9});
    KvLength full = KvLength.advance(4).length(length).sequence(ints(1, 1)).slot(slot).build(scope);
    refusedByTheRun(full, length, "length", "4");
    KvLength outside =
        KvLength.advance(4).length(length).sequence(ints(0, 2)).slot(slot).build(scope);
    refusedByTheRun(outside, length, "sequence", "2", "1");
  }

  // ---- attention --------------------------------------------------------------------------------

  private Attention.Builder attention(KvCache cache) {
    return Attention.builder()
        .query(f32(2, 4, 8))
        .cache(cache)
        .visible(ints(1, 2))
        .out(f32(2, 4, 8));
  }

  @Test
  void attention() {
    KvCache cache = cache(DType.F32, 1, 2, 4, 8);
    invalid(() -> attention(cache(DType.F32, 1, 3, 4, 8)).build(), "attention", "query", "4", "3");
    invalid(() -> attention(cache(DType.F32, 1, 2, 4, 16)).build(), "query", "8", "16");
    invalid(() -> attention(cache).out(f32(2, 3, 8)).build(), "out", "3 heads", "4");
    invalid(() -> attention(cache).out(f32(3, 4, 8)).build(), "out", "3 rows", "2");
    invalid(() -> attention(cache).visible(ints(1)).build(), "visible", "1", "2");
    invalid(() -> attention(cache).visible(null).build(), "visible is null");
    invalid(() -> attention(cache).scale(0).build(), "scale", "0");
    invalid(() -> attention(cache).softcap(-1).build(), "softcap", "-1");
    invalid(() -> attention(cache).scores(f32(2, 4, 5)).build(), "N", "5", "4");
    invalid(() -> attention(cache).scores(f32(2, 3, 4)).build(), "scores", "3", "4");
    invalid(() -> attention(cache).query(f32(8, 8)).build(), "query", "rank 2", "expected 3");
    invalid(() -> attention(null).build(), "null");
    Tensor out = f32(2, 4, 8).copyFrom(new float[64]);
    cache.k().copyFrom(new float[64]);
    cache.v().copyFrom(new float[64]);
    refusedByTheRun(
        attention(cache)
            .query(f32(2, 4, 8).copyFrom(new float[64]))
            .out(out)
            .visible(ints(0, 5))
            .build(scope),
        out, "visible", "5", "4");
  }

  // ---- rows that left ---------------------------------------------------------------------------

  private KvPropagate.Builder propagate() {
    return KvPropagate.builder()
        .hidden(f32(2, 4).copyFrom(new float[8]))
        .exitLayer(ints(0, 1))
        .slot(ints(0, 1))
        .modelLayers(4);
  }

  private KvPropagate.Layer layer(int index, KvCache cache) {
    return KvPropagate.Layer.of(index, null, f32(16, 4), f32(16, 4), cache);
  }

  private KvCache smallCache() {
    KvCache cache = cache(DType.F32, 1, 2, 4, 8);
    cache.k().copyFrom(new float[64]);
    cache.v().copyFrom(new float[64]);
    return cache;
  }

  @Test
  void propagateArguments() {
    KvCache a = smallCache();
    KvCache b = smallCache();
    invalid(() -> propagate().build(), "kv_propagate", "layer_count", "0", "1..128");
    List<KvPropagate.Layer> many =
        IntStream.rangeClosed(0, KvPropagate.MAX_LAYERS).mapToObj(i -> layer(i, a)).toList();
    invalid(() -> propagate().layers(many).build(), "layer_count", "129", "1..128");
    invalid(() -> propagate().layer(layer(4, a)).build(), "index", "4", "0..3");
    invalid(
        () -> propagate().layer(layer(2, a)).layer(layer(2, b)).build(), "layers[1]", "index", "2");
    invalid(() -> propagate().layer(layer(2, a)).layer(layer(3, a)).build(), "k", "overlaps");
    invalid(
        ()
            -> propagate().layer(layer(2, a)).layer(layer(3, cache(DType.F16, 1, 2, 4, 8))).build(),
        "cache", "f16", "f32");
    invalid(
        ()
            -> propagate().layer(layer(2, a)).layer(layer(3, cache(DType.F32, 1, 2, 4, 4))).build(),
        "16", "8");
    invalid(() -> propagate().layer(layer(1, null)).build(), "k is null");
    invalid(
        () -> propagate().norm(Norm.Kind.RMS, 0).layer(layer(1, a)).build(), "norm_weight is null");
    invalid(
        () -> propagate().layer(layer(1, a).withBias(f32(8), null)).build(), "k_bias", "8", "16");
    invalid(()
                -> propagate().layer(layer(1, a).withNormBias(f32(4))).build(),
        "norm_bias", "EXN_NORM_LAYER");
    invalid(
        ()
            -> propagate().layer(KvPropagate.Layer.of(1, null, f32(16, 5), f32(16, 4), a)).build(),
        "k_weight", "5 columns", "4");
    invalid(
        ()
            -> propagate().layer(KvPropagate.Layer.of(1, null, f32(16, 4), f16(16, 4), a)).build(),
        "v_weight", "f16", "f32");
    Tensor table = f32(4, 8, 2);
    invalid(()
                -> propagate().rope(table, Rope.Style.HALF, ints(0, 0)).layer(layer(1, a)).build(),
        "rope_table", "16", "8");
    invalid(()
                -> propagate().rope(f32(4, 4, 2), Rope.Style.HALF, null).layer(layer(1, a)).build(),
        "position is null");
    invalid(() -> propagate().slot(i32(2, 2)).layer(layer(1, a)).build(), "slot", "2", "1");
    invalid(() -> propagate().exitLayer(ints(0)).layer(layer(1, a)).build(), "exit_layer", "1");
    invalid(() -> propagate().modelLayers(0).layer(layer(1, a)).build(), "model_layers", "0");
  }

  @Test
  void propagateRunsRefuse() {
    KvCache cache = smallCache();
    KvPropagate.Layer layer = KvPropagate.Layer.of(
        1, null, f32(16, 4).copyFrom(new float[64]), f32(16, 4).copyFrom(new float[64]), cache);
    Tensor k = cache.k();
    refusedByTheRun(
        propagate().exitLayer(ints(0, 5)).layer(layer).build(scope), k, "exit_layer", "5", "4");
    refusedByTheRun(
        propagate().exitLayer(ints(-2, 0)).layer(layer).build(scope), k, "exit_layer", "-2");
    refusedByTheRun(propagate().slot(ints(0, 4)).layer(layer).build(scope), k, "slot", "4", "3");
    refusedByTheRun(
        propagate()
            .rope(f32(4, 4, 2).copyFrom(new float[32]), Rope.Style.HALF, ints(0, 4))
            .layer(layer)
            .build(scope),
        k, "position", "4", "3");
  }

  /** A row that ran all L layers is no mistake, whatever slot it names. */
  @Test
  void propagateOwesNothingAfterTheLastLayer() {
    KvCache cache = smallCache();
    float[] ones = new float[64];
    Arrays.fill(ones, 1);
    Tensor weight = f32(16, 4).copyFrom(ones);
    KvPropagate.Builder builder =
        propagate()
            .hidden(f32(2, 4).copyFrom(Arrays.copyOf(ones, 8)))
            .layer(KvPropagate.Layer.of(3, null, weight, weight, cache));
    builder.exitLayer(ints(4, -1)).slot(ints(77, 1)).build(scope).run();
    Stream.DEFAULT.synchronize();
    assertArrayEquals(new double[64], cache.k().toDoubleArray());
    assertArrayEquals(new double[64], cache.v().toDoubleArray());
    builder.exitLayer(ints(3, -1)).slot(ints(0, 1)).build(scope).run();
    Stream.DEFAULT.synchronize();
    assertEquals(4, cache.k().toDoubleArray()[0], "one layer less, and it owes that layer");
  }

  @Test
  void hiddenStack() {
    Tensor stack = f32(2, 4).copyFrom(new float[8]);
    Tensor count = ints(0);
    HiddenStack.Builder push = HiddenStack.push().stack(stack).count(count);
    invalid(() -> push.build(), "hidden_stack", "rows is null");
    invalid(() -> push.rows(f32(3, 5)).build(), "rows", "5 columns", "4");
    invalid(() -> push.rows(f16(3, 4)).build(), "rows", "f16", "f32");
    push.rows(f32(3, 4));
    invalid(() -> push.tags(null, i32(2, 3)).build(), "tags", "stack_tags is null");
    invalid(() -> push.tags(i32(2, 2), i32(1, 3)).build(), "tags", "1", "2");
    push.tags(null, null);
    invalid(() -> push.mask(f32(3)).build(), "mask", "f32", "u8");
    push.mask(null);
    invalid(() -> push.count(ints(0, 0)).build(), "count", "2", "1");
    push.count(count);
    invalid(()
                -> HiddenStack.clear().stack(stack).count(count).rows(f32(1, 4)).build(),
        "rows", "EXN_STACK_CLEAR");
    invalid(
        ()
            -> HiddenStack.gather()
                .stack(stack)
                .count(count)
                .rows(f32(2, 4))
                .mask(scope.allocate(DType.U8, 2))
                .build(),
        "mask", "EXN_STACK_PUSH");
    refusedByTheRun(push.rows(f32(3, 4)).build(scope), stack, "count", "3", "2");
    assertArrayEquals(new int[] {0}, count.toIntArray());
  }

  @Test
  void rowCompaction() {
    RowCompaction.Builder gather =
        RowCompaction.gather().input(f32(4, 3)).list(ints(0, 1)).out(f32(2, 3));
    invalid(() -> gather.out(f32(1, 3)).build(), "row_compaction", "out", "1", "2");
    invalid(() -> gather.out(f32(2, 4)).build(), "out", "4 columns", "3");
    invalid(() -> gather.out(f16(2, 3)).build(), "out", "f16", "f32");
    invalid(() -> gather.out(f32(2, 3)).list(f32(2)).build(), "list", "f32", "i32");
    invalid(()
                -> RowCompaction.scatter().input(f32(1, 3)).list(ints(0, 1)).out(f32(4, 3)).build(),
        "input", "1", "2");
    Tensor out = f32(2, 3).copyFrom(new float[6]);
    refusedByTheRun(RowCompaction.gather().input(f32(4, 3)).list(ints(0, 4)).out(out).build(scope),
        out, "list[1]", "4");
  }

  // ---- schedules --------------------------------------------------------------------------------

  @Test
  void layerSchedules() {
    invalid(()
                -> LayerSchedule.skipDecode(5, 5, 4, 2, 1).table(8, 4),
        "layer_schedule", "horizon", "5", "6");
    invalid(() -> LayerSchedule.skipDecode(0, 5, 5, 2, 1).table(8, 4), "most", "5", "4");
    invalid(() -> LayerSchedule.skipDecode(0, 5, 4, 2, 3).table(8, 4), "warm_up", "3", "2");
    invalid(() -> LayerSchedule.fixed().table(8, 4), "K", "0", "1");
    invalid(() -> LayerSchedule.fixed(1, 4).table(8, 4), "order", "4", "0..3");
    invalid(() -> LayerSchedule.fixed(1, 2, 1).table(8, 4), "order[2]", "1", "order[0]");
    invalid(() -> LayerSchedule.unified(0, 5).table(8, 4), "least", "5", "4");
    invalid(() -> LayerSchedule.calm(0, 0, 0).table(8, 4), "interval", "0", "1");
    for (float bad : new float[] {Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY}) {
      LayerSchedule.Builder calm =
          LayerSchedule.calm(0, 1, 0).threshold(bad, ExitRule.Decay.CALM_CODE, 0, 1, 4);
      invalid(() -> calm.table(8, 4), "start_threshold", "finite");
    }
    for (LayerSchedule.Builder other : List.of(LayerSchedule.skipDecode(2, 10, 8, 4, 1),
             LayerSchedule.unified(6, 3), LayerSchedule.fixed(0))) {
      LayerSchedule.Table before = other.table(12, 8);
      invalid(() -> other.threshold(.9f, ExitRule.Decay.NONE, 0, 5, 0), "thresholds", "CALM");
      LayerSchedule.Table after = other.table(12, 8);
      for (int t = 0; t < 12; t++) {
        assertArrayEquals(before.layers(t), after.layers(t));
      }
    }
    invalid(() -> LayerSchedule.calm(0, 1, 0).table(8, 0), "L", "0", "1");
    invalid(() -> LayerSchedule.fixed(0).table(1, (1 << 20) + 1), "L", "1048577", "1048576");
    invalid(() -> LayerSchedule.calm(0, 1, 0).table(-1, 4), "-1");
  }

  // ---- lifetimes --------------------------------------------------------------------------------

  @Test
  void everyLayersTensorsAreHeld() {
    Scope other = Scope.open();
    Tensor weight = other.allocate(DType.F32, 16, 4);
    KvPropagate.Layer foreign = KvPropagate.Layer.of(2, null, f32(16, 4), weight, smallCache());
    KvPropagate op =
        propagate()
            .exitLayer(ints(-1, -1))
            .layer(layer(1, smallCache()))
            .layer(foreign)
            .build(scope);
    op.run();
    Stream.DEFAULT.synchronize();
    other.close();
    refused(IllegalStateException.class, op::run, "scope is closed");
    refused(
        IllegalStateException.class, () -> propagate().layer(foreign).build(), "scope is closed");
  }

  @Test
  void closedCache() {
    Scope other = Scope.open();
    Tensor k = other.allocate(DType.F32, 2, 4, 8);
    KvCache cache = KvCache.ofHeadMajor(k, f32(2, 4, 8));
    KvAppend op = append(cache).build(scope);
    op.close();
    refused(IllegalStateException.class, op::run, "KvAppend is closed");
    other.close();
    refused(IllegalStateException.class, () -> append(cache).build(), "scope is closed");
    refused(IllegalStateException.class, () -> attention(cache).build(), "scope is closed");
  }

  @Test
  void schedulesThatTheHeapCannotHold() {
    LayerSchedule.Builder builder = LayerSchedule.fixed(0);
    invalid(() -> builder.table(4, Integer.MAX_VALUE), "4 positions", "2147483647", "536870911");
    invalid(() -> builder.table(Integer.MAX_VALUE, 0), "2147483647 positions", "536870911");
    invalid(() -> builder.table(-1, 4), "[-1, 4]", "negative");
    assertEquals(0, builder.table(0, 4).positions());
  }
}
