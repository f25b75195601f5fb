// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Expected.F32;

import java.util.Arrays;
import java.util.stream.Stream;
import org.exeunt.DType;
import org.exeunt.Gate;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class GateTest extends OpTest {
  private static final int RESIDUAL = 1;
  private static final int TANH = 2;

  GateTest() {
    super("gate");
  }

  static Stream<CaseRow> cases() {
    return CaseRow.of("gate");
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void matchesOracle(CaseRow c) {
    HostTensor features = HostTensor.matrix(c, "dim", "", 0);
    long d = features.cols;
    DType type = c.dtype("weight_dtype");
    float scale = c.number("weight_scale");
    int kind = c.choice("kind", "linear", "residual", "tanh");
    int repeats = c.int32("repeats");
    long layers = kind == TANH ? repeats : 1;
    HostTensor hidden = null;
    HostTensor hiddenBias = null;
    if (kind != 0) {
      long[] shape = kind == TANH ? new long[] {layers, d, d} : new long[] {d, d};
      hidden = HostTensor.bells(type, c.seed(), 1, scale, 0, shape);
      long[] biasShape = kind == TANH ? new long[] {layers, d} : new long[] {d};
      hiddenBias =
          c.flag("hidden_bias")
              ? HostTensor.bells(DType.F32, c.seed(), 2, 0.125f, 0, biasShape)
              : null;
    }
    long classes = c.integer("classes");
    HostTensor head = HostTensor.bells(type, c.seed(), 3, scale, 0, classes, d);
    HostTensor headBias =
        c.flag("out_bias") ? HostTensor.bells(DType.F32, c.seed(), 4, 0.125f, 0, classes) : null;

    Placed prob = new Placed(scope, HostTensor.of(DType.F32, features.rows));
    Gate.Builder builder =
        Gate.builder()
            .features(input(features))
            .output(input(head), input(headBias))
            .prob(prob.tensor());
    if (kind == RESIDUAL) {
      builder.residual(input(hidden), input(hiddenBias), repeats);
    } else if (kind == TANH) {
      builder.tanh(input(hidden), input(hiddenBias), repeats);
    }
    run(builder.build(scope), prob);
    HostTensor got = prob.read();
    for (int r = 0; r < features.rows; r++) {
      oracle(features.row(r), kind, repeats, hidden, hiddenBias, head, headBias)
          .check("row " + r, got.at(r));
    }
  }

  private static Expected oracle(
      double[] row,
      int kind,
      int repeats,
      HostTensor hidden,
      HostTensor hiddenBias,
      HostTensor head,
      HostTensor headBias) {
    for (double v : row) {
      if (Double.isNaN(v)) {
        return Expected.NAN;
      }
    }
    if (Arrays.stream(row).anyMatch(Double::isInfinite)) {
      return new Expected(0, Double.POSITIVE_INFINITY); // depends on the order of operations
    }
    Affine y = new Affine(row, new double[row.length]);
    for (int k = 0; kind != 0 && k < repeats; k++) {
      int first = kind == TANH ? k * row.length : 0;
      Affine v = y.times(hidden, first, row.length, hiddenBias);
      y = kind == TANH ? v.tanh() : y.plusSilu(v);
    }
    return y.times(head, 0, head.rows, headBias).probability();
  }

  private static double sigmoid(double x) {
    return 1 / (1 + Math.exp(-x));
  }

  /** A vector with an error for each element. */
  private record Affine(double[] value, double[] error) {

    /**
     * {@code M y + bias}; the matrix begins at row {@code first} of {@code m} seen as rows of D
     * columns.
     */
    Affine times(HostTensor m, int first, int rows, HostTensor bias) {
      int n = value.length;
      Affine v = new Affine(new double[rows], new double[rows]);
      for (int i = 0; i < rows; i++) {
        double sum = 0;
        double magnitude = 0;
        double independent = 0;
        for (int j = 0; j < n; j++) {
          int at = (first + i) * n + j;
          double w = m.at(at / m.cols, at % m.cols);
          sum += w * value[j];
          magnitude += Math.abs(w * value[j]);
          independent += w * w * error[j] * error[j];
        }
        if (bias != null) {
          int at = first + i;
          sum += bias.at(at / bias.cols, at % bias.cols);
        }
        v.value[i] = sum;
        v.error[i] =
            F32 * (Expected.sumError(n) * magnitude + Math.abs(sum)) + 4 * Math.sqrt(independent);
      }
      return v;
    }

    Affine tanh() {
      Affine y = new Affine(new double[value.length], new double[value.length]);
      for (int i = 0; i < value.length; i++) {
        y.value[i] = Math.tanh(value[i]);
        y.error[i] = Math.min(error[i], 1) + 4 * F32 * Math.abs(y.value[i]);
      }
      return y;
    }

    Affine plusSilu(Affine v) {
      Affine y = new Affine(value.clone(), error.clone());
      for (int i = 0; i < value.length; i++) {
        double silu = v.value[i] * sigmoid(v.value[i]);
        y.value[i] += silu;
        y.error[i] += 1.1 * v.error[i] + F32 * (6 * Math.abs(silu) + Math.abs(y.value[i]));
      }
      return y;
    }

    Expected probability() {
      boolean one = value.length == 1;
      double x = one ? value[0] : value[1] - value[0];
      double e = one ? error[0] : error[0] + error[1] + 2 * F32 * Math.abs(x);
      double p = sigmoid(x);
      double moved = Math.max(sigmoid(x + e) - p, p - sigmoid(x - e));
      double own = (8 + Math.abs(x) * (1 - p)) * F32 * p;
      return new Expected(p, moved + own + Expected.smallest(DType.F32));
    }
  }
}
