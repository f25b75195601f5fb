// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Words.remainder;
import static org.exeunt.tests.Words.word;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.stream.Stream;
import org.exeunt.CrossEntropy;
import org.exeunt.CrossEntropy.Reduction;
import org.exeunt.DType;
import org.exeunt.Normalizer;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class CrossEntropyTest extends OpTest {
  CrossEntropyTest() {
    super("cross_entropy");
  }

  static Stream<CaseRow> cases() {
    return CaseRow.of("cross_entropy");
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void matchesOracle(CaseRow c) {
    HostTensor logits = HostTensor.matrix(c, "cols", "", 0);
    HostTensor labels = makeLabels(c, logits);
    Normalizer normalizer = c.choice("normalizer", Normalizer.class);
    Reduction reduction = c.choice("reduction", Reduction.class);
    Set<String> outputs = c.subset("outputs", "loss", "grad");
    boolean inPlace = c.flag("in_place");

    DType lossType = logits.dtype == DType.F64 ? DType.F64 : DType.F32;
    long losses = reduction == Reduction.MEAN ? 1 : logits.rows;
    Placed loss =
        outputs.contains("loss") ? new Placed(scope, HostTensor.of(lossType, losses)) : null;
    Placed grad = outputs.contains("grad") ? new Placed(scope, gradient(c, logits, inPlace)) : null;
    CrossEntropy op =
        CrossEntropy.builder()
            .logits(inPlace ? grad.tensor() : input(logits))
            .labels(input(labels))
            .loss(loss == null ? null : loss.tensor())
            .grad(grad == null ? null : grad.tensor())
            .ignoreIndex(c.integer("ignore_index"))
            .normalizer(normalizer)
            .reduction(reduction)
            .build(scope);
    if (inPlace) {
      runOnce(op);
    } else {
      run(op, Stream.of(loss, grad).filter(p -> p != null).toArray(Placed[]::new));
    }
    Oracle oracle = new Oracle(logits, labels, c.integer("ignore_index"), normalizer, reduction);
    if (loss != null) {
      Expected.checkAll("loss", oracle.loss.toArray(Expected[]::new), loss.read());
    }
    if (grad != null) {
      Expected.checkAll("grad", oracle.grad, grad.read());
    }
  }

  private static HostTensor gradient(CaseRow c, HostTensor logits, boolean inPlace) {
    return inPlace
        ? logits
        : new HostTensor(logits.dtype, logits.shape, c.int32("grad_pad"), c.int32("grad_offset"));
  }

  private static HostTensor makeLabels(CaseRow c, HostTensor logits) {
    HostTensor labels = HostTensor.of(c.dtype("label_dtype"), logits.rows);
    int kind = c.choice("labels", "random", "some", "ignored", "last");
    for (int r = 0; r < logits.rows; r++) {
      boolean ignored = kind == 2 || kind == 1 && r % 4 == 2;
      long label = kind == 3 ? logits.cols - 1 : remainder(word(c.seed(), 1, r), logits.cols);
      labels.setInteger(r, ignored ? c.integer("ignore_index") : label);
    }
    return labels;
  }

  /** Loss and gradient in double. */
  static final class Oracle {
    final List<Expected> loss = new ArrayList<>();
    final Expected[] grad;
    private final double u;
    private final DType dtype;
    private final Normalizer normalizer;

    Oracle(
        HostTensor logits,
        HostTensor labels,
        long ignore,
        Normalizer normalizer,
        Reduction reduction) {
      dtype = logits.dtype;
      u = Expected.arithmetic(dtype);
      this.normalizer = normalizer;
      grad = new Expected[logits.size()];
      boolean mean = reduction == Reduction.MEAN;
      int counted = 0;
      for (int r = 0; r < logits.rows; r++) {
        counted += labels.integerAt(r) != ignore ? 1 : 0;
      }
      double divisor = mean && counted > 0 ? counted : 1;
      double total = 0;
      double magnitude = 0;
      double bound = 0;
      DType lossType = dtype == DType.F64 ? DType.F64 : DType.F32;
      for (int r = 0; r < logits.rows; r++) {
        Expected row =
            ignored(labels, r, ignore, logits) ? Expected.ZERO : row(logits, r, labels, divisor);
        total += row.value();
        magnitude += Math.abs(row.value());
        bound += row.bound();
        if (!mean) {
          loss.add(
              row == Expected.ZERO ? row : Expected.stored(lossType, row.value(), row.bound()));
        }
      }
      if (mean) {
        double sums = bound + u * Expected.sumError(counted) * magnitude;
        loss.add(
            counted == 0
                ? Expected.NAN
                : Expected.stored(lossType, total / counted, sums / counted));
      }
    }

    private boolean ignored(HostTensor labels, int r, long ignore, HostTensor logits) {
      if (labels.integerAt(r) != ignore) {
        return false;
      }
      Arrays.fill(grad, r * logits.cols, (r + 1) * logits.cols, Expected.ZERO);
      return true;
    }

    private Expected row(HostTensor logits, int r, HostTensor labels, double divisor) {
      double[] z = logits.row(r);
      int label = (int) labels.integerAt(r);
      int at = r * z.length;
      if (!Scores.valid(z)) {
        Arrays.fill(grad, at, at + z.length, Expected.NAN);
        return Expected.NAN;
      }
      Scores s = Scores.of(z, normalizer, u);
      for (int j = 0; j < z.length; j++) {
        double hot = j == label ? 1 : 0;
        double slope = normalizer == Normalizer.STABLEMAX ? 1 / (1 + Math.abs(z[j])) : 1;
        double g = slope * (s.p[j] - hot) / divisor;
        double bound = slope * (s.probabilityBound(j, u) + 4 * u * (s.p[j] + hot)) / divisor;
        grad[at + j] = Expected.stored(dtype, g, bound + 2 * u * Math.abs(g));
      }
      return new Expected(s.lse - s.x[label], s.logBound(label, u));
    }
  }
}
