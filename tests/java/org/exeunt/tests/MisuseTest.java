// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Refusals.invalid;
import static org.exeunt.tests.Refusals.refused;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import org.exeunt.Attention;
import org.exeunt.AttentionScores;
import org.exeunt.Cosine;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.ExitRule;
import org.exeunt.FastV;
import org.exeunt.FfnSkipFit;
import org.exeunt.FfnSkipRule;
import org.exeunt.Gather;
import org.exeunt.Hired;
import org.exeunt.KvAppend;
import org.exeunt.KvCache;
import org.exeunt.KvCompact;
import org.exeunt.KvCopy;
import org.exeunt.KvPropagate;
import org.exeunt.LayerSchedule;
import org.exeunt.PerpGrad;
import org.exeunt.PruneMask;
import org.exeunt.Rope;
import org.exeunt.RowStats;
import org.exeunt.Scope;
import org.exeunt.Selection;
import org.exeunt.SnapKv;
import org.exeunt.Statistic;
import org.exeunt.Statistics;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/**
 * What the facade refuses by itself; {@link RefusalTest} has what the C call refuses. Each message
 * names the argument and the values that disagree.
 */
@Tag("kernels")
@ExtendWith(ForcedPath.class)
class MisuseTest {
  private final Scope scope = Scope.open();

  @AfterEach
  void close() {
    scope.close();
  }

  private Tensor f32(long... shape) {
    return scope.allocate(DType.F32, shape);
  }

  private Tensor i32(long... shape) {
    return scope.allocate(DType.I32, shape);
  }

  // ---- arguments that are not there -------------------------------------------------------------

  /** What is no tensor is not checked in C. */
  @Test
  void nullsAreNamed() {
    Tensor rows = f32(2, 4);
    invalid(() -> RowStats.builder().normalizer(null), "normalizer is null");
    invalid(() -> Rope.builder().table(rows, null), "style is null");
    invalid(() -> PerpGrad.builder().form(null), "form is null");
    invalid(() -> PruneMask.builder().among(null), "among is null");
    invalid(() -> PruneMask.builder().which(null), "which is null");
    invalid(() -> PruneMask.builder().rounding(null), "rounding is null");
    invalid(() -> KvPropagate.builder().layer(null), "layer is null");
    invalid(() -> KvPropagate.builder().layers(Arrays.asList(null, null)), "layers[0] is null");
    invalid(() -> KvCompact.builder().select(null), "selection is null");
    invalid(() -> LayerSchedule.fixed((int[]) null), "order is null");
    invalid(() -> KvCache.ofTokenMajor(null, f32(4, 2, 3)), "k: null");
    invalid(() -> Statistics.allocate(null, 2), "scope is null");
    invalid(() -> Statistics.allocate(scope, 2).get(null), "statistic is null");
    invalid(() -> AttentionScores.builder().pool(null, 3), "pool is null");
    invalid(() -> SnapKv.standard().withPooling(null, 3), "how is null");
    invalid(() -> FastV.standard().choose(scope, Stream.DEFAULT, null, 0, 1), "prompt is null");
    invalid(() -> new FfnSkipFit(2).add(0, (float[]) null), "values is null");
  }

  @Test
  void whatIsNotGivenIsNamed() {
    Tensor state = ExitRule.allocateState(scope, Device.defaultDevice(), 2);
    invalid(() -> ExitRule.builder().score(f32(2)).state(state).build(), "jei", "is missing");
    FfnSkipRule.Builder rule = FfnSkipRule.builder();
    invalid(rule::build, "modelLayers is missing");
    invalid(rule.modelLayers(4)::build, "coldLayers is missing");
    invalid(rule.coldLayers(1, 3)::build, "warmUp is missing");
    invalid(rule.warmUp(0)::build, "threshold is missing");
    invalid(() -> RowStats.compute(f32(2, 4), null), "out", "0 outputs");
    invalid(() -> Attention.builder().query(f32(2, 4, 8)).build(), "cache.k is null");
    invalid(() -> AttentionScores.builder().query(f32(2, 4, 8)).build(), "keys.k is null");
    invalid(() -> KvAppend.builder().k(f32(2, 2, 8)).build(), "cache.k is null");
    invalid(() -> KvCopy.builder().build(), "destination.k is null");
    invalid(() -> KvCompact.builder().build(), "destination.k is null");
    KvCache cache = KvCache.ofHeadMajor(f32(2, 2, 4, 8), f32(2, 2, 4, 8));
    invalid(() -> KvCompact.builder().destination(cache).build(), "source.k is null");
  }

  @Test
  void moreThanAnOpTakes() {
    Gather.Builder gather = Gather.builder().list(i32(2));
    for (int i = 0; i <= Gather.MAX_TENSORS; i++) {
      gather.tensor(f32(4, 3), f32(2, 3));
    }
    invalid(gather::build, "tensor_count", "9", "0..8");
    KvCache cache = KvCache.ofHeadMajor(f32(2, 4, 8), f32(2, 4, 8));
    KvPropagate.Layer layer = KvPropagate.Layer.of(1, null, f32(16, 4), f32(16, 4), cache);
    KvPropagate.Builder propagate = KvPropagate.builder().hidden(f32(2, 4)).exitLayer(i32(2));
    for (int layers : new int[] {0, KvPropagate.MAX_LAYERS + 1}) {
      propagate.layers(Collections.nCopies(layers, layer));
      invalid(propagate::build, "layer_count", Integer.toString(layers), "1..128");
    }
  }

  // ---- descriptions, tables and tensors --------------------------------------------------------

  @Test
  void describedCaches() {
    invalid(() -> KvCache.ofHeadMajor(f32(4, 2), f32(4, 2)), "k", "rank 2", "3 or 4");
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
    KvCache heads =
        KvCache.contiguous(scope, device, DType.BF16, KvCache.Layout.HEAD_MAJOR, 2, 3, 5, 8);
    assertEquals(List.of(2L, 3L, 5L, 8L), extents(heads));
    assertEquals(
        List.of(1L, 3L, 5L, 8L), extents(KvCache.ofTokenMajor(f32(5, 3, 8), f32(5, 3, 8))));
    KvCache pages = KvCache.paged(scope, DType.F16, 7, 4, 3, 8, i32(2, 3));
    assertEquals(List.of(2L, 3L, 12L, 8L), extents(pages));
    assertEquals(DType.F16, pages.dtype());
    assertTrue(pages.toString().contains("PAGED cache of 2 sequence(s), 12 slots"));
  }

  @Test
  void thresholdsAreForCalmAlone() {
    for (LayerSchedule.Builder other : List.of(LayerSchedule.skipDecode(2, 10, 8, 4, 1),
             LayerSchedule.unified(6, 3), LayerSchedule.fixed(0))) {
      int[] before = other.table(12, 8).layers(11);
      invalid(() -> other.threshold(.9f, ExitRule.Decay.NONE, 0, 5, 0), "thresholds", "CALM");
      assertArrayEquals(before, other.table(12, 8).layers(11));
    }
  }

  @Test
  void schedulesThatTheHeapCannotHold() {
    LayerSchedule.Builder builder = LayerSchedule.fixed(0);
    invalid(() -> builder.table(4, Integer.MAX_VALUE), "4 positions", "2147483647", "536870911");
    invalid(() -> builder.table(Integer.MAX_VALUE, 0), "2147483647 positions", "536870911");
    invalid(() -> builder.table(-1, 4), "[-1, 4]", "negative");
    assertEquals(0, builder.table(0, 4).positions());
  }

  @Test
  void positionsBeyondASchedule() {
    LayerSchedule.Table table = LayerSchedule.unified(0, 2).table(3, 4);
    for (int position : new int[] {-1, 3, Integer.MAX_VALUE}) {
      refused(IndexOutOfBoundsException.class,
          () -> table.count(position), "position " + position, "3 positions");
    }
    refused(IndexOutOfBoundsException.class, () -> table.layers(3), "position 3");
    refused(IndexOutOfBoundsException.class, () -> table.threshold(3), "position 3");
    refused(IndexOutOfBoundsException.class, () -> table.exitTest(2, 4), "layer 4", "4 layers");
  }

  @Test
  void hiredGrids() {
    invalid(() -> new Hired.Grid(0, 24, 1, 1), "patches are 0 x 24", "at least 1 x 1");
    invalid(() -> new Hired.Grid(24, 24, -1, 2), "grid is -1 x 2", "at least 0 x 0");
    invalid(() -> new Hired.Grid(1 << 16, 1 << 16, 1, 1), "patches are 65536 x 65536");
    invalid(() -> new Hired.Grid(1, 1, 1 << 16, 1 << 15), "grid is 65536 x 32768", "2147483647");
    assertEquals(1, new Hired.Grid(24, 24, 3, 0).partitions());
  }

  @Test
  void aTensorNowhereHasNoBuffer() {
    Tensor nowhere = Tensor.ofAddress(0, DType.F32, Device.CPU, 2);
    refused(IllegalStateException.class, nowhere::floatBuffer, "8 bytes", "address 0");
  }

  @Test
  void anIntThatIsNone() {
    Tensor longs = scope.allocate(DType.I64, 2).copyFrom(new double[] {7, 1L << 40});
    refused(UnsupportedOperationException.class, longs::toIntArray, "element 1 is " + (1L << 40),
        "int");
  }

  /** What a refused call had allocated before goes back. */
  @Test
  void refusalsLeaveNothingInAScope() {
    long before = scope.allocatedBytes();
    invalid(() -> Statistics.allocate(scope, 2, Statistic.P1, null), "element of which is null");
    refused(OutOfMemoryError.class,
        ()
            -> Statistics.allocate(scope, Device.CPU, 1L << 58, Statistic.VALID, Statistic.P1),
        Long.toString(1L << 60));
    invalid(() -> Rope.table(scope, Device.defaultDevice(), 3, 4, Double.NaN), "base", "nan");
    invalid(() -> Rope.table(scope, Device.defaultDevice(), 4, 7, 10000), "rotated", "7");
    invalid(() -> Selection.allocate(scope, Device.CPU, 1L << 62, 0), "more bytes than a long");
    invalid(() -> scope.copyOf(new float[3], 2, 2), "3 given", "4");
    invalid(() -> scope.copyOf(new int[3], 2, 2), "3 given", "4");
    invalid(() -> scope.copyOf(DType.U8, new float[] {1, 300}, 2), "element 1 is 300", "U8");
    assertEquals(before, scope.allocatedBytes());
  }

  private static List<Long> extents(KvCache cache) {
    return List.of(cache.sequences(), cache.heads(), cache.capacity(), cache.headDim());
  }

  // ---- what was closed -------------------------------------------------------------------------

  @Test
  void closedScope() {
    Scope other = Scope.open();
    Tensor a = other.allocate(DType.F32, 2, 4);
    other.close();
    refused(IllegalStateException.class, a::toFloatArray, "scope is closed");
    refused(IllegalStateException.class, () -> a.copyFrom(new float[8]), "scope is closed");
    refused(IllegalStateException.class, () -> other.allocate(DType.F32, 1), "scope is closed");
    other.close();
  }

  @Test
  void closedOpAndStream() {
    Cosine.Builder builder = Cosine.builder().a(f32(2, 4)).b(f32(2, 4)).out(f32(2));
    Cosine op = builder.build();
    op.close();
    refused(IllegalStateException.class, op::run, "Cosine is closed");
    op.close();
    Stream stream = Stream.create(Device.defaultDevice());
    stream.synchronize();
    stream.close();
    refused(IllegalStateException.class, () -> builder.runOnce(stream), "stream is closed");
    stream.close();
  }
}
