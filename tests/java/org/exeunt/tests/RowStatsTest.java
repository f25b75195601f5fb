// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import java.util.Map;
import java.util.stream.Stream;
import org.exeunt.Normalizer;
import org.exeunt.RowStats;
import org.exeunt.Statistic;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class RowStatsTest extends OpTest {
  RowStatsTest() {
    super("row_stats");
  }

  static Stream<CaseRow> cases() {
    return CaseRow.of("row_stats");
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void matchesOracle(CaseRow c) {
    HostTensor logits = HostTensor.matrix(c, "cols", "", 0);
    Normalizer normalizer = c.choice("normalizer", Normalizer.class);
    float temperature = c.number("temperature");
    float softcap = c.number("softcap");
    StatsOracle.Outputs out = new StatsOracle.Outputs(scope, c, logits.rows);
    RowStats op =
        RowStats.builder()
            .logits(input(logits))
            .normalizer(normalizer)
            .temperature(temperature)
            .softcap(softcap)
            .out(out.tensors())
            .build(scope);
    run(op, out.placed());
    Map<Statistic, HostTensor> got = out.read();
    for (int r = 0; r < logits.rows; r++) {
      new StatsOracle(
              logits.row(r), new double[logits.cols], null, normalizer, temperature, softcap)
          .check(got, r);
    }
  }
}
