// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Words.remainder;
import static org.exeunt.tests.Words.word;

import java.util.stream.Stream;
import org.exeunt.DType;
import org.exeunt.Rope;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class RopeTest extends OpTest {
  RopeTest() {
    super("rope");
  }

  static Stream<CaseRow> cases() {
    return CaseRow.of("rope");
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void matchesOracle(CaseRow c) {
    int rows = c.int32("rows");
    int heads = c.int32("heads");
    int dim = c.int32("dim");
    DType dtype = c.dtype("input");
    HostTensor input =
        HostTensor.heads(dtype, rows, heads, dim, c.int32("input_pad"), c.int32("input_offset"))
            .fill(c.seed(), 0, c.text("input_fill"), c.number("input_scale"), c.text("special"));
    HostTensor table = HostTensor.ropeTable(c);
    HostTensor position = positions(c, rows);
    Rope.Style style = c.choice("style", Rope.Style.class);
    boolean inPlace = c.flag("in_place");
    Placed out =
        new Placed(
            scope,
            inPlace
                ? input
                : HostTensor.heads(
                    dtype, rows, heads, dim, c.int32("out_pad"), c.int32("out_offset")));
    Expected[] expected = new Expected[input.size()];
    for (int r = 0; r < rows; r++) {
      Traced row = new Traced(input.row(r));
      for (int h = 0; h < heads; h++) {
        row.rotate(h * dim, table, (int) position.integerAt(r), style);
      }
      for (int i = 0; i < input.cols; i++) {
        boolean copied = i % dim >= 2 * c.int32("pairs");
        expected[r * input.cols + i] = row.stored(dtype, i, copied || c.tag("exact"));
      }
    }
    Rope op =
        Rope.builder()
            .input(inPlace ? out.tensor() : input(input))
            .position(input(position))
            .table(input(table), style)
            .out(out.tensor())
            .build(scope);
    if (inPlace) {
      runOnce(op);
    } else {
      run(op, out);
    }
    Expected.checkAll("out", expected, out.read());
  }

  private static HostTensor positions(CaseRow c, int rows) {
    int count = c.int32("positions");
    HostTensor t = HostTensor.of(DType.I32, rows);
    for (int r = 0; r < rows; r++) {
      switch (c.text("position")) {
        case "random":
          t.setInteger(r, remainder(word(c.seed(), 1, r), count));
          break;
        case "ascending":
          t.setInteger(r, r % count);
          break;
        default:
          c.choice("position", "last");
          t.setInteger(r, count - 1);
      }
    }
    return t;
  }
}
