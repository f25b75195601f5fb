// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Refusals.invalid;
import static org.exeunt.tests.Refusals.refused;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.Arrays;
import java.util.stream.IntStream;
import org.exeunt.AttentionScores;
import org.exeunt.AttentionScores.Heads;
import org.exeunt.AttentionScores.Pool;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Gather;
import org.exeunt.Hired;
import org.exeunt.HiredBudget;
import org.exeunt.HiredBudget.Region;
import org.exeunt.HiredBudget.Score;
import org.exeunt.KvCache;
import org.exeunt.KvCompact;
import org.exeunt.Op;
import org.exeunt.Scope;
import org.exeunt.Select;
import org.exeunt.Selection;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/**
 * Wrong arguments of the ops that drop tokens: each message names the argument and the values that
 * disagree. Where a run finds what a build cannot see, nothing was written.
 */
@Tag("kernels")
@ExtendWith(ForcedPath.class)
class DropMisuseTest {
  private final Scope scope = Scope.open();

  @AfterEach
  void close() {
    scope.close();
  }

  /** Zeros. */
  private Tensor f32(long... shape) {
    return scope.allocate(DType.F32, shape).copyFrom(new float[(int) elements(shape)]);
  }

  private Tensor f16(long... shape) {
    return scope.allocate(DType.F16, shape);
  }

  private Tensor i32(long... shape) {
    return scope.allocate(DType.I32, shape).copyFrom(new int[(int) elements(shape)]);
  }

  private Tensor u8(long... shape) {
    return scope.allocate(DType.U8, shape).copyFrom(new int[(int) elements(shape)]);
  }

  private static long elements(long... shape) {
    return Arrays.stream(shape).reduce(1, (a, b) -> a * b);
  }

  private Tensor ints(int... values) {
    return scope.copyOf(values, values.length);
  }

  /** Ranges of columns, from begins and ends in turn. */
  private Tensor ranges(int... ends) {
    return scope.copyOf(ends, ends.length / 2, 2);
  }

  private KvCache cache(DType dtype, long sequences, long heads, long slots, long dim) {
    Device device = Device.defaultDevice();
    KvCache.Layout layout = KvCache.Layout.HEAD_MAJOR;
    KvCache cache = KvCache.contiguous(scope, device, dtype, layout, sequences, heads, slots, dim);
    cache.k().copyFrom(new float[(int) cache.k().elements()]);
    cache.v().copyFrom(new float[(int) cache.v().elements()]);
    return cache;
  }

  private KvCache pages(int pages, Tensor table) {
    KvCache cache = KvCache.paged(scope, DType.F32, pages, 2, 2, 8, table);
    cache.k().copyFrom(new float[(int) cache.k().elements()]);
    cache.v().copyFrom(new float[(int) cache.v().elements()]);
    return cache;
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

  // ---- select -----------------------------------------------------------------------------------

  private Select.Builder select(Selection selection) {
    return Select.builder().scores(f32(2, 5)).select(selection);
  }

  private Selection two() {
    return Selection.top(2, i32(2, 3));
  }

  @Test
  void selectedScores() {
    Select.Builder builder = select(two());
    invalid(() -> builder.scores(null).build(), "select", "scores is null");
    invalid(() -> builder.scores(i32(2, 5)).build(), "scores", "i32");
    invalid(() -> builder.scores(f32(10)).build(), "scores", "rank 1", "expected 2");
    Tensor gaps = f32(2, 10).strided(new long[] {2, 5}, new long[] {10, 2});
    invalid(() -> builder.scores(gaps).build(), "scores", "last stride 2", "expected 1");
    invalid(() -> builder.scores(f32(3, 5)).build(), "selection.indices", "2", "3");
    builder.scores(f32(2, 5));
    invalid(() -> builder.limit(ints(1)).build(), "limit", "1", "2");
    invalid(() -> builder.limit(f32(2)).build(), "limit", "f32", "i32");
    builder.limit(null);
    invalid(() -> builder.select(null).build(), "selection.indices is null");
  }

  @Test
  void selectedHeads() {
    Select.Builder builder = Select.builder().scores(f32(6, 5)).select(two());
    builder.heads(3).build(scope).run();
    for (long heads : new long[] {-1, Long.MIN_VALUE}) {
      invalid(() -> builder.heads(heads).build(), "heads", Long.toString(heads), "0");
    }
    for (long heads : new long[] {4, 7, Long.MAX_VALUE}) {
      invalid(() -> builder.heads(heads).build(), "scores", "6 rows", heads + " heads");
    }
    invalid(() -> builder.heads(2).build(), "selection.indices", "2", "3");
  }

  @Test
  void selections() {
    invalid(() -> select(Selection.top(2, i32(6))).build(), "selection.indices", "rank 1", "2");
    invalid(() -> select(Selection.top(2, i32(3, 3))).build(), "selection.indices", "3", "2");
    invalid(() -> select(Selection.top(2, f32(2, 3))).build(), "selection.indices", "f32", "i32");
    invalid(() -> select(Selection.top(4, i32(2, 3))).build(), "K", "3", "4");
    invalid(() -> select(Selection.top(9, i32(2, 4))).build(), "K", "4", "5");
    invalid(() -> select(two().withK(-1)).build(), "selection.k", "-1", "0");
    invalid(() -> select(two().withCount(i32(3))).build(), "selection.count", "3", "2");
    invalid(() -> select(two().withCount(i32(2, 1))).build(), "selection.count", "rank 2", "1");
    invalid(() -> select(two().withValid(i32(2))).build(), "selection.valid", "i32", "u8");
    invalid(() -> select(two().withBudget(i32(3))).build(), "selection.budget", "3", "2");
    invalid(()
                -> select(two().withBudget(i32(2)).withSegments(ints(0, 2, 5))).build(),
        "selection.budget", "rank 1", "2");
    invalid(()
                -> select(two().withBudget(i32(2, 3)).withSegments(ints(0, 2, 5))).build(),
        "selection.budget", "3", "2");
    invalid(() -> select(two().withSegments(ints(0))).build(), "selection.segments", "1", "2");
    invalid(() -> select(two().withKeep(i32(2))).build(), "selection.keep", "rank 1", "2 or 3");
    invalid(() -> select(two().withKeep(i32(1, 3))).build(), "selection.keep", "3", "2");
    invalid(() -> select(two().withDrop(i32(3, 1, 2))).build(), "selection.drop", "3", "2");
    invalid(() -> select(two().withDrop(f32(1, 2))).build(), "selection.drop", "f32", "i32");
  }

  @Test
  void selectedMemory() {
    Tensor shared = i32(2, 4);
    Tensor count = shared.reshape(8).slice(0, 5, 7);
    invalid(()
                -> select(Selection.top(2, shared).withCount(count)).build(),
        "selection.count", "overlaps", "selection.indices");
    Tensor scores = f32(2, 5);
    Tensor inside = scores.reinterpret(DType.I32, 0, 2, 3);
    invalid(() -> Select.compute(scores, 2, inside), "selection.indices", "overlaps", "scores");
  }

  @Test
  void selectionsThatARunRefuses() {
    Tensor list = i32(2, 5).copyFrom(new int[] {7, 7, 7, 7, 7, 7, 7, 7, 7, 7});
    Selection s = Selection.top(2, list);
    refusedByTheRun(select(s).limit(ints(5, 6)).build(scope), list, "limit[1]", "6", "5");
    refusedByTheRun(select(s).limit(ints(-1, 5)).build(scope), list, "limit[0]", "-1");
    refusedByTheRun(
        select(s.withBudget(ints(1, -1))).build(scope), list, "selection.budget[1]", "-1");
    refusedByTheRun(select(s.withSegments(ints(0, 3, 2))).build(scope), list,
        "selection.segments[2]", "2", "3");
    refusedByTheRun(
        select(s.withSegments(ints(0, 6))).build(scope), list, "selection.segments[1]", "6", "5");
    refusedByTheRun(
        select(s.withSegments(ints(-1, 5))).build(scope), list, "selection.segments[0]", "-1");
    refusedByTheRun(
        select(s.withKeep(ranges(0, 1, 3, 2))).build(scope), list, "selection.keep", "3", "2");
    refusedByTheRun(select(s.withKeep(ranges(-1, 1))).build(scope), list, "selection.keep", "-1");
    refusedByTheRun(
        select(s.withDrop(ranges(0, 6))).build(scope), list, "selection.drop", "6", "5");
  }

  /** A token is never lost to a broken score. */
  @Test
  void brokenScoresKeepEverything() {
    Selection selection = Selection.allocate(scope, 2, 5).withK(1).withDrop(ranges(3, 4));
    Tensor scores = f32(2, 5);
    scores.row(0).copyFrom(new float[] {0, Float.NaN, 3, 4, 5});
    scores.row(1).copyFrom(new float[] {0, 1, 2, Float.NaN, 5}); // left out: nobody looks
    select(selection).scores(scores).runOnce();
    Stream.DEFAULT.synchronize();
    assertArrayEquals(
        new int[] {0, 1, 2, 3, 4, 4, -1, -1, -1, -1}, selection.indices().toIntArray());
    assertArrayEquals(new int[] {5, 1}, selection.count().toIntArray());
    assertArrayEquals(new int[] {0, 1}, selection.valid().toIntArray());
  }

  // ---- attention scores -------------------------------------------------------------------------

  private AttentionScores.Builder attention(KvCache cache) {
    return AttentionScores.builder()
        .query(f32(2, 4, 8))
        .keys(cache)
        .visible(ints(3, 4))
        .scores(f32(2, 4, 4));
  }

  @Test
  void attentionScores() {
    KvCache cache = cache(DType.F32, 2, 2, 4, 8);
    invalid(()
                -> attention(cache(DType.F32, 2, 3, 4, 8)).build(),
        "attention_scores", "query", "4 heads", "3");
    invalid(() -> attention(cache(DType.F32, 2, 2, 4, 16)).build(), "query", "8", "16");
    invalid(() -> attention(null).build(), "keys.k is null");
    invalid(() -> attention(cache(DType.F32, 1, 2, 4, 8)).build(), "S", "1", "2");
    invalid(() -> attention(cache).query(f32(8, 8)).build(), "query", "rank 2", "expected 3");
    invalid(() -> attention(cache).query(i32(2, 4, 8)).build(), "query", "i32");
    invalid(() -> attention(cache).visible(null).build(), "visible is null");
    invalid(() -> attention(cache).visible(ints(1)).build(), "visible", "1", "2");
    invalid(() -> attention(cache).limit(ints(1)).build(), "limit", "1", "2");
    invalid(() -> attention(cache).sequence(ints(1)).build(), "sequence", "1", "2");
    invalid(() -> attention(cache).window(3).build(), "query", "2 rows", "3");
    invalid(() -> attention(cache).window(4).build(), "query", "2 rows", "4");
    invalid(() -> attention(cache).window(0).build(), "window", "0", "1");
    invalid(() -> attention(cache).scores(f32(2, 4, 5)).build(), "columns", "5", "4");
    invalid(() -> attention(cache).columns(-1).build(), "columns", "-1", "0");
    invalid(() -> attention(cache).first(-1).build(), "first", "-1", "0");
    invalid(() -> attention(cache).first(1).build(), "first is 1", "columns is 4", "4");
    invalid(() -> attention(cache).columns(3).build(), "scores", "4", "3");
    invalid(() -> attention(cache).scores(f32(2, 3, 4)).build(), "scores", "3", "4");
    invalid(() -> attention(cache).heads(Heads.SUM).build(), "scores", "4", "1");
    invalid(() -> attention(cache).heads(Heads.GROUP_SUM).build(), "scores", "4", "2");
    invalid(() -> attention(cache).scores(f16(2, 4, 4)).build(), "scores", "f16", "f32");
    invalid(() -> attention(cache).scores(null).build(), "scores is null");
    invalid(() -> attention(cache).scale(0).build(), "scale", "0");
    invalid(() -> attention(cache).scale(Float.NaN).build(), "scale", "nan");
  }

  @Test
  void pooling() {
    KvCache cache = cache(DType.F32, 2, 2, 4, 8);
    invalid(() -> attention(cache).pool(Pool.AVG, 4).build(), "pool_width", "4", "odd");
    invalid(() -> attention(cache).pool(Pool.MAX, 0).build(), "pool_width", "0", "1..255");
    invalid(() -> attention(cache).pool(Pool.MAX, 257).build(), "pool_width", "257", "1..255");
    invalid(() -> attention(cache).pool(Pool.NONE, 5).build(), "pool_width", "5", "0");
    invalid(()
                -> attention(cache).pool(Pool.AVG, 5).accumulate(true).build(),
        "accumulate", "1", "pool");
    Selection selection = Selection.top(2, i32(8, 2));
    invalid(()
                -> attention(cache).scores(null).accumulate(true).select(selection).build(),
        "scores is null");
  }

  @Test
  void scoredSelections() {
    KvCache cache = cache(DType.F32, 2, 2, 4, 8);
    invalid(()
                -> attention(cache).select(Selection.top(2, i32(2, 2))).build(),
        "selection.indices", "2", "8");
    Tensor none = null;
    invalid(()
                -> attention(cache).select(Selection.top(2, none).withCount(i32(8))).build(),
        "selection.count", "selection.indices is null");
    Tensor scores = f32(2, 4, 4);
    Tensor inside = scores.reinterpret(DType.I32, 0, 8, 2);
    invalid(()
                -> attention(cache).scores(scores).select(Selection.top(2, inside)).build(),
        "overlaps", "scores");
  }

  @Test
  void scoresThatARunRefuses() {
    Tensor scores = f32(2, 4, 4);
    KvCache cache = cache(DType.F32, 2, 2, 4, 8);
    AttentionScores.Builder builder = attention(cache).scores(scores);
    refusedByTheRun(builder.visible(ints(3, 5)).build(scope), scores, "visible[1]", "5", "4");
    refusedByTheRun(builder.visible(ints(-1, 4)).build(scope), scores, "visible[0]", "-1");
    builder.visible(ints(3, 4));
    refusedByTheRun(builder.limit(ints(5, 0)).build(scope), scores, "limit[0]", "5", "4");
    builder.limit(null);
    refusedByTheRun(builder.sequence(ints(0, 2)).build(scope), scores, "sequence[1]", "2", "1");
    builder.sequence(null);
    KvCache broken = pages(4, i32(2, 2).copyFrom(new int[] {0, 1, 2, 4}));
    refusedByTheRun(builder.keys(broken).build(scope), scores, "block_table", "4", "3");
    builder.visible(ints(3, 2)).runOnce(); // nobody sees the broken page
    Stream.DEFAULT.synchronize();
  }

  // ---- HiRED's budgets --------------------------------------------------------------------------

  private HiredBudget.Builder budget() {
    return HiredBudget.builder().attention(f32(2, 24)).budget(i32(2, 5)).patches(4, 6).grid(2, 2);
  }

  @Test
  void hiredBudget() {
    invalid(() -> budget().attention(null).build(), "hired_budget", "attention is null");
    invalid(() -> budget().attention(f16(2, 24)).build(), "attention", "f16", "f32");
    invalid(() -> budget().attention(f32(2, 23)).build(), "attention", "23", "24");
    invalid(() -> budget().attention(f32(48)).build(), "attention", "rank 1", "2");
    invalid(() -> budget().budget(null).build(), "budget is null");
    invalid(() -> budget().budget(i32(2, 4)).build(), "budget", "4", "5");
    invalid(() -> budget().budget(i32(3, 5)).build(), "budget", "3", "2");
    invalid(() -> budget().budget(f32(2, 5)).build(), "budget", "f32", "i32");
    invalid(() -> budget().valid(u8(3)).build(), "valid", "3", "2");
    invalid(() -> budget().rate(1.5, .5).build(), "rate", "1.5", "0..1");
    invalid(() -> budget().rate(.2, -.5).build(), "alpha", "-0.5", "0..1");
    invalid(() -> budget().rate(Double.NaN, .5).build(), "rate", "nan");
    invalid(() -> budget().patches(0, 6).build(), "patch_rows", "0", "1");
    invalid(() -> budget().patches(4, 0).build(), "patch_cols", "0", "1");
    invalid(() -> budget().grid(-1, 2).build(), "grid_rows", "-1", "0");
    invalid(() -> budget().grid(0, 2).build(), "grid_rows", "0", "grid_cols", "2");
    invalid(() -> budget().grid(3, 2).build(), "grid_rows", "3", "4");
    invalid(() -> budget().grid(2, 4).build(), "grid_cols", "4", "6");
    invalid(() -> budget().region(Region.STRIP).grid(1, 5).build(), "5", "24");
    invalid(() -> budget().marks(u8(2, 24)).build(), "marks", "EXN_HIRED_TOP_COUNT");
    HiredBudget.Builder counted = budget().score(Score.TOP_COUNT);
    invalid(() -> counted.marks(u8(2, 23)).build(), "marks", "23", "24");
    invalid(() -> counted.marks(i32(2, 24)).build(), "marks", "i32", "u8");
  }

  // ---- gather -----------------------------------------------------------------------------------

  private Gather.Builder gather() {
    return Gather.builder().list(ints(0, 2));
  }

  @Test
  void gatherArguments() {
    invalid(() -> Gather.builder().tensor(f32(4, 3), f32(2, 3)).build(), "gather", "list is null");
    invalid(() -> gather().list(f32(2)).tensor(f32(4, 3), f32(2, 3)).build(), "list", "f32");
    invalid(() -> gather().tensor(null, f32(2, 3)).build(), "tensors[0].input is null");
    invalid(() -> gather().tensor(f32(4, 3), null).build(), "tensors[0].out is null");
    invalid(() -> gather().tensor(f32(4, 3), f32(1, 3)).build(), "tensors[0].out", "1", "2");
    invalid(() -> gather().tensor(f32(4, 3), f32(2, 4)).build(), "tensors[0].out", "4", "3");
    invalid(() -> gather().tensor(f32(4, 3), f16(2, 3)).build(), "tensors[0].out", "f16", "f32");
    invalid(() -> gather().tensor(f32(4, 3), f32(2, 3), 2).build(), "tensors[0].input", "axis 2");
    invalid(() -> gather().tensor(f32(4, 3), f32(2, 3), -1).build(), "axis -1");
    invalid(() -> gather().tensor(f32(4, 3), f32(6)).build(), "tensors[0].out", "1", "2");
    invalid(
        ()
            -> gather().tensor(f32(4, 3), f32(2, 3)).tensor(f32(2, 5, 8), f32(2, 2, 8), 1).build(),
        "tensors[1].input", "5", "4");
    invalid(() -> gather().rows(-1).build(), "rows", "-1", "0");
    invalid(() -> gather().rows(1L << 31).build(), "rows", "2147483648", "2147483647");
    invalid(
        () -> gather().tensor(f32(4, 3), f32(2, 3)).count(ints(1, 1)).build(), "count", "2", "1");
    invalid(
        () -> gather().tensor(f32(4, 3), f32(2, 3)).moved(f32(1)).build(), "moved", "f32", "i32");
    Gather.Builder many = gather();
    Tensor input = f32(4, 3);
    IntStream.rangeClosed(0, Gather.MAX_TENSORS).forEach(i -> many.tensor(input, f32(2, 3)));
    invalid(() -> many.build(), "tensor_count", "9", "0..8");
  }

  @Test
  void gatheredPositions() {
    Gather.Builder builder = gather().tensor(f32(4, 3), f32(2, 3));
    invalid(() -> builder.positions(ints(0, 1, 2), i32(2)).build(), "position", "3", "4");
    invalid(() -> builder.positions(null, i32(1)).build(), "position_out", "1", "2");
    invalid(() -> builder.positions(i32(4), null).build(), "position", "position_out is null");
    invalid(() -> builder.positions(f32(4), i32(2)).build(), "position", "f32", "i32");
  }

  @Test
  void gatheredMemory() {
    Tensor memory = f32(4, 3);
    invalid(()
                -> gather().tensor(memory, memory.rows(1, 4)).build(),
        "tensors[0].out", "overlaps", "tensors[0].input");
    Tensor out = f32(2, 3);
    invalid(()
                -> gather().tensor(f32(4, 3), out).tensor(f32(4, 3), out).build(),
        "tensors[1].out", "overlaps", "tensors[0].out");
    Tensor gaps = f32(2, 4, 8).strided(new long[] {2, 4, 4}, new long[] {32, 8, 1});
    invalid(() -> gather().tensor(gaps, f32(2, 2, 4), 1).build(), "tensors[0].input", "stride");
  }

  @Test
  void listsThatAGatherRefuses() {
    Tensor out = f32(3, 3);
    Tensor moved = ints(5);
    Gather.Builder builder = Gather.builder().tensor(f32(4, 3), out).moved(moved);
    refusedByTheRun(builder.list(ints(0, 4)).build(scope), out, "list[1]", "4");
    if (Setup.cuda()) {
      assertEquals(-1, moved.toIntArray()[0]);
    }
    builder.list(ints(2, 0));
    refusedByTheRun(builder.count(ints(3)).build(scope), out, "count", "3", "2");
    refusedByTheRun(builder.count(ints(-1)).build(scope), out, "count", "-1");
    builder.count(null).runOnce(); // not in place, any order will do
    Stream.DEFAULT.synchronize();
    assertEquals(2, moved.toIntArray()[0]);

    Tensor memory = f32(4, 3).copyFrom(new float[] {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
    Gather.Builder inPlace = Gather.builder().tensor(memory, memory).moved(moved);
    double[] before = memory.toDoubleArray();
    for (int[] list : new int[][] {{2, 0}, {1, 1}, {-1, 2}}) {
      String first = "list[0] is " + list[0];
      String second = "list[1] is " + list[1];
      refusedByTheRun(inPlace.list(ints(list)).build(scope), memory, first, second);
      if (Setup.cuda()) {
        assertArrayEquals(before, memory.toDoubleArray());
        assertEquals(-1, moved.toIntArray()[0]);
      }
    }
  }

  // ---- a cache shrinks --------------------------------------------------------------------------

  private KvCompact.Builder compact(KvCache cache) {
    return cache.compact().packed(ints(1, 2, 0, 3), ints(0, 2, 4));
  }

  @Test
  void compactArguments() {
    KvCache cache = cache(DType.F32, 2, 2, 4, 8);
    invalid(() -> KvCompact.builder().build(), "kv_compact", "destination.k is null");
    invalid(() -> KvCompact.builder().destination(cache).build(), "source.k is null");
    invalid(()
                -> cache.compactTo(cache(DType.F16, 2, 2, 4, 8)).build(),
        "destination", "f16", "source", "f32");
    invalid(
        () -> cache.compactTo(cache(DType.F32, 2, 3, 4, 8)).build(), "destination", "3 heads", "2");
    invalid(() -> cache.compactTo(cache(DType.F32, 1, 2, 4, 8)).build(), "sequences", "1", "2");
    invalid(() -> cache.compactTo(cache(DType.F32, 2, 2, 4, 16)).build(), "16", "8");
    KvCache keysOnly = KvCache.ofHeadMajor(f32(2, 2, 4, 8), null);
    invalid(() -> cache.compactTo(keysOnly).build(), "destination.v is null");
    invalid(() -> cache.compact().build(), "list is null");
    invalid(
        () -> cache.compact().packed(ints(1, 2), null).build(), "offsets is null", "count is null");
    invalid(
        () -> cache.compact().padded(i32(2, 2), null).build(), "offsets is null", "count is null");
    invalid(() -> cache.compact().packed(i32(2, 2), ints(0, 2, 4)).build(), "list", "rank 2", "1");
    invalid(() -> cache.compact().padded(ints(0), ints(1, 1)).build(), "list", "rank 1", "2");
    invalid(() -> cache.compact().packed(ints(0), ints(0, 1)).build(), "offsets", "2", "3");
    invalid(() -> cache.compact().padded(i32(3, 2), ints(1, 1)).build(), "list", "3", "2");
    invalid(() -> cache.compact().padded(i32(2, 2), ints(1)).build(), "count", "1", "2");
    invalid(() -> compact(cache).perHead(true).build(), "offsets", "3", "5");
    invalid(() -> compact(cache).sequence(ints(0)).build(), "offsets", "3", "2");
    invalid(() -> compact(cache).length(ints(4)).build(), "length", "1", "2");
    invalid(() -> compact(cache).newLength(i32(3)).build(), "new_length", "3", "2");
    invalid(() -> compact(cache).newLength(f32(2)).build(), "new_length", "f32", "i32");
  }

  @Test
  void freedPages() {
    KvCache cache = cache(DType.F32, 2, 2, 4, 8);
    Tensor lengths = ints(4, 4);
    invalid(() -> compact(cache).length(lengths).freed(i32(4), i32(1)).build(), "freed", "paged");
    Tensor table = i32(2, 2).copyFrom(new int[] {0, 1, 2, 3});
    KvCache paged = pages(4, table);
    invalid(() -> compact(paged).freed(i32(4), i32(1)).build(), "length is null");
    invalid(() -> compact(paged).freed(null, i32(1)).build(), "freed_count", "freed is null");
    invalid(()
                -> compact(paged).length(lengths).freed(i32(4), i32(2)).build(),
        "freed_count", "2", "1");
    KvCache other = pages(4, table);
    invalid(
        ()
            -> paged.compactTo(other)
                .packed(ints(1, 2), ints(0, 1, 2))
                .length(lengths)
                .freed(i32(4), i32(1))
                .build(),
        "freed", "in place");
  }

  @Test
  void compactedMemory() {
    KvCache cache = cache(DType.F32, 2, 2, 4, 8);
    KvCache halves = KvCache.ofHeadMajor(cache.k(), f32(2, 2, 4, 8));
    invalid(() -> compact(cache).destination(halves).build(), "destination.k");
    KvCache turned =
        KvCache.ofTokenMajor(cache.k().reshape(2, 4, 2, 8), cache.v().reshape(2, 4, 2, 8));
    invalid(()
                -> compact(cache).destination(turned).build(),
        "destination", "8 elements between heads", "source", "32");
    Tensor table = i32(2, 2).copyFrom(new int[] {0, 1, 2, 3});
    KvCache paged = pages(4, table);
    KvCache again =
        KvCache.ofPages(paged.k(), paged.v(), i32(2, 2).copyFrom(new int[] {0, 1, 2, 3}));
    invalid(() -> compact(paged).destination(again).build(), "destination.block_table", "source");
  }

  @Test
  void listsThatACompactionRefuses() {
    KvCache cache = cache(DType.F32, 2, 2, 4, 8);
    Tensor k = cache.k();
    float[] numbers = new float[128];
    for (int i = 0; i < numbers.length; i++) {
      numbers[i] = i;
    }
    k.copyFrom(numbers);
    KvCompact.Builder b = cache.compact();
    Tensor starts = ints(0, 2, 4);
    nothingMoves(b.packed(ints(1, 2, 0, 4), starts), k, "list[3]", "4", "3");
    nothingMoves(b.packed(ints(1, 2, -1, 3), starts), k, "list[2]", "-1");
    nothingMoves(b.packed(ints(2, 1, 0, 3), starts), k, "list[0] is 2", "list[1] is 1");
    nothingMoves(b.packed(ints(1, 1, 0, 3), starts), k, "list[0] is 1", "list[1] is 1");
    nothingMoves(b.packed(ints(0, 1, 2, 3), ints(0, 3, 2)), k, "offsets[2]", "2", "3");
    nothingMoves(b.packed(ints(0, 1, 2, 3), ints(0, 2, 5)), k, "offsets[2]", "5", "4");
    nothingMoves(b.packed(ints(0, 1, 2, 3), ints(-1, 2, 4)), k, "offsets[0]", "-1");
    nothingMoves(b.padded(i32(2, 2), ints(1, 3)), k, "count[1]", "3", "2");
    nothingMoves(b.padded(i32(2, 2), ints(-1, 1)), k, "count[0]", "-1");
    nothingMoves(compact(cache).length(ints(5, 4)), k, "length[0]", "5", "4");
    nothingMoves(compact(cache).length(ints(2, 4)), k, "list[1]", "2", "1");
    nothingMoves(compact(cache).sequence(ints(0, 2)), k, "sequence[1]", "2", "1");
    nothingMoves(compact(cache).sequence(ints(1, 1)), k, "sequence[1]", "1");
    KvCache small = cache(DType.F32, 2, 2, 1, 8);
    nothingMoves(compact(cache).destination(small), small.k(), "list 0", "2", "1");
    KvCache twice = pages(4, i32(2, 2).copyFrom(new int[] {0, 1, 1, 3}));
    nothingMoves(compact(twice).length(ints(4, 4)), twice.k(), "block_table[1,0]", "1", "[0,1]");
    KvCache outside = pages(4, i32(2, 2).copyFrom(new int[] {0, 4, 2, 3}));
    nothingMoves(compact(outside), outside.k(), "block_table[0,1]", "4", "3");
  }

  /** As {@link #refusedByTheRun}; a device says so in the new lengths, and moves nothing either. */
  private void nothingMoves(KvCompact.Builder builder, Tensor written, String... words) {
    double[] before = written.toDoubleArray();
    Tensor lengths = ints(7, 7);
    refusedByTheRun(builder.newLength(lengths).build(scope), written, words);
    assertArrayEquals(before, written.toDoubleArray());
    int told = Setup.cuda() ? -1 : 7;
    assertArrayEquals(new int[] {told, told}, lengths.toIntArray());
    builder.newLength(null);
  }

  // ---- lifetimes --------------------------------------------------------------------------------

  @Test
  void closedTensors() {
    Scope other = Scope.open();
    Tensor list = other.allocate(DType.I32, 2, 5);
    Selection selection = Selection.top(2, list);
    Select select = select(selection).build(scope);
    Gather gather = gather().list(list.row(0)).tensor(f32(4, 3), f32(5, 3)).build(scope);
    KvCache cache = KvCache.ofHeadMajor(other.allocate(DType.F32, 2, 2, 4, 8), f32(2, 2, 4, 8));
    AttentionScores scores = attention(cache).build(scope);
    KvCompact compact = compact(cache).build(scope);
    Tensor budgets = other.allocate(DType.I32, 2, 5);
    HiredBudget budget = budget().budget(budgets).build(scope);
    other.close();
    for (Op op : new Op[] {select, gather, scores, compact, budget}) {
      refused(IllegalStateException.class, op::run, "scope is closed");
    }
    refused(IllegalStateException.class, () -> select(selection).build(), "scope is closed");
    refused(IllegalStateException.class, () -> compact(cache).build(), "scope is closed");
    budget.close();
    refused(IllegalStateException.class, budget::run, "closed");
  }

  @Test
  void hiredGrids() {
    invalid(() -> new Hired.Grid(0, 24, 1, 1), "patches are 0 x 24", "at least 1 x 1");
    invalid(() -> new Hired.Grid(24, 24, -1, 2), "grid is -1 x 2", "at least 0 x 0");
    invalid(() -> new Hired.Grid(1 << 16, 1 << 16, 1, 1), "patches are 65536 x 65536");
    invalid(() -> new Hired.Grid(1, 1, 1 << 16, 1 << 15), "grid is 65536 x 32768", "2147483647");
    assertEquals(1, new Hired.Grid(24, 24, 3, 0).partitions());
  }
}
