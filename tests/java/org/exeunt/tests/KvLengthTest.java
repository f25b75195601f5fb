// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Refusals.invalid;
import static org.exeunt.tests.Words.remainder;
import static org.exeunt.tests.Words.word;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import java.util.Arrays;
import java.util.stream.Stream;
import org.exeunt.DType;
import org.exeunt.KvLength;
import org.exeunt.Tensor;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class KvLengthTest extends OpTest {
  KvLengthTest() {
    super("kv_length");
  }

  static Stream<CaseRow> cases() {
    return CaseRow.of("kv_length");
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void matchesOracle(CaseRow c) {
    long[] shape = Arrays.stream(c.text("lengths").split("x")).mapToLong(Long::parseLong).toArray();
    Lengths lengths = new Lengths(c, scope.allocate(DType.I32, shape));
    if (c.choice("action", "advance", "crop") == 0) {
      advance(c, lengths);
    } else {
      crop(c, lengths);
    }
  }

  /** The lengths on the device and what they should be. */
  private static final class Lengths {
    final Tensor tensor;
    final int[] expected;

    Lengths(CaseRow c, Tensor tensor) {
      this.tensor = tensor;
      expected = new int[(int) tensor.elements()];
      for (int i = 0; i < expected.length; i++) {
        expected[i] = start(c, i);
      }
      tensor.copyFrom(expected);
    }

    private static int start(CaseRow c, int i) {
      switch (c.choice("start", "zero", "random", "full")) {
        case 0:
          return 0;
        case 1:
          return (int) remainder(word(c.seed(), 0, i), c.integer("capacity") / 2 + 1);
        default:
          return c.int32("capacity");
      }
    }

    void check() {
      assertArrayEquals(expected, tensor.toIntArray(), "length");
    }
  }

  private void crop(CaseRow c, Lengths lengths) {
    c.text("sequence");
    c.text("active");
    int n = lengths.expected.length;
    boolean one = c.choice("limit", "one", "each") == 0;
    int[] limits = new int[one ? 1 : n];
    Tensor limit = scope.allocate(DType.I32, limits.length);
    KvLength op = KvLength.crop().length(lengths.tensor).limit(limit).build(scope);
    for (int call = 0; call < c.int32("calls"); call++) {
      for (int i = 0; i < limits.length; i++) {
        limits[i] =
            (int) remainder(word(c.seed(), 1, (long) call * n + i), c.integer("capacity") + 1);
      }
      limit.copyFrom(limits);
      runOnce(op);
      for (int i = 0; i < n; i++) {
        lengths.expected[i] = Math.min(lengths.expected[i], limits[one ? 0 : i]);
      }
      lengths.check();
    }
  }

  private void advance(CaseRow c, Lengths lengths) {
    int rows = c.int32("rows");
    int capacity = c.int32("capacity");
    Advance in = new Advance(c, rows);
    KvLength op =
        KvLength.advance(capacity)
            .length(lengths.tensor)
            .sequence(in.sequenceTensor)
            .active(in.activeTensor)
            .slot(in.slotTensor)
            .visible(in.visibleTensor)
            .build(scope);
    for (int call = 0; call < c.int32("calls"); call++) {
      in.fill(c, call, lengths.expected.length);
      int[] before = lengths.expected.clone();
      boolean full = in.step(lengths.expected, capacity);
      if (full && !Setup.cuda()) {
        invalid(op::run, "length", Integer.toString(capacity));
        assertArrayEquals(before, lengths.tensor.toIntArray(), "a refused run wrote");
        return;
      }
      runOnce(op);
      lengths.check();
      assertArrayEquals(in.slot, in.slotTensor.toIntArray(), "slot");
      if (in.visibleTensor != null) {
        assertArrayEquals(in.visible, in.visibleTensor.toIntArray(), "visible");
      }
    }
  }

  /** What changes from call to call, and what should come out. */
  private final class Advance {
    private final int[] sequence;
    private final int[] active;
    final int[] slot;
    final int[] visible;
    final Tensor sequenceTensor;
    final Tensor activeTensor;
    final Tensor slotTensor;
    final Tensor visibleTensor;

    Advance(CaseRow c, int rows) {
      sequence = c.given("sequence") ? new int[rows] : null;
      active = c.given("active") ? new int[rows] : null;
      slot = new int[rows];
      visible = new int[rows];
      sequenceTensor = sequence == null ? null : scope.allocate(DType.I32, rows);
      activeTensor = active == null ? null : scope.allocate(DType.U8, rows);
      slotTensor = scope.allocate(DType.I32, rows);
      visibleTensor = c.flag("visible") ? scope.allocate(DType.I32, rows) : null;
      c.text("limit");
    }

    void fill(CaseRow c, int call, int sequences) {
      for (int r = 0; r < slot.length; r++) {
        if (sequence != null) {
          boolean mod = c.choice("sequence", "mod", "random") == 0;
          sequence[r] =
              mod ? r % sequences : (int) remainder(word(c.seed(), 2 + 8L * call, r), sequences);
        }
        if (active != null) {
          boolean some = c.choice("active", "some", "none") == 0;
          long any = remainder(word(c.seed(), 3, (long) call * slot.length + r), 3);
          active[r] = some ? (int) any : 0;
        }
      }
      if (sequence != null) {
        sequenceTensor.copyFrom(sequence);
      }
      if (active != null) {
        activeTensor.copyFrom(active);
      }
    }

    /** Advances {@code length}; true if some row found its sequence full. */
    boolean step(int[] length, int capacity) {
      boolean anyFull = false;
      for (int r = 0; r < slot.length; r++) {
        int s = sequence == null ? 0 : sequence[r];
        boolean on = active == null || active[r] != 0;
        boolean full = on && length[s] == capacity;
        anyFull |= full;
        slot[r] = on && !full ? length[s]++ : -1;
        visible[r] = full ? 0 : length[s];
      }
      return anyFull;
    }
  }
}
