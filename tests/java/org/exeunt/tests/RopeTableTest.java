// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import java.util.stream.Stream;
import org.exeunt.DType;
import org.exeunt.RopeTable;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class RopeTableTest extends OpTest {
  RopeTableTest() {
    super("rope_table");
  }

  static Stream<CaseRow> cases() {
    return CaseRow.of("rope_table");
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void matchesOracle(CaseRow c) {
    c.seed(); // nothing here is random
    int positions = c.int32("positions");
    int pairs = c.int32("pairs");
    double base = c.number("base");
    double factor = c.number("factor");
    long[] shape = {positions, pairs, 2};
    Placed table = new Placed(scope, new HostTensor(DType.F32, shape, 0, c.int32("offset")));
    RopeTable.Builder builder = RopeTable.builder().table(table.tensor()).base(base);
    double stretched = 1;
    switch (c.text("scaling")) {
      case "linear":
        builder.linear(factor);
        stretched = factor;
        break;
      case "ntk":
        builder.ntk(factor);
        base *= Math.pow(factor, 2.0 * pairs / (2.0 * pairs - 2));
        break;
      default:
        c.choice("scaling", "none");
    }
    run(builder.build(scope), table);
    HostTensor got = table.read();
    for (int t = 0; t < positions; t++) {
      for (int i = 0; i < pairs; i++) {
        double angle = t / stretched * Math.pow(base, -2.0 * i / (2.0 * pairs));
        double error = 32 * 0x1p-53 * (angle + 1); // in f64, of both sides
        int at = (t * pairs + i) * 2;
        String where = "position " + t + ", pair " + i;
        Expected.stored(DType.F32, Math.cos(angle), error).check(where + ", cos", got.at(at));
        Expected.stored(DType.F32, Math.sin(angle), error).check(where + ", sin", got.at(at + 1));
      }
    }
  }
}
