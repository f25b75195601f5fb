// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Refusals.invalid;
import static org.exeunt.tests.Words.remainder;
import static org.exeunt.tests.Words.word;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.exeunt.Attention;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.HiddenStack;
import org.exeunt.KvCache;
import org.exeunt.KvPropagate;
import org.exeunt.Rope;
import org.exeunt.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class HiddenStackTest extends OpTest {
  HiddenStackTest() {
    super("hidden_stack");
  }

  static Stream<CaseRow> cases() {
    return CaseRow.of("hidden_stack");
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void matchesOracle(CaseRow c) {
    Script script = new Script(c);
    int call = 0;
    for (String action : c.text("script").split(",")) {
      switch (action) {
        case "push":
          script.push(call);
          break;
        case "gather":
          script.gather();
          break;
        case "clear":
          script.clear();
          break;
        default:
          throw new IllegalStateException("unknown action '" + action + "'");
      }
      script.checkStack("call " + call);
      call++;
    }
  }

  /** The ops that follow take gathered tags as they are: those of rows that are not there too. */
  @Test
  void gatheredTagsSwitchOff() {
    Tensor stack = scope.allocate(DType.F32, 5, 4);
    Tensor stackTags = scope.allocate(DType.I32, 4, 5);
    Tensor count = scope.copyOf(new int[] {0}, 1);
    Tensor rows = scope.copyOf(new float[] {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 3, 4);
    Tensor tags = scope.copyOf(new int[] {1, 0, 0, 2, 0, 1, 0, 0, 0, 3, 1, 2}, 4, 3);
    Tensor leaves = scope.allocate(DType.U8, 3).copyFrom(new int[] {1, 0, 1});
    HiddenStack.push().stack(stack).count(count).rows(rows).tags(stackTags, tags).mask(leaves)
        .runOnce();
    HiddenStack.gather().stack(stack).count(count).rows(rows).tags(stackTags, tags).runOnce();
    Tensor sequence = tags.row(0);
    Tensor slot = tags.row(1);
    Tensor position = tags.row(2);

    Tensor table = Rope.table(scope, Device.defaultDevice(), 4, 4, 10000);
    Tensor heads = rows.reshape(3, 1, 4);
    Rope.builder().input(heads).position(position).table(table, Rope.Style.HALF).out(heads)
        .runOnce();
    float[] expected = new float[2 * 3 * 4];
    System.arraycopy(new float[] {1, 2, 3, 4}, 0, expected, (3 + 2) * 4, 4);
    System.arraycopy(new float[] {9, 10, 11, 12}, 0, expected, 4, 4);
    KvCache appended = emptyCache();
    appended.append().k(heads).v(heads).sequence(sequence).slot(slot).runOnce();
    assertArrayEquals(expected, appended.k().toFloatArray());
    assertArrayEquals(expected, appended.v().toFloatArray());

    float[] identity = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};
    Tensor weight = scope.copyOf(identity, 4, 4);
    KvCache owed = emptyCache();
    KvPropagate.builder()
        .hidden(rows)
        .exitLayer(scope.copyOf(new int[] {0, 0, 0}, 3))
        .sequence(sequence)
        .slot(slot)
        .rope(table, Rope.Style.HALF, position)
        .modelLayers(2)
        .layer(KvPropagate.Layer.of(1, null, weight, weight, owed))
        .runOnce();
    assertArrayEquals(expected, owed.k().toFloatArray());

    Tensor out = scope.allocate(DType.F32, 3, 1, 4);
    Attention.builder().query(heads).cache(owed).sequence(sequence).visible(tags.row(3)).out(out)
        .runOnce();
    assertArrayEquals(new float[4], out.row(2).toFloatArray());
  }

  private KvCache emptyCache() {
    Device device = Device.defaultDevice();
    KvCache cache =
        KvCache.contiguous(scope, device, DType.F32, KvCache.Layout.HEAD_MAJOR, 2, 1, 3, 4);
    cache.k().copyFrom(new float[24]);
    cache.v().copyFrom(new float[24]);
    return cache;
  }

  /** The stack on the device, and the one it should be. */
  private final class Script {
    private final CaseRow c;
    private final int width;
    private final HostTensor expected;
    private final HostTensor expectedTags;
    private final Placed stack;
    private final Placed stackTags;
    private final Tensor count = scope.allocate(DType.I32, 1).copyFrom(new int[] {0});
    private final Tensor overflow;
    private int held;

    Script(CaseRow c) {
      this.c = c;
      width = c.int32("tags_per_row");
      long[] shape = {c.integer("capacity"), c.integer("dim")};
      expected =
          new HostTensor(c.dtype("dtype"), shape, c.int32("stack_pad"), c.int32("stack_offset"));
      stack = new Placed(scope, expected);
      expectedTags = width > 0 ? HostTensor.of(DType.I32, width, shape[0]) : null;
      stackTags = width > 0 ? new Placed(scope, expectedTags) : null;
      overflow = c.flag("overflow") ? scope.allocate(DType.I32, 1) : null;
    }

    private HiddenStack.Builder common(HiddenStack.Builder builder, Tensor tags) {
      return builder
          .stack(stack.tensor())
          .count(count)
          .tags(width > 0 ? stackTags.tensor() : null, tags)
          .overflow(overflow);
    }

    private HostTensor rows(long rows) {
      long[] shape = {rows, c.integer("dim")};
      return new HostTensor(c.dtype("dtype"), shape, c.int32("pad"), c.int32("offset"));
    }

    void push(int call) {
      int n = c.int32("rows");
      HostTensor rows = rows(n).fill(c.seed(), 8 + call, "normal", 1, "-");
      HostTensor tags = width > 0 ? HostTensor.of(DType.I32, width, n) : null;
      HostTensor mask = c.given("mask") ? HostTensor.of(DType.U8, n) : null;
      List<Integer> pushed = new ArrayList<>();
      for (int r = 0; r < n; r++) {
        long i = (long) call * n + r;
        for (int m = 0; m < width; m++) {
          tags.setInteger(m * n + r, remainder(word(c.seed(), 4, i * width + m), 1000));
        }
        if (mask != null) {
          boolean some = c.choice("mask", "some", "none") == 0;
          mask.setInteger(r, some ? remainder(word(c.seed(), 5, i), 3) : 0);
        }
        if (mask == null || mask.integerAt(r) != 0) {
          pushed.add(r);
        }
      }
      HiddenStack op =
          common(HiddenStack.push(), input(tags)).rows(input(rows)).mask(input(mask)).build(scope);
      if (runs(op, held + pushed.size() - expected.rows)) {
        for (int r : pushed) {
          expected.copyFrom(rows, r, 0, held, 0, rows.cols);
          for (int m = 0; m < width; m++) {
            expectedTags.setInteger(m * expected.rows + held, tags.integerAt(m * n + r));
          }
          held++;
        }
      }
    }

    void gather() {
      int n = c.int32("gathered");
      HostTensor rows = rows(n);
      HostTensor tags = width > 0 ? HostTensor.of(DType.I32, width, n) : null;
      Placed placedRows = new Placed(scope, rows);
      Placed placedTags = width > 0 ? new Placed(scope, tags) : null;
      HiddenStack op =
          common(HiddenStack.gather(), width > 0 ? placedTags.tensor() : null)
              .rows(placedRows.tensor())
              .build(scope);
      boolean ran = runs(op, held - n);
      for (int r = 0; r < n; r++) {
        boolean there = ran && r < held;
        if (there) {
          rows.copyFrom(expected, r, 0, r, 0, rows.cols);
        }
        for (int m = 0; m < width && (ran || Setup.cuda()); m++) {
          tags.setInteger(
              m * n + r, there ? expectedTags.integerAt(m * expected.rows + r) : -1);
        }
      }
      assertEquals(rows.bytes, placedRows.read().bytes, "gathered rows");
      if (width > 0) {
        assertEquals(tags.bytes, placedTags.read().bytes, "gathered tags");
      }
    }

    void clear() {
      runs(common(HiddenStack.clear(), null).build(scope), 0);
      held = 0;
    }

    /** Runs if there is room; else the CPU refuses and a device says how many rows are over. */
    private boolean runs(HiddenStack op, int over) {
      if (over > 0 && !Setup.cuda()) {
        invalid(op::run, "count");
        return false;
      }
      runOnce(op);
      if (overflow != null) {
        assertEquals(Math.max(0, over), overflow.toIntArray()[0], "overflow");
      }
      return over <= 0;
    }

    void checkStack(String where) {
      assertEquals(held, count.toIntArray()[0], where + ": count");
      assertEquals(expected.bytes, stack.read().bytes, where + ": stack");
      if (width > 0) {
        assertEquals(expectedTags.bytes, stackTags.read().bytes, where + ": tags");
      }
    }
  }
}
