// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import java.util.stream.Stream;
import org.exeunt.DType;
import org.exeunt.Linear;
import org.exeunt.Tensor;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class LinearTest extends OpTest {
  LinearTest() {
    super("linear");
  }

  static Stream<CaseRow> cases() {
    return CaseRow.of("linear");
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void matchesOracle(CaseRow c) {
    HostTensor input = HostTensor.matrix(c, "dim", "input", 0);
    int n = c.int32("cols");
    HostTensor weight = HostTensor.weight(c, c.text("weight_fill"), 1, n, input.cols);
    HostTensor bias =
        c.given("bias")
            ? HostTensor.of(DType.F32, n).fill(c.seed(), 2, c.text("bias"), 1, "-")
            : null;
    boolean inPlace = c.flag("in_place");
    long[] shape = {input.rows, n};
    HostTensor out =
        new HostTensor(c.dtype("out"), shape, c.int32("out_pad"), c.int32("out_offset"));
    HostTensor residual = null;
    if (c.given("residual")) {
      int pad = c.int32("residual_pad");
      residual = inPlace ? out : new HostTensor(out.dtype, shape, pad, 0);
      residual.fill(c.seed(), 3, c.text("residual"), 1, "-");
    }
    Expected[] expected = oracle(c, input, weight, bias, residual, out.dtype);
    Placed placed = new Placed(scope, out);
    Tensor added = inPlace ? placed.tensor() : input(residual);
    Linear op =
        Linear.builder()
            .input(input(input))
            .weight(input(weight))
            .bias(input(bias))
            .residual(added)
            .out(placed.tensor())
            .build(scope);
    if (inPlace) {
      runOnce(op);
    } else {
      run(op, placed);
    }
    Expected.checkAll("out", expected, placed.read());
  }

  private static Expected[] oracle(
      CaseRow c,
      HostTensor input,
      HostTensor weight,
      HostTensor bias,
      HostTensor residual,
      DType dtype) {
    int n = weight.rows;
    double[][] w = weight.rows();
    Expected[] out = new Expected[input.rows * n];
    for (int r = 0; r < input.rows; r++) {
      Traced y = new Traced(input.row(r)).times(w, bias);
      if (residual != null) {
        y = y.plus(residual.row(r));
      }
      for (int i = 0; i < n; i++) {
        out[r * n + i] = y.stored(dtype, i, c.tag("exact"));
      }
    }
    return out;
  }
}
