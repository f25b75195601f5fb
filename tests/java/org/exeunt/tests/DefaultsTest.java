// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.Arrays;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Consumer;
import org.exeunt.Attention;
import org.exeunt.AttentionScores;
import org.exeunt.Cosine;
import org.exeunt.CrossEntropy;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Elr;
import org.exeunt.Embedding;
import org.exeunt.ExitHead;
import org.exeunt.ExitRule;
import org.exeunt.Ffn;
import org.exeunt.FfnSkipRule;
import org.exeunt.Gate;
import org.exeunt.Gather;
import org.exeunt.HiredBudget;
import org.exeunt.KvCache;
import org.exeunt.KvPropagate;
import org.exeunt.LayerSchedule;
import org.exeunt.Linear;
import org.exeunt.Norm;
import org.exeunt.Op;
import org.exeunt.PerpGrad;
import org.exeunt.PruneApply;
import org.exeunt.PruneMask;
import org.exeunt.Rope;
import org.exeunt.RopeTable;
import org.exeunt.RowStats;
import org.exeunt.Scope;
import org.exeunt.Select;
import org.exeunt.Selection;
import org.exeunt.StableMax;
import org.exeunt.Statistics;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.Verify;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/** The defaults of builders, and shortcuts: the same as setting the values. */
@Tag("kernels")
@ExtendWith(ForcedPath.class)
class DefaultsTest {
  private final Scope scope = Scope.open();
  private final KvCache cache = KvCache.ofHeadMajor(numbers(2, 3, 4), numbers(2, 3, 4));

  @AfterEach
  void close() {
    scope.close();
  }

  /** Of both signs, and all different. */
  private Tensor numbers(long... shape) {
    Tensor tensor = scope.allocate(DType.F32, shape);
    float[] values = new float[(int) tensor.elements()];
    for (int i = 0; i < values.length; i++) {
      values[i] = (i * 5 % 7 - 3) / 4f + i / 64f;
    }
    return tensor.copyFrom(values);
  }

  private Tensor i32(long... shape) {
    Tensor tensor = scope.allocate(DType.I32, shape);
    return tensor.copyFrom(new int[(int) tensor.elements()]);
  }

  private Tensor ints(int... values) {
    return scope.copyOf(values, values.length);
  }

  /** The numbers of the params struct that are not 0. */
  private static void assertSays(String numbers, String op, Op.Builder<?> builder) {
    try (Op built = builder.build()) {
      Map<String, Object> said = new TreeMap<>(FacadeTest.contents(built, op));
      said.values().removeIf(value -> !(value instanceof Number n) || n.doubleValue() == 0);
      assertEquals("{" + numbers + "}", said.toString());
    }
  }

  @Test
  void ofBuilders() {
    assertSays("scale=0.5", "attention",
        Attention.builder()
            .query(numbers(2, 2, 4))
            .cache(cache)
            .visible(ints(1, 2))
            .out(numbers(2, 2, 4)));
    Tensor logits = numbers(2, 5);
    assertSays("ignore_index=-100, reduction=1", "cross_entropy",
        CrossEntropy.builder().logits(logits).labels(ints(0, 1)).loss(numbers(1)));
    assertSays("ignore_index=-100, normalizer=1, reduction=1", "cross_entropy",
        StableMax.crossEntropy().logits(logits).labels(ints(0, 1)).loss(numbers(1)));
    assertSays("beta=0.7, ignore_index=-100, lambda=3.0, reduction=1", "elr",
        Elr.builder().logits(logits).labels(ints(0, 1)).index(ints(0, 1)).targets(numbers(2, 5)));
    Statistics out = Statistics.allocate(scope, 2);
    assertSays("temperature=1.0", "exit_head",
        ExitHead.builder().hidden(numbers(2, 4)).weight(numbers(5, 4)).out(out));
    assertSays("temperature=1.0", "row_stats", RowStats.builder().logits(logits).out(out));
    assertSays("decay_horizon=1.0, rule=3", "exit_rule",
        ExitRule.builder().score(numbers(2)).state(i32(2, ExitRule.STATE_WORDS)).jei(0));
    assertSays("", "ffn",
        Ffn.builder()
            .hidden(numbers(2, 4))
            .up(numbers(6, 4), null)
            .down(numbers(4, 6), null)
            .out(numbers(2, 4)));
    assertSays("budget=-1, layer=-1, model_layers=1", "ffn_skip_rule",
        FfnSkipRule.builder()
            .state(i32(2, FfnSkipRule.STATE_WORDS))
            .skip(scope.allocate(DType.U8, 2))
            .modelLayers(1)
            .coldLayers(0, 0)
            .warmUp(0)
            .threshold(0));
    assertSays("", "gate",
        Gate.builder().features(numbers(2, 4)).output(numbers(1, 4), null).prob(numbers(2)));
    assertSays("rows=4, tensor_count=1", "gather",
        Gather.builder().list(ints(1)).tensor(numbers(4, 3), numbers(1, 3)));
    assertSays("capacity=3", "kv_length", cache.advance().length(ints(0)).slot(ints(0)));
    assertSays("layer_count=1, layers[0].index=1, model_layers=2, rope_style=1", "kv_propagate",
        KvPropagate.builder()
            .hidden(numbers(2, 4))
            .exitLayer(ints(0, 0))
            .slot(ints(0, 1))
            .modelLayers(2)
            .layer(KvPropagate.Layer.of(1, null, numbers(8, 4), numbers(8, 4), cache)));
    assertSays("", "norm", Norm.builder().input(logits).out(numbers(2, 5)));
    assertSays(
        "", "perp_grad", PerpGrad.builder().weight(numbers(2)).grad(numbers(2)).out(numbers(2)));
    Tensor mask = scope.allocate(DType.U8, 2, 5);
    assertSays(
        "first=1, scope=1, tensor_count=1", "prune_mask", PruneMask.builder().tensor(logits, mask));
    assertSays("tensor_count=1", "prune_apply", PruneApply.builder().tensor(mask, numbers(2, 5)));
    assertSays(
        "base=10000.0, factor=1.0", "rope_table", RopeTable.builder().table(numbers(4, 2, 2)));
    assertSays("heads=1, selection.k=3", "select",
        Select.builder().scores(logits).select(Selection.allocate(scope, 2, 3)));
    assertSays("normalizer=1", "stablemax", StableMax.forward().logits(logits).out(numbers(2, 5)));
    assertSays("log=1, normalizer=1", "stablemax",
        StableMax.logForward().logits(logits).out(numbers(2, 5)));
    assertSays("", "verify",
        Verify.builder().drafted(i32(1, 2)).argmax(i32(3)).accepted(i32(1)).token(i32(1)));
  }

  @Test
  void ofWaysToScore() {
    assertSays("columns=3, kind=1, scale=0.5, window=1", "attention_scores",
        scored(AttentionScores.builder(), 1, 2, 3));
    assertSays("columns=2, first=1, kind=1, reduction=1, scale=0.5, window=1", "attention_scores",
        scored(AttentionScores.hired(), 1, 1, 2));
    assertSays("columns=3, pool=1, pool_width=5, reduction=2, scale=0.5, window=1",
        "attention_scores", scored(AttentionScores.promptDistill(), 1, 1, 3));
    assertSays("columns=3, pool=1, pool_width=5, reduction=1, scale=1.0, window=1",
        "attention_scores", scored(AttentionScores.gemFilter(), 1, 1, 3));
    assertSays("columns=3, kind=1, pool=1, pool_width=5, scale=0.5, window=2", "attention_scores",
        scored(AttentionScores.snapKv(2), 2, 2, 3));
    assertSays("accumulate=1, columns=3, kind=1, scale=0.5, window=2", "attention_scores",
        scored(AttentionScores.heavyHitters(2), 2, 2, 3));
    assertSays("columns=3, kind=1, reduction=2, scale=0.5, window=1", "attention_scores",
        scored(AttentionScores.fastV(), 1, 1, 3));
  }

  private AttentionScores.Builder scored(
      AttentionScores.Builder builder, int rows, int heads, int columns) {
    return builder.query(numbers(rows, 2, 4))
        .keys(cache)
        .visible(i32(rows))
        .scores(numbers(1, heads, columns));
  }

  /** Without scores the columns are the slots after the first. */
  @Test
  void ofColumnsThatAreOnlySelected() {
    assertSays("columns=2, first=1, kind=1, reduction=1, scale=0.5, selection.k=1, window=1",
        "attention_scores",
        scored(AttentionScores.hired(), 1, 1, 2)
            .scores(null)
            .select(Selection.allocate(scope, 1, 1)));
  }

  @Test
  void ofHiredBudgets() {
    assertSays("alpha=0.5, grid_cols=1, grid_rows=2, patch_cols=1, patch_rows=4, rate=0.2",
        "hired_budget", budget(HiredBudget.builder()));
    assertSays(
        "alpha=0.5, grid_cols=1, grid_rows=2, patch_cols=1, patch_rows=4, rate=0.2, region=1, score=1",
        "hired_budget", budget(HiredBudget.asInCode()));
  }

  private HiredBudget.Builder budget(HiredBudget.Builder builder) {
    return builder.attention(numbers(1, 4))
        .budget(scope.allocate(DType.I32, 1, 3))
        .patches(4, 1)
        .grid(2, 1);
  }

  // ---- shortcuts --------------------------------------------------------------------------------

  private void assertSame(Consumer<Tensor> shortcut, Consumer<Tensor> builder, long... shape) {
    Tensor found = numbers(shape);
    Tensor expected = numbers(shape);
    shortcut.accept(found);
    builder.accept(expected);
    Stream.DEFAULT.synchronize();
    assertArrayEquals(expected.toFloatArray(), found.toFloatArray());
  }

  @Test
  void computeAtOnce() {
    Tensor a = numbers(2, 4);
    Tensor b = numbers(3, 4);
    Tensor rows = b.rows(1, 3);
    assertSame(out
        -> Cosine.compute(a, rows, out),
        out -> Cosine.builder().a(a).b(rows).out(out).runOnce(), 2);
    assertSame(out
        -> Linear.compute(a, b, out),
        out -> Linear.builder().input(a).weight(b).out(out).runOnce(), 2, 3);
    assertSame(out
        -> PerpGrad.compute(a, rows, out),
        out -> PerpGrad.builder().weight(a).grad(rows).out(out).runOnce(), 2, 4);
    assertSame(out
        -> StableMax.forward(a, out),
        out -> StableMax.forward().logits(a).out(out).runOnce(), 2, 4);
    assertSame(out
        -> StableMax.logForward(a, out),
        out -> StableMax.logForward().logits(a).out(out).runOnce(), 2, 4);
    assertSame(out
        -> Gather.compute(b, ints(2, 0), out),
        out -> Gather.builder().list(ints(2, 0)).tensor(b, out).runOnce(), 2, 4);
    assertSame(out
        -> Embedding.compute(b, ints(2, 0), out),
        out -> Embedding.builder().table(b).ids(ints(2, 0)).out(out).scale(1).runOnce(), 2, 4);
    assertSame(out
        -> RowStats.compute(a, lse(out)),
        out -> RowStats.builder().logits(a).out(lse(out)).runOnce(), 2);
    assertSame(out
        -> ExitHead.compute(a, a.row(0), .5f, b, lse(out)),
        out
        -> ExitHead.builder().hidden(a).rmsNorm(a.row(0), .5f).weight(b).out(lse(out)).runOnce(),
        2);
    assertSame(out
        -> Select.compute(a, 2, out.reinterpret(DType.I32, 0, 2, 3)),
        out
        -> Select.builder()
            .scores(a)
            .select(Selection.top(2, out.reinterpret(DType.I32, 0, 2, 3)))
            .runOnce(),
        2, 3);
    Tensor table = Rope.table(scope, Device.defaultDevice(), 3, 4, 500);
    assertSame(out
        -> out.copyFrom(table, Stream.DEFAULT),
        out -> RopeTable.builder().table(out).base(500).runOnce(), 3, 2, 2);
  }

  private static Statistics lse(Tensor out) {
    return new Statistics(null, null, out, null, null, null, null, null, null, null, null, null);
  }

  /** The table of a schedule holds what its tensors get. */
  @Test
  void tableOfASchedule() {
    LayerSchedule.Builder builder =
        LayerSchedule.calm(1, 2, 1).threshold(.9f, ExitRule.Decay.CALM_PAPER, 2, 5, 4);
    int positions = 4;
    int layers = 3;
    Tensor lists = scope.allocate(Device.CPU, DType.I32, positions, layers);
    Tensor counts = scope.allocate(Device.CPU, DType.I32, positions);
    Tensor tests = scope.allocate(Device.CPU, DType.U8, positions, layers);
    Tensor thresholds = scope.allocate(Device.CPU, DType.F32, positions);
    LayerSchedule.Table table = builder.table(positions, layers);
    builder.layers(lists).count(counts).exitTest(tests).threshold(thresholds).runOnce();
    assertEquals(positions, table.positions());
    for (int t = 0; t < positions; t++) {
      int count = counts.toIntArray()[t];
      assertEquals(count, table.count(t));
      assertArrayEquals(Arrays.copyOf(lists.row(t).toIntArray(), count), table.layers(t));
      assertEquals(thresholds.toFloatArray()[t], table.threshold(t));
      for (int layer = 0; layer < layers; layer++) {
        assertEquals(tests.row(t).toIntArray()[layer] != 0, table.exitTest(t, layer));
      }
    }
  }
}
