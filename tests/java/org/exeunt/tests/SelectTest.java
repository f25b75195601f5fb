// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import java.util.Arrays;
import java.util.stream.Stream;
import org.exeunt.Select;
import org.exeunt.tests.SelectionCase.Choice;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class SelectTest extends OpTest {
  SelectTest() {
    super("select");
  }

  static Stream<CaseRow> cases() {
    return CaseRow.of("select");
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void matchesOracle(CaseRow c) {
    int heads = Math.max(c.int32("heads"), 1);
    int rows = c.int32("rows");
    HostTensor scores = HostTensor.matrix(c, (long) rows * heads, "cols", "", 0);
    HostTensor limit = SelectionCase.limits(c, rows, scores.cols);
    SelectionCase selection = new SelectionCase(c, rows, scores.cols);
    Select op =
        Select.builder()
            .scores(input(scores))
            .heads(c.integer("heads"))
            .limit(input(limit))
            .select(selection.place(scope, this::input))
            .build(scope);
    run(op, selection.outputs());
    Choice[] expected = new Choice[rows];
    for (int r = 0; r < rows; r++) {
      int most = limit == null ? scores.cols : (int) limit.integerAt(r);
      expected[r] = selection.choose(sum(scores, r * heads, heads), most, r);
    }
    selection.check(expected);
  }

  /** The sum of two floats as a double, rounded once more, is what F32 makes of it. */
  private static double[] sum(HostTensor scores, int first, int heads) {
    double[] sum = scores.row(first);
    for (int h = 1; h < heads; h++) {
      double[] row = scores.row(first + h);
      Arrays.setAll(sum, j -> (float) (sum[j] + row[j]));
    }
    return sum;
  }
}
