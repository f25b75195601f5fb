// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Words.remainder;
import static org.exeunt.tests.Words.word;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.stream.Stream;
import org.exeunt.DType;
import org.exeunt.RowCompaction;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class RowCompactionTest extends OpTest {
  RowCompactionTest() {
    super("row_compaction");
  }

  static Stream<CaseRow> cases() {
    return CaseRow.of("row_compaction");
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void matchesOracle(CaseRow c) {
    boolean gather = c.choice("direction", "gather", "scatter") == 0;
    int rows = c.int32("rows");
    int cols = c.int32("cols");
    int listed = c.int32("listed");
    int compacted = listed + c.int32("spare");
    DType dtype = c.dtype("dtype");
    HostTensor input =
        new HostTensor(
            dtype, new long[] {gather ? rows : compacted, cols}, c.int32("pad"), c.int32("offset"));
    for (int i = 0; i < input.size(); i++) {
      input.setBits(i / cols, i % cols, word(c.seed(), 0, i));
    }
    HostTensor list = list(c, rows, listed);
    HostTensor out =
        new HostTensor(
            dtype,
            new long[] {gather ? compacted : rows, cols},
            c.int32("out_pad"),
            c.int32("out_offset"));
    Placed placed = new Placed(scope, out);
    RowCompaction op =
        (gather ? RowCompaction.gather() : RowCompaction.scatter())
            .input(input(input))
            .list(input(list))
            .out(placed.tensor())
            .build(scope);
    run(op, placed);
    for (int i = 0; i < listed; i++) {
      int row = (int) list.integerAt(i);
      if (row >= 0) {
        out.copyFrom(input, gather ? row : i, 0, gather ? i : row, 0, cols);
      }
    }
    assertEquals(out.bytes, placed.read().bytes, "out");
  }

  private static HostTensor list(CaseRow c, int rows, int listed) {
    HostTensor t = HostTensor.of(DType.I32, listed);
    int[] order = Words.shuffled(rows, c.seed(), 1);
    int active = 0;
    for (int i = 0; i < listed; i++) {
      switch (c.choice("list", "identity", "shuffled", "random", "none", "holes", "active")) {
        case 0:
          t.setInteger(i, i);
          break;
        case 1:
          t.setInteger(i, order[i]);
          break;
        case 2:
          t.setInteger(i, remainder(word(c.seed(), 2, i), rows));
          break;
        case 3:
          t.setInteger(i, -1);
          break;
        case 4:
          boolean hole = remainder(word(c.seed(), 3, i), 3) == 0;
          t.setInteger(i, hole ? -1 - remainder(word(c.seed(), 4, i), 100) : order[i]);
          break;
        default:
          while (active < rows && remainder(word(c.seed(), 5, active), 2) != 0) {
            active++;
          }
          t.setInteger(i, active < rows ? active++ : -1);
      }
    }
    return t;
  }
}
