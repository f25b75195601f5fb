// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.stream.Stream;
import org.exeunt.DType;
import org.exeunt.PerpGrad;
import org.exeunt.PerpGrad.Form;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class PerpGradTest extends OpTest {
  PerpGradTest() {
    super("perp_grad");
  }

  static Stream<CaseRow> cases() {
    return CaseRow.of("perp_grad");
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void matchesOracle(CaseRow c) {
    DType dtype = c.dtype("dtype");
    long[] shape = Stream.of(c.text("shape").split("x")).mapToLong(Long::parseLong).toArray();
    long size = Arrays.stream(shape).reduce(1, (a, b) -> a * b);
    int offset = c.int32("offset");
    HostTensor weight = new HostTensor(dtype, new long[] {size}, 0, offset);
    HostTensor grad = new HostTensor(dtype, new long[] {size}, 0, offset);
    weight.fill(c.seed(), 0, c.text("weight_fill"), c.number("weight_scale"), "-");
    if (!grad.derive(weight, c.text("grad_fill"), c.seed(), c.number("grad_scale"))) {
      grad.fill(c.seed(), 1, c.text("grad_fill"), c.number("grad_scale"), "-");
    }
    applySpecial(c, weight, grad);
    Form form = c.choice("form", Form.class);
    boolean inPlace = c.flag("in_place");

    Placed out =
        new Placed(scope, inPlace ? grad : new HostTensor(dtype, new long[] {size}, 0, offset));
    PerpGrad op =
        PerpGrad.builder()
            .weight(input(weight).reshape(shape))
            .grad(inPlace ? out.tensor().reshape(shape) : input(grad).reshape(shape))
            .out(out.tensor().reshape(shape))
            .form(form)
            .build(scope);
    if (inPlace) {
      runOnce(op);
    } else {
      run(op, out);
    }
    new Oracle(weight.row(0), grad.row(0), dtype, form).check(out.read());
  }

  private static void applySpecial(CaseRow c, HostTensor weight, HostTensor grad) {
    String special = c.text("special");
    if (special.startsWith("weight_")) {
      weight.special(c.seed(), 0, special.substring(7));
    } else if (special.startsWith("grad_")) {
      grad.special(c.seed(), 1, special.substring(5));
    }
  }

  /** The projection in double. */
  static final class Oracle {
    private final Expected[] out;

    /** Rounding decides whether the guard returns 0 or noise: only a length can be compared. */
    private boolean noise;

    private double longest;

    Oracle(double[] w, double[] g, DType dtype, Form form) {
      int n = w.length;
      out = new Expected[n];
      double u = Expected.arithmetic(dtype);
      double wg = 0;
      double ww = 0;
      double gg = 0;
      double magnitude = 0;
      for (int i = 0; i < n; i++) {
        if (!Double.isFinite(w[i]) || !Double.isFinite(g[i])) {
          Arrays.fill(out, Expected.NAN);
          return;
        }
        wg += w[i] * g[i];
        magnitude += Math.abs(w[i] * g[i]);
        ww += w[i] * w[i];
        gg += g[i] * g[i];
      }
      double divisor = ww + 1e-30;
      double alpha = wg / divisor;
      double sums = u * Expected.sumError(n);
      double alphaError = sums * (magnitude / divisor + Math.abs(alpha));
      double[] perp = new double[n];
      double[] error = new double[n];
      double pp = 0;
      double cross = 0;
      for (int i = 0; i < n; i++) {
        perp[i] = g[i] - alpha * w[i];
        double own = 2 * u * (Math.abs(g[i]) + Math.abs(alpha * w[i]));
        error[i] = own + alphaError * Math.abs(w[i]);
        pp += perp[i] * perp[i];
        cross += perp[i] * perp[i] * own * own;
      }
      double length = Math.sqrt(pp);
      double full = Math.sqrt(gg);
      double guard = Expected.rounding(dtype) * (dtype == DType.F64 ? 8 : 1) * full;
      longest = form == Form.CODE ? full : 8 * guard;
      if (length <= guard / 8) {
        Arrays.fill(out, Expected.ZERO);
        return;
      }
      noise = length <= guard * 8;
      double scale = 1;
      double scaleError = 0;
      if (form == Form.CODE) {
        scale = full / (length + 1e-30);
        scaleError = sums + 4 * Math.sqrt(cross) / pp + alphaError * alphaError * ww / pp;
      }
      for (int i = 0; i < n; i++) {
        double v = perp[i] * scale;
        out[i] = Expected.stored(dtype, v, error[i] * scale + (scaleError + 3 * u) * Math.abs(v));
      }
    }

    void check(HostTensor got) {
      if (!noise) {
        Expected.checkAll("out", out, got);
        return;
      }
      double sum = 0;
      for (double v : got.row(0)) {
        sum += v * v;
      }
      double length = Math.sqrt(sum);
      assertTrue(length <= longest * 1.01, "noise of length " + length + ", longest is " + longest);
    }
  }
}
