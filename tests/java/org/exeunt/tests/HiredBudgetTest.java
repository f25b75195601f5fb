// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.math.BigDecimal;
import java.util.Arrays;
import java.util.Comparator;
import java.util.Set;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.exeunt.DType;
import org.exeunt.HiredBudget;
import org.exeunt.HiredBudget.Region;
import org.exeunt.HiredBudget.Remainder;
import org.exeunt.HiredBudget.Score;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class HiredBudgetTest extends OpTest {
  HiredBudgetTest() {
    super("hired_budget");
  }

  static Stream<CaseRow> cases() {
    return CaseRow.of("hired_budget");
  }

  /** The settings of a case. */
  private record Settings(
      int patchRows,
      int patchCols,
      int gridRows,
      int gridCols,
      double rate,
      double alpha,
      Score score,
      Region region,
      Remainder remainder) {
    static Settings of(CaseRow c) {
      return new Settings(
          c.int32("patch_rows"),
          c.int32("patch_cols"),
          c.int32("grid_rows"),
          c.int32("grid_cols"),
          Double.parseDouble(c.text("rate")),
          Double.parseDouble(c.text("alpha")),
          c.choice("score", Score.class),
          c.choice("region", Region.class),
          Remainder.values()[c.choice("remainder", "truncate", "largest")]);
    }

    int patches() {
      return patchRows * patchCols;
    }

    int parts() {
      return gridRows * gridCols;
    }
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void matchesOracle(CaseRow c) {
    Settings s = Settings.of(c);
    int images = c.int32("images");
    HostTensor attention =
        new HostTensor(
                DType.F32,
                new long[] {images, s.patches()},
                c.int32("pad"),
                c.int32("offset"))
            .fill(c.seed(), 0, c.text("fill"), c.number("scale"), c.text("special"));
    Set<String> outputs = c.given("outputs") ? c.subset("outputs", "marks", "valid") : Set.of();
    Placed budget = new Placed(scope, HostTensor.of(DType.I32, images, 1 + s.parts()));
    Placed marks = new Placed(scope, HostTensor.of(DType.U8, images, s.patches()));
    Placed valid = new Placed(scope, HostTensor.of(DType.U8, images));
    HiredBudget op =
        HiredBudget.builder()
            .attention(input(attention))
            .budget(budget.tensor())
            .marks(outputs.contains("marks") ? marks.tensor() : null)
            .valid(outputs.contains("valid") ? valid.tensor() : null)
            .rate(s.rate, s.alpha)
            .patches(s.patchRows, s.patchCols)
            .grid(s.gridRows, s.gridCols)
            .score(s.score)
            .region(s.region)
            .remainder(s.remainder)
            .build(scope);
    run(op, budget, marks, valid);
    HostTensor budgets = budget.read();
    HostTensor counted = marks.read();
    HostTensor judged = valid.read();
    for (int i = 0; i < images; i++) {
      Image image = new Image(s, attention.row(i));
      String where = " of image " + i;
      if (!image.uncertain) {
        assertEquals(
            Arrays.toString(image.budget), Arrays.toString(integers(budgets, i)), "budget" + where);
      }
      if (outputs.contains("marks")) {
        assertEquals(
            Arrays.toString(image.marks), Arrays.toString(integers(counted, i)), "marks" + where);
      }
      if (outputs.contains("valid")) {
        assertEquals(image.valid ? 1 : 0, judged.integerAt(i), "valid" + where);
      }
    }
  }

  private static int[] integers(HostTensor t, int row) {
    return IntStream.range(row * t.cols, (row + 1) * t.cols)
        .map(i -> (int) t.integerAt(i))
        .toArray();
  }

  /** What one image gets. */
  private static final class Image {
    private final Settings s;
    private final double[] attention;
    final int[] budget;
    final int[] marks;
    final boolean valid;

    /** Summing in double may round a share to another f32. */
    boolean uncertain;

    Image(Settings s, double[] attention) {
      this.s = s;
      this.attention = attention;
      budget = new int[1 + s.parts()];
      marks = new int[s.patches()];
      valid = Arrays.stream(attention).allMatch(Double::isFinite);
      if (!valid) {
        Arrays.fill(budget, s.patches());
        return;
      }
      long all = (long) (budget.length * s.patches() * s.rate);
      budget[0] = (int) Math.min((long) (all * s.alpha), s.patches());
      if (s.score == Score.TOP_COUNT) {
        best(attention, (int) (s.patches() * (1 - s.alpha))).forEach(t -> marks[t] = 1);
      }
      if (s.parts() > 0) {
        share((int) Math.min(all - budget[0], s.parts() * s.patches()));
      }
    }

    /** The indices of the largest values, ties to the smaller index. */
    private static Stream<Integer> best(double[] values, int count) {
      return IntStream.range(0, values.length)
          .boxed()
          .sorted(Comparator.comparingDouble(i -> 0.0 - values[i]))
          .limit(count);
    }

    private int region(int token) {
      if (s.region == Region.STRIP) {
        return token / (s.patches() / s.parts());
      }
      int row = token / s.patchCols / (s.patchRows / s.gridRows);
      return row * s.gridCols + token % s.patchCols / (s.patchCols / s.gridCols);
    }

    private void share(int forParts) {
      BigDecimal[] scores = new BigDecimal[s.parts()];
      Arrays.fill(scores, BigDecimal.ZERO);
      double[] off = new double[s.parts()];
      for (int t = 0; t < attention.length; t++) {
        boolean sums = s.score == Score.SUM;
        double term = sums ? attention[t] : marks[t];
        scores[region(t)] = scores[region(t)].add(new BigDecimal(term));
        off[region(t)] += sums ? Math.abs(term) * attention.length * 0x1p-52 : 0;
      }
      double sum = Arrays.stream(scores).reduce(BigDecimal.ZERO, BigDecimal::add).doubleValue();
      double sumOff = Arrays.stream(off).sum();
      uncertain = sum != 0 && Math.abs(sum) <= sumOff;
      float[] quota = new float[s.parts()];
      for (int i = 0; i < quota.length; i++) {
        double score = scores[i].doubleValue();
        double share = sum > 0 ? score / sum : 1.0 / s.parts();
        if (sum > 0) {
          double around = (off[i] + sumOff * Math.abs(share)) / sum;
          uncertain |= (float) (share - around) != (float) (share + around);
        }
        quota[i] = (float) share * forParts;
      }
      deal(quota, forParts);
    }

    private void deal(float[] quota, int forParts) {
      double[] fraction = new double[quota.length];
      int left = forParts;
      for (int i = 0; i < quota.length; i++) {
        float within = Math.max(0, Math.min(quota[i], s.patches()));
        budget[i + 1] = (int) within;
        fraction[i] = within - budget[i + 1];
        left -= budget[i + 1];
      }
      if (s.remainder == Remainder.TRUNCATE) {
        return;
      }
      int[] order = best(fraction, quota.length).mapToInt(i -> i).toArray();
      for (int turn = 0; left > 0; turn++) {
        int i = order[turn % order.length];
        if (budget[i + 1] < s.patches()) {
          budget[i + 1]++;
          left--;
        }
      }
    }
  }
}
