// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Refusals.invalid;
import static org.exeunt.tests.Refusals.refused;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import org.exeunt.AttentionScores;
import org.exeunt.Cosine;
import org.exeunt.CrossEntropy;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.ExitHead;
import org.exeunt.ExitRule;
import org.exeunt.FastV;
import org.exeunt.FfnSkipFit;
import org.exeunt.Gate;
import org.exeunt.KvCompact;
import org.exeunt.KvPropagate;
import org.exeunt.LayerSchedule;
import org.exeunt.PerpGrad;
import org.exeunt.Rope;
import org.exeunt.RowStats;
import org.exeunt.Scope;
import org.exeunt.Selection;
import org.exeunt.SnapKv;
import org.exeunt.StableMax;
import org.exeunt.Statistic;
import org.exeunt.Statistics;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/**
 * Wrong arguments: each message names the argument and both values. Nothing is written, nothing
 * crashes.
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

  private Cosine.Builder cosine(Tensor a, Tensor b, Tensor out) {
    return Cosine.builder().a(a).b(b).out(out);
  }

  @Test
  void wrongDtype() {
    Tensor half = scope.allocate(DType.F16, 2, 4);
    Tensor ints = scope.allocate(DType.I32, 2, 4);
    invalid(() -> cosine(f32(2, 4), half, f32(2)).build(), "cosine", "b", "f16", "a", "f32");
    invalid(() -> cosine(ints, ints, f32(2)).build(), "a", "i32", "f32 or f16 or bf16");
    invalid(() -> cosine(f32(2, 4), f32(2, 4), half.row(0)).build(), "out", "f16", "f32");
    invalid(()
                -> RowStats.compute(scope.allocate(DType.F64, 2, 4), Statistics.allocate(scope, 2)),
        "logits", "f64", "f32");
    Tensor labels = f32(2);
    invalid(()
                -> StableMax.crossEntropy().logits(f32(2, 4)).labels(labels).loss(f32(1)).build(),
        "labels", "f32", "i32 or i64");
    invalid(() -> StableMax.forward(f32(2, 4), half), "out", "f16", "f32");
  }

  @Test
  void wrongRank() {
    invalid(() -> cosine(f32(4), f32(2, 4), f32(2)).build(), "a", "rank 1", "expected 2");
    invalid(() -> cosine(f32(2, 4), f32(1, 2, 4), f32(2)).build(), "b", "rank 3", "expected 2");
    invalid(() -> cosine(f32(2, 4), f32(2, 4), f32(2, 1)).build(), "out", "rank 2", "expected 1");
  }

  @Test
  void wrongShape() {
    invalid(() -> cosine(f32(2, 4), f32(3, 4), f32(2)).build(), "b", "3 rows", "a", "2");
    invalid(() -> cosine(f32(2, 4), f32(2, 5), f32(2)).build(), "b", "5 columns", "a", "4");
    invalid(() -> cosine(f32(2, 4), f32(2, 4), f32(3)).build(), "out", "3", "2");
    invalid(
        () -> PerpGrad.compute(f32(2, 3), f32(3, 2), f32(2, 3)), "grad", "size 3", "weight has 2");
    invalid(
        ()
            -> ExitHead.builder()
                .hidden(f32(2, 8))
                .weight(f32(10, 9))
                .out(Statistics.allocate(scope, 2))
                .build(),
        "weight", "9", "8");
    invalid(()
                -> Gate.builder().features(f32(2, 8)).output(f32(3, 8), null).prob(f32(2)).build(),
        "out_weight", "3");
    invalid(
        ()
            -> ExitRule.builder()
                .score(f32(4))
                .state(scope.allocate(DType.I32, 4, 3))
                .jei(0)
                .build(),
        "state", "3", "4");
  }

  @Test
  void wrongStride() {
    Tensor everySecond = f32(2, 8).strided(new long[] {2, 4}, new long[] {8, 2});
    Tensor overlapping = f32(2, 8).strided(new long[] {2, 4}, new long[] {3, 1});
    invalid(
        () -> cosine(everySecond, f32(2, 4), f32(2)).build(), "a", "last stride 2", "expected 1");
    invalid(() -> StableMax.forward(f32(2, 4), overlapping), "out", "row stride 3", "at least 4");
    Tensor gaps = f32(4).strided(new long[] {2}, new long[] {2});
    invalid(() -> cosine(f32(2, 4), f32(2, 4), gaps).build(), "out", "stride 2", "needs 1");
  }

  @Test
  void wrongDevice() {
    Device other = Setup.cuda() ? Device.CPU : Device.cuda(0);
    Tensor elsewhere = Tensor.ofAddress(f32(2).address(), DType.F32, other, 2);
    invalid(() -> cosine(f32(2, 4), f32(2, 4), elsewhere).build(), "out", "cuda:0", "cpu:0");
  }

  @Test
  void wrongAlignment() {
    Tensor bytes = scope.allocate(DType.U8, 64);
    Tensor odd = bytes.reinterpret(DType.F32, 1, 2, 4);
    invalid(() -> cosine(odd, f32(2, 4), f32(2)).build(), "a", "0x", "4-byte");
  }

  @Test
  void missingArguments() {
    invalid(() -> cosine(null, f32(2, 4), f32(2)).build(), "a is null");
    invalid(() -> cosine(f32(2, 4), f32(2, 4), null).build(), "out is null");
    invalid(() -> RowStats.compute(f32(2, 4), null), "out", "0 outputs");
    invalid(() -> Gate.builder().build(), "features is null");
    invalid(()
                -> Tensor.ofAddress(0, DType.F32, Device.defaultDevice(), 2, 4)
                    .strided(new long[] {2}, new long[] {1, 1}),
        "2", "1");
    Tensor nowhere = Tensor.ofAddress(0, DType.F32, Device.defaultDevice(), 2, 4);
    invalid(() -> cosine(nowhere, f32(2, 4), f32(2)).build(), "a", "null", "8");
  }

  /** What is no tensor has no check in C behind it. */
  @Test
  void nullsAreNamed() {
    Tensor rows = f32(2, 4);
    invalid(() -> RowStats.builder().normalizer(null), "normalizer is null");
    invalid(() -> Rope.builder().table(rows, null), "style is null");
    invalid(() -> PerpGrad.builder().form(null), "form is null");
    invalid(() -> KvPropagate.builder().layer(null), "layer is null");
    invalid(() -> KvPropagate.builder().layers(Arrays.asList(null, null)), "layers[0] is null");
    invalid(() -> KvCompact.builder().select(null), "selection is null");
    invalid(() -> LayerSchedule.fixed((int[]) null), "order is null");
    invalid(() -> Statistics.allocate(null, 2), "scope is null");
    invalid(() -> Statistics.allocate(scope, 2).get(null), "statistic is null");
    invalid(() -> AttentionScores.builder().pool(null, 3), "pool is null");
    invalid(() -> SnapKv.standard().withPooling(null, 3), "how is null");
    invalid(() -> FastV.standard().choose(scope, Stream.DEFAULT, null, 0, 1), "prompt is null");
    invalid(() -> new FfnSkipFit(2).add(0, (float[]) null), "values is null");
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
    invalid(() -> Selection.allocate(scope, Device.CPU, 1L << 62, 0), "more bytes than a long");
    invalid(() -> scope.copyOf(new float[3], 2, 2), "3 given", "4");
    invalid(() -> scope.copyOf(new int[3], 2, 2), "3 given", "4");
    invalid(() -> scope.copyOf(DType.U8, new float[] {1, 300}, 2), "element 1 is 300", "U8");
    assertEquals(before, scope.allocatedBytes());
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
  void wrongValues() {
    Statistics out = Statistics.allocate(scope, 2);
    invalid(()
                -> RowStats.builder().logits(f32(2, 4)).temperature(0).out(out).build(),
        "temperature", "0");
    invalid(()
                -> RowStats.builder().logits(f32(2, 4)).softcap(Float.NaN).out(out).build(),
        "softcap", "nan");
    Tensor state = ExitRule.allocateState(scope, Device.defaultDevice(), 2);
    invalid(
        ()
            -> ExitRule.builder()
                .score(f32(2))
                .state(state)
                .threshold(ExitRule.Comparator.GE, Float.NaN)
                .build(),
        "threshold", "NaN");
    invalid(
        ()
            -> ExitRule.builder()
                .score(f32(2))
                .state(state)
                .threshold(ExitRule.Comparator.LE, Float.POSITIVE_INFINITY)
                .decay(ExitRule.Decay.CALM_CODE, 4, 8)
                .build(),
        "threshold", "finite");
    invalid(() -> ExitRule.builder().score(f32(2)).state(state).build(), "jei", "is missing");
    invalid(()
                -> ExitRule.builder().score(f32(2)).state(state).patience(-1).build(),
        "patience", "-1", "0");
  }

  @Test
  void overlap() {
    Tensor memory = f32(12);
    Tensor logits = memory.reinterpret(DType.F32, 0, 2, 4);
    Tensor shifted = memory.reinterpret(DType.F32, 16, 2, 4);
    invalid(() -> StableMax.forward(logits, shifted), "out", "logits", "overlaps");
  }

  @Test
  void emptyVocabularyIsRefusedAndEmptyBatchIsNot() {
    invalid(() -> RowStats.compute(f32(2, 0), Statistics.allocate(scope, 2)), "V", "0", "1");
    invalid(() -> cosine(f32(2, 0), f32(2, 0), f32(2)).build(), "D", "0", "1");
    invalid(() -> StableMax.forward(f32(2, 0), f32(2, 0)), "V", "0", "1");
    Tensor labels = scope.copyOf(new int[] {0, 0}, 2);
    invalid(()
                -> StableMax.crossEntropy().logits(f32(2, 0)).labels(labels).loss(f32(1)).build(),
        "V", "0", "1");
    RowStats.compute(f32(0, 4), Statistics.allocate(scope, 0));
    cosine(f32(0, 4), f32(0, 4), f32(0)).runOnce();
    StableMax.forward(f32(0, 4), f32(0, 4));
    PerpGrad.compute(f32(0), f32(0), f32(0));
    Stream.DEFAULT.synchronize();
  }

  @Test
  void labelOutOfRange() {
    Tensor logits = scope.copyOf(new float[] {1, 2, 3, 4, 5, 6}, 2, 3);
    Tensor labels = scope.copyOf(new int[] {0, 3}, 2);
    Tensor loss = scope.copyOf(new float[] {7, 7}, 2);
    CrossEntropy op =
        CrossEntropy.builder()
            .logits(logits)
            .labels(labels)
            .loss(loss)
            .reduction(CrossEntropy.Reduction.NONE)
            .build(scope);
    if (Setup.cuda()) {
      op.run();
      Stream.DEFAULT.synchronize();
      assertTrue(Float.isFinite(loss.toFloatArray()[0]));
      assertTrue(Float.isNaN(loss.toFloatArray()[1]));
    } else {
      invalid(op::run, "labels", "3", "2");
      assertArrayEquals(new float[] {7, 7}, loss.toFloatArray(), "a refused run wrote");
    }
  }

  /** A kernel on a device leaves out what it cannot refuse. */
  @Test
  void shortlistOutOfRange() {
    Statistics out = Statistics.allocate(scope, 1, Statistic.LSE);
    out.lse().copyFrom(new float[] {7});
    ExitHead head =
        ExitHead.builder()
            .hidden(f32(1, 2))
            .weight(f32(3, 2))
            .shortlist(scope.copyOf(new int[] {0, 3}, 2))
            .out(out)
            .build(scope);
    if (!Setup.cuda()) {
      invalid(head::run, "shortlist", "3", "2");
      assertArrayEquals(new float[] {7}, out.lse().toFloatArray(), "a refused run wrote");
    }
  }

  @Test
  void aRefusedStepIsForgotten() {
    ExitRule rule =
        ExitRule.builder()
            .score(scope.copyOf(new float[] {.5f}, 1))
            .state(ExitRule.allocateState(scope, Device.defaultDevice(), 1))
            .exitMask(scope.allocate(DType.U8, 1))
            .threshold(ExitRule.Comparator.GE, .9f)
            .decay(ExitRule.Decay.CALM_PAPER, 4, 128)
            .stepIndex(64)
            .build(scope);
    invalid(() -> rule.run(Stream.DEFAULT, 0, true, false, -1), "step_index", "-1");
    rule.run(0, true, false);
    Stream.DEFAULT.synchronize();
  }

  @Test
  void invalidRowsDoNotTouchTheOthers() {
    float inf = Float.POSITIVE_INFINITY;
    Tensor logits =
        scope.copyOf(new float[] {Float.NaN, 0, 1, -inf, -inf, -inf, inf, 0, 1, -inf, 2, 0}, 4, 3);
    Statistics out = Statistics.allocate(scope, 4, Statistic.ARGMAX, Statistic.P1, Statistic.VALID);
    RowStats.compute(logits, out);
    Stream.DEFAULT.synchronize();
    assertArrayEquals(new int[] {-1, -1, -1, 1}, out.argmax().toIntArray());
    assertArrayEquals(new int[] {0, 0, 0, 1}, out.valid().toIntArray());
    float[] p1 = out.p1().toFloatArray();
    assertTrue(Float.isNaN(p1[0]) && Float.isNaN(p1[1]) && Float.isNaN(p1[2]));
    assertEquals(1 / (1 + Math.exp(-2)), p1[3], 1e-6);
  }

  @Test
  void closedScope() {
    Scope other = Scope.open();
    Tensor a = other.allocate(DType.F32, 2, 4);
    Cosine op = cosine(a, a, f32(2)).build(scope);
    op.run();
    other.close();
    refused(IllegalStateException.class, op::run, "scope is closed");
    refused(IllegalStateException.class, () -> cosine(a, a, f32(2)).build(), "scope is closed");
    refused(IllegalStateException.class, a::toFloatArray, "scope is closed");
    refused(IllegalStateException.class, () -> a.copyFrom(new float[8]), "scope is closed");
    refused(IllegalStateException.class, () -> other.allocate(DType.F32, 1), "scope is closed");
    other.close();
  }

  @Test
  void closedOpAndStream() {
    Cosine op = cosine(f32(2, 4), f32(2, 4), f32(2)).build();
    op.close();
    refused(IllegalStateException.class, op::run, "Cosine is closed");
    op.close();
    Stream stream = Stream.create(Device.defaultDevice());
    stream.synchronize();
    stream.close();
    refused(IllegalStateException.class,
        () -> cosine(f32(2, 4), f32(2, 4), f32(2)).runOnce(stream), "stream is closed");
    stream.close();
  }
}
