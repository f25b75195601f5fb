// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import java.util.Arrays;
import java.util.stream.Stream;
import org.exeunt.DType;
import org.exeunt.Normalizer;
import org.exeunt.StableMax;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class StableMaxTest extends OpTest {
  StableMaxTest() {
    super("stablemax");
  }

  static Stream<CaseRow> cases() {
    return CaseRow.of("stablemax");
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void matchesOracle(CaseRow c) {
    HostTensor logits = HostTensor.matrix(c, "cols", "", 0);
    Normalizer normalizer = c.choice("normalizer", Normalizer.class);
    boolean log = c.flag("log");
    boolean inPlace = c.flag("in_place");
    Placed out =
        new Placed(
            scope,
            inPlace
                ? logits
                : new HostTensor(
                    logits.dtype, logits.shape, c.int32("out_pad"), c.int32("out_offset")));
    StableMax op =
        (log ? StableMax.logForward() : StableMax.forward())
            .logits(inPlace ? out.tensor() : input(logits))
            .out(out.tensor())
            .normalizer(normalizer)
            .build(scope);
    if (inPlace) {
      runOnce(op);
    } else {
      run(op, out);
    }
    Expected.checkAll("out", oracle(logits, normalizer, log), out.read());
  }

  static Expected[] oracle(HostTensor logits, Normalizer normalizer, boolean log) {
    DType dtype = logits.dtype;
    double u = Expected.arithmetic(dtype);
    Expected[] out = new Expected[logits.size()];
    for (int r = 0; r < logits.rows; r++) {
      int at = r * logits.cols;
      double[] z = logits.row(r);
      if (!Scores.valid(z)) {
        Arrays.fill(out, at, at + logits.cols, Expected.NAN);
        continue;
      }
      Scores s = Scores.of(z, normalizer, u);
      for (int j = 0; j < z.length; j++) {
        out[at + j] =
            log
                ? Expected.stored(dtype, s.x[j] - s.lse, s.logBound(j, u))
                : Expected.stored(dtype, s.p[j], s.probabilityBound(j, u));
      }
    }
    return out;
  }
}
