// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Expected.F32;
import static org.exeunt.tests.Words.remainder;
import static org.exeunt.tests.Words.word;

import java.util.Set;
import java.util.stream.Stream;
import org.exeunt.DType;
import org.exeunt.Ffn;
import org.exeunt.Norm;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class FfnTest extends OpTest {
  FfnTest() {
    super("ffn");
  }

  static Stream<CaseRow> cases() {
    return CaseRow.of("ffn");
  }

  /** The tensors of a case. */
  private static final class Inputs {
    final HostTensor hidden;
    final HostTensor normWeight;
    final HostTensor normBias;
    final HostTensor gate;
    final HostTensor gateBias;
    final HostTensor up;
    final HostTensor upBias;
    final HostTensor down;
    final HostTensor downBias;
    final HostTensor skip;

    Inputs(CaseRow c) {
      hidden = HostTensor.matrix(c, "dim", "hidden", 0);
      int d = hidden.cols;
      int f = c.int32("width");
      boolean gated = c.flag("gate");
      boolean biased = c.flag("biases");
      boolean normed = c.choice("norm", Norm.Kind.class) != Norm.Kind.NONE;
      normWeight = bells(c, normed, 4, 0.25f, 1, d);
      normBias = bells(c, c.flag("norm_bias"), 5, 0.25f, 0, d);
      gate = gated ? HostTensor.weight(c, "normal", 1, f, d) : null;
      up = HostTensor.weight(c, "normal", 2, f, d);
      down = HostTensor.weight(c, "normal", 3, d, f);
      gateBias = bells(c, biased && gated, 6, 0.125f, 0, f);
      upBias = bells(c, biased, 7, 0.125f, 0, f);
      downBias = bells(c, biased, 8, 0.125f, 0, d);
      skip = c.given("skip") ? mask(c, hidden.rows) : null;
    }

    private static HostTensor bells(
        CaseRow c, boolean given, long stream, float scale, float shift, long size) {
      return given ? HostTensor.bells(DType.F32, c.seed(), stream, scale, shift, size) : null;
    }

    private static HostTensor mask(CaseRow c, int rows) {
      HostTensor t = HostTensor.of(DType.U8, rows);
      for (int r = 0; r < rows; r++) {
        t.setInteger(r, skips(c, r, rows) ? 1 + 127 * (r % 3) : 0);
      }
      return t;
    }

    private static boolean skips(CaseRow c, int row, int rows) {
      switch (c.choice("skip", "none", "all", "some", "alternate", "but_last")) {
        case 0:
          return false;
        case 1:
          return true;
        case 2:
          return remainder(word(c.seed(), 9, row), 3) == 0;
        case 3:
          return row % 2 == 0;
        default:
          return row + 1 < rows;
      }
    }

    boolean skips(int row) {
      return skip != null && skip.integerAt(row) != 0;
    }
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void matchesOracle(CaseRow c) {
    Inputs in = new Inputs(c);
    Norm.Kind norm = c.choice("norm", Norm.Kind.class);
    float eps = c.number("norm_eps");
    Ffn.Activation activation = c.choice("activation", Ffn.Activation.class);
    Set<String> outputs =
        c.given("outputs") ? c.subset("outputs", "cosine", "branch_cosine") : Set.of();
    boolean inPlace = c.flag("in_place");
    int rows = in.hidden.rows;
    int d = in.hidden.cols;
    Placed out =
        new Placed(
            scope,
            inPlace
                ? in.hidden
                : new HostTensor(
                    in.hidden.dtype, in.hidden.shape, c.int32("out_pad"), c.int32("out_offset")));
    Placed cosine = new Placed(scope, HostTensor.of(DType.F32, rows));
    Placed branchCosine = new Placed(scope, HostTensor.of(DType.F32, rows));
    Ffn.Builder builder =
        Ffn.builder()
            .hidden(inPlace ? out.tensor() : input(in.hidden))
            .gate(input(in.gate), input(in.gateBias))
            .up(input(in.up), input(in.upBias))
            .down(input(in.down), input(in.downBias))
            .activation(activation)
            .skip(input(in.skip))
            .out(out.tensor())
            .cosine(outputs.contains("cosine") ? cosine.tensor() : null)
            .branchCosine(outputs.contains("branch_cosine") ? branchCosine.tensor() : null);
    if (norm == Norm.Kind.RMS) {
      builder.rmsNorm(input(in.normWeight), eps);
    } else if (norm == Norm.Kind.LAYER) {
      builder.layerNorm(input(in.normWeight), input(in.normBias), eps);
    }
    Oracle oracle = new Oracle(in, norm, eps, activation);
    if (inPlace) {
      runOnce(builder.build(scope));
    } else {
      run(builder.build(scope), out, cosine, branchCosine);
    }
    HostTensor got = out.read();
    HostTensor cosines = cosine.read();
    HostTensor branchCosines = branchCosine.read();
    for (int r = 0; r < rows; r++) {
      Oracle.Row expected = oracle.rows[r];
      for (int i = 0; i < d; i++) {
        expected.out[i].check("out [" + r + "," + i + "]", got.at(r, i));
      }
      if (outputs.contains("cosine")) {
        expected.cosine.check("cosine [" + r + "]", cosines.at(r));
      }
      if (outputs.contains("branch_cosine")) {
        expected.branchCosine.check("branch_cosine [" + r + "]", branchCosines.at(r));
      }
    }
  }

  /** The block in double; takes the inputs as they are before a run in place. */
  private static final class Oracle {
    record Row(Expected[] out, Expected cosine, Expected branchCosine) {}

    final Row[] rows;
    private final Inputs in;
    private final Norm.Kind norm;
    private final double eps;
    private final Ffn.Activation activation;
    private final double[][] gate;
    private final double[][] up;
    private final double[][] down;

    Oracle(Inputs in, Norm.Kind norm, float eps, Ffn.Activation activation) {
      this.in = in;
      this.norm = norm;
      this.eps = eps;
      this.activation = activation;
      gate = in.gate == null ? null : in.gate.rows();
      up = in.up.rows();
      down = in.down.rows();
      rows = new Row[in.hidden.rows];
      for (int r = 0; r < rows.length; r++) {
        rows[r] = in.skips(r) ? passed(in.hidden.row(r)) : ran(in.hidden.row(r));
      }
    }

    private Row passed(double[] hidden) {
      Traced same = new Traced(hidden);
      return new Row(same.stored(in.hidden.dtype, true), Expected.NAN, Expected.NAN);
    }

    private Row ran(double[] hidden) {
      Traced x = new Traced(hidden).norm(norm, eps, in.normWeight, in.normBias);
      Traced a = x.times(up, in.upBias);
      a = gate == null ? activated(a) : activated(x.times(gate, in.gateBias)).times(a);
      Traced branch = a.times(down, in.downBias);
      Traced out = branch.plus(hidden);
      return new Row(out.stored(in.hidden.dtype, false), out.cosine(hidden), branch.cosine(hidden));
    }

    /** No slope exceeds 1.13; an exp, erf or tanh in f32 adds up to 1e-6 of its argument. */
    private Traced activated(Traced z) {
      double[] values = new double[z.size()];
      for (int i = 0; i < values.length; i++) {
        values[i] = activate(z.x[i]);
      }
      Traced a = new Traced(values);
      for (int i = 0; i < values.length; i++) {
        a.own[i] = 1.13 * z.own[i] + 16 * F32 * Math.abs(z.x[i]);
        a.common[i] = 1.13 * z.common[i];
      }
      return a;
    }

    private double activate(double z) {
      switch (activation) {
        case SILU:
          return z / (1 + Math.exp(-z));
        case GELU:
          return z / 2 * erfc(-z / Math.sqrt(2));
        default:
          return z / 2 * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (z + 0.044715 * z * z * z)));
      }
    }

    /** Abramowitz and Stegun 7.1.5 near 0, the continued fraction 7.1.14 far from it. */
    private static double erfc(double x) {
      if (x < 0) {
        return 2 - erfc(-x);
      }
      if (x < 2.5) {
        double term = x;
        double sum = x;
        for (int n = 1; n < 80; n++) {
          term *= -x * x / n;
          sum += term / (2 * n + 1);
        }
        return 1 - 2 / Math.sqrt(Math.PI) * sum;
      }
      double fraction = x;
      for (int k = 80; k > 0; k--) {
        fraction = x + k / 2.0 / fraction;
      }
      return Math.exp(-x * x) / Math.sqrt(Math.PI) / fraction;
    }
  }
}
