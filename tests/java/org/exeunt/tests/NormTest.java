// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import java.util.stream.Stream;
import org.exeunt.DType;
import org.exeunt.Norm;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class NormTest extends OpTest {
  NormTest() {
    super("norm");
  }

  static Stream<CaseRow> cases() {
    return CaseRow.of("norm");
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void matchesOracle(CaseRow c) {
    HostTensor input = HostTensor.matrix(c, "dim", "input", 0);
    long d = input.cols;
    Norm.Kind kind = c.choice("norm", Norm.Kind.class);
    float eps = c.number("eps");
    HostTensor weight =
        kind == Norm.Kind.NONE ? null : HostTensor.bells(DType.F32, c.seed(), 1, 0.25f, 1, d);
    HostTensor bias = c.flag("bias") ? HostTensor.bells(DType.F32, c.seed(), 3, 0.25f, 0, d) : null;
    boolean inPlace = c.flag("in_place");
    HostTensor out =
        inPlace
            ? input
            : new HostTensor(
                c.dtype("out"), input.shape, c.int32("out_pad"), c.int32("out_offset"));
    Placed placed = new Placed(scope, out);
    Norm.Builder builder =
        Norm.builder().input(inPlace ? placed.tensor() : input(input)).out(placed.tensor());
    if (kind == Norm.Kind.RMS) {
      builder.rms(input(weight), eps);
    } else if (kind == Norm.Kind.LAYER) {
      builder.layer(input(weight), input(bias), eps);
    }
    Expected[] expected = new Expected[input.size()];
    for (int r = 0; r < input.rows; r++) {
      Traced y = new Traced(input.row(r)).norm(kind, eps, weight, bias);
      for (int i = 0; i < d; i++) {
        expected[(int) (r * d) + i] = y.stored(out.dtype, i, kind == Norm.Kind.NONE);
      }
    }
    if (inPlace) {
      runOnce(builder.build(scope));
    } else {
      run(builder.build(scope), placed);
    }
    Expected.checkAll("out", expected, placed.read());
  }
}
