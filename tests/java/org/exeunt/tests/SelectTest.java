// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

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
    HostTensor scores = HostTensor.matrix(c, "cols", "", 0);
    HostTensor limit = SelectionCase.limits(c, scores.rows, scores.cols);
    SelectionCase selection = new SelectionCase(c, scores.rows, scores.cols);
    Select op =
        Select.builder()
            .scores(input(scores))
            .limit(input(limit))
            .select(selection.place(scope, this::input))
            .build(scope);
    run(op, selection.outputs());
    Choice[] expected = new Choice[scores.rows];
    for (int r = 0; r < scores.rows; r++) {
      int most = limit == null ? scores.cols : (int) limit.integerAt(r);
      expected[r] = selection.choose(scores.row(r), most, r);
    }
    selection.check(expected);
  }
}
