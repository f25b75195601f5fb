// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Expected.F32;
import static org.exeunt.tests.Expected.sumError;
import static org.exeunt.tests.Words.remainder;
import static org.exeunt.tests.Words.word;

import java.util.Arrays;
import java.util.stream.Stream;
import org.exeunt.Attention;
import org.exeunt.DType;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class AttentionTest extends OpTest {
  AttentionTest() {
    super("attention");
  }

  static Stream<CaseRow> cases() {
    return CaseRow.of("attention");
  }

  /** The tensors of a case. */
  private static final class Inputs {
    final CacheMemory cache;
    final HostTensor query;
    final HostTensor sequence;
    final HostTensor visible;

    Inputs(CaseRow c) {
      CacheShape shape = CacheShape.of(c, "", c.seed());
      int rows = c.int32("rows");
      int heads = c.int32("query_heads");
      query =
          HostTensor.heads(
                  c.dtype("query"),
                  rows,
                  heads,
                  shape.dim(),
                  c.int32("query_pad"),
                  c.int32("query_offset"))
              .fill(c.seed(), 0, c.text("fill"), c.number("query_scale"), c.text("special"));
      sequence = KvAppendTest.sequences(c, rows, shape.sequences());
      visible = HostTensor.of(DType.I32, rows);
      int[] seen = new int[shape.sequences()];
      for (int r = 0; r < rows; r++) {
        int count = visible(c, r, rows, shape);
        visible.setInteger(r, count);
        seen[sequence(r)] = Math.max(seen[sequence(r)], count);
      }
      cache = new CacheMemory(shape, c.dtype("cache"), c.int32("cache_offset"));
      int slots = shape.slots();
      String fill = c.text("fill");
      cache.fillSlots(
          cache.k,
          c.seed(),
          1,
          fill,
          c.number("key_scale"),
          row -> row % slots < seen[row / slots]);
      cache.fillSlots(cache.v, c.seed(), 2, fill, 1, row -> row % slots < seen[row / slots]);
      if (c.given("cache_special")) {
        spoil(c);
      }
    }

    private static int visible(CaseRow c, int row, int rows, CacheShape shape) {
      int slots = shape.slots();
      int any = (int) remainder(word(c.seed(), 5, row), slots + 1);
      switch (c.text("visible")) {
        case "all":
          return slots;
        case "random":
          return any;
        case "causal":
          return slots - rows + 1 + row;
        case "each":
          return row / shape.sequences() + 1;
        case "mixed":
          return new int[] {any, 0, 1, slots}[row % 4];
        default:
          return c.int32("visible");
      }
    }

    private void spoil(CaseRow c) {
      CacheShape shape = cache.shape;
      int which =
          c.choice(
              "cache_special",
              "k_nan",
              "k_pinf",
              "k_ninf",
              "v_nan",
              "v_pinf",
              "v_ninf",
              "k_ninf_half");
      int element = (int) remainder(word(c.seed(), 6, 0), shape.dim());
      int middle = shape.slots() / 2;
      if (which == 6) {
        for (int slot = 0; slot <= middle; slot++) {
          int head = shape.at(0, slot, shape.heads() - 1);
          cache.k.set(0, head + element, Double.NEGATIVE_INFINITY);
        }
        return;
      }
      double[] values = {Double.NaN, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY};
      HostTensor side = which < 3 ? cache.k : cache.v;
      side.set(0, shape.at(0, middle, shape.heads() - 1) + element, values[which % 3]);
    }

    int sequence(int row) {
      return sequence == null ? 0 : (int) sequence.integerAt(row);
    }
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void matchesOracle(CaseRow c) {
    Inputs in = new Inputs(c);
    CacheMemory cache = in.cache;
    int rows = in.query.rows;
    int heads = c.int32("query_heads");
    int dim = cache.shape.dim();
    int n = c.given("scores") ? c.int32("scores") : 0;
    float scale = c.number("scale");
    float softcap = c.number("softcap");
    DType dtype = c.dtype("out");
    Placed out =
        new Placed(
            scope,
            HostTensor.heads(
                dtype, rows, heads, dim, c.int32("out_pad"), c.int32("out_offset")));
    Placed scores = new Placed(scope, HostTensor.of(DType.F32, rows, heads, n));
    Attention op =
        Attention.builder()
            .query(input(in.query))
            .cache(
                PlacedCache.described(
                    cache.shape.layout(), input(cache.k), input(cache.v), input(cache.blockTable)))
            .sequence(input(in.sequence))
            .visible(input(in.visible))
            .scale(scale)
            .softcap(softcap)
            .out(out.tensor())
            .scores(c.given("scores") ? scores.tensor() : null)
            .build(scope);
    run(op, out, scores);
    HostTensor got = out.read();
    HostTensor gotScores = scores.read();
    for (int r = 0; r < rows; r++) {
      for (int h = 0; h < heads; h++) {
        String outAt = "out [" + r + "," + h + "]";
        String scoresAt = "scores [" + r + "," + h + "]";
        Head head = new Head(in, r, h, heads, scale, softcap);
        for (int i = 0; i < dim; i++) {
          head.out(dtype, i).check(outAt, got.at(r, h * dim + i));
        }
        for (int t = 0; t < n; t++) {
          head.score(t).check(scoresAt, gotScores.at((r * heads + h) * n + t));
        }
      }
    }
  }

  /** One query head over the slots it sees, in double. */
  private static final class Head {
    private final double[] score;
    private final double[] error;
    private final double[] weight;
    private final double[] moved;
    private final double[][] values; // of each element, in all slots
    private double top = Double.NEGATIVE_INFINITY;

    Head(Inputs in, int row, int head, int heads, double scale, double softcap) {
      CacheShape shape = in.cache.shape;
      int dim = shape.dim();
      int visible = (int) in.visible.integerAt(row);
      int kvHead = head / (heads / shape.heads());
      score = new double[visible];
      error = new double[visible];
      weight = new double[visible];
      moved = new double[visible];
      values = new double[dim][visible];
      double[] query = new double[dim];
      Arrays.setAll(query, i -> in.query.at(row, head * dim + i));
      for (int t = 0; t < visible; t++) {
        int at = shape.at(in.sequence(row), t, kvHead);
        double magnitude = 0;
        for (int i = 0; i < dim; i++) {
          double term = query[i] * in.cache.k.at(at + i);
          score[t] += term * scale;
          magnitude += Math.abs(term) * scale;
          values[i][t] = in.cache.v.at(at + i);
        }
        error[t] = F32 * (sumError(dim) * magnitude + Math.abs(score[t]));
        if (softcap > 0) {
          score[t] = softcap * Math.tanh(score[t] / softcap);
          error[t] += 8 * F32 * Math.abs(score[t]);
        }
        error[t] = Double.isFinite(magnitude) ? error[t] : 0; // an infinity is exact
        top = Math.max(top, score[t]);
      }
      softmax();
    }

    private void softmax() {
      double total = 0;
      for (int t = 0; t < weight.length; t++) {
        // With a score of +inf, or nothing but -inf, the difference is NaN, as the contract has it.
        boolean nothing = score[t] == Double.NEGATIVE_INFINITY && top != score[t];
        weight[t] = nothing ? 0 : Math.exp(score[t] - top);
        total += weight[t];
      }
      for (int t = 0; t < weight.length; t++) {
        weight[t] /= total;
        double relative = error[t] + F32 * (8 + 3 * Math.abs(score[t] - top));
        moved[t] = weight[t] > 0 ? weight[t] * Math.expm1(relative) : 0;
      }
    }

    Expected score(int slot) {
      return slot < score.length
          ? Expected.stored(DType.F32, score[slot], error[slot])
          : new Expected(Double.NEGATIVE_INFINITY, 0);
    }

    /** An error e of a score moves the mean by weight * e * (v - mean). */
    Expected out(DType dtype, int element) {
      if (weight.length == 0) {
        return Expected.ZERO;
      }
      double[] v = values[element];
      double mean = 0;
      double magnitude = 0;
      for (int t = 0; t < v.length; t++) {
        mean += weight[t] * v[t];
        magnitude += weight[t] * Math.abs(v[t]);
      }
      double error = 0;
      for (int t = 0; t < v.length; t++) {
        if (weight[t] > 0) {
          error += moved[t] * Math.abs(v[t] - mean);
        }
      }
      double sums = F32 * sumError(v.length) * (magnitude + Math.abs(mean));
      return Expected.stored(dtype, mean, error + sums);
    }
  }
}
