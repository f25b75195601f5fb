// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Expected.F32;
import static org.exeunt.tests.Expected.sumError;
import static org.exeunt.tests.Words.remainder;
import static org.exeunt.tests.Words.word;

import java.util.Arrays;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.exeunt.AttentionScores;
import org.exeunt.AttentionScores.Heads;
import org.exeunt.AttentionScores.Kind;
import org.exeunt.AttentionScores.Pool;
import org.exeunt.DType;
import org.exeunt.tests.SelectionCase.Choice;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class AttentionScoresTest extends OpTest {
  AttentionScoresTest() {
    super("attention_scores");
  }

  static Stream<CaseRow> cases() {
    return CaseRow.of("attention_scores");
  }

  /** The tensors and settings of a case. */
  private static final class Inputs {
    final CacheMemory cache;
    final HostTensor query;
    final HostTensor sequence;
    final HostTensor visible;
    final HostTensor limit;
    final HostTensor before;
    final int prompts;
    final int window;
    final int queryHeads;
    final int columns;
    final int first;
    final float scale;
    final Kind kind;
    final Heads heads;
    final Pool pool;
    final int poolWidth;
    final boolean accumulate;
    final boolean exact;

    Inputs(CaseRow c) {
      CacheShape shape = CacheShape.of(c, "", c.seed());
      prompts = c.int32("prompts");
      window = c.int32("window");
      queryHeads = c.int32("query_heads");
      columns = c.int32("columns");
      first = c.int32("first");
      scale = c.number("scale");
      kind = c.choice("kind", Kind.class);
      heads = Heads.values()[c.choice("reduction", "each", "sum", "mean", "group")];
      pool = Pool.values()[c.choice("pool", "-", "avg", "max")];
      poolWidth = c.int32("pool_width");
      accumulate = c.flag("accumulate");
      exact = c.tag("exact");
      int rows = prompts * window;
      query =
          HostTensor.heads(
                  c.dtype("query"),
                  rows,
                  queryHeads,
                  shape.dim(),
                  c.int32("query_pad"),
                  c.int32("query_offset"))
              .fill(c.seed(), 0, c.text("fill"), c.number("query_scale"), c.text("special"));
      sequence = KvAppendTest.sequences(c, prompts, shape.sequences());
      visible = HostTensor.of(DType.I32, rows);
      int[] seen = new int[shape.sequences()];
      for (int r = 0; r < rows; r++) {
        int count = visible(c, r, shape.slots());
        visible.setInteger(r, count);
        int s = sequence(r / window);
        seen[s] = Math.max(seen[s], count);
      }
      limit = limits(c);
      cache = new CacheMemory(shape, c.dtype("cache"), c.int32("cache_offset"));
      int slots = shape.slots();
      cache.fillSlots(
          cache.k,
          c.seed(),
          1,
          c.text("fill"),
          c.number("key_scale"),
          row -> row % slots < seen[row / slots]);
      if (c.given("cache_special") && slots > 0) {
        spoil(c);
      }
      long[] extents = {prompts, scoreHeads(), columns};
      before =
          accumulate
              ? HostTensor.bells(DType.F32, c.seed(), 2, 1, 0, extents)
              : HostTensor.of(DType.F32, extents);
    }

    private int visible(CaseRow c, int row, int slots) {
      int any = (int) remainder(word(c.seed(), 5, row), slots + 1);
      int i = row % window;
      switch (c.text("visible")) {
        case "all":
          return slots;
        case "random":
          return any;
        case "causal":
          return slots - window + 1 + i;
        case "ragged":
          return (int) remainder(word(c.seed(), 8, row / window), slots - window + 1) + 1 + i;
        case "mixed":
          return new int[] {any, slots, 1, 0}[row % 4];
        default:
          return c.int32("visible");
      }
    }

    private HostTensor limits(CaseRow c) {
      if (!c.text("limit").equals("before")) {
        return SelectionCase.limits(c, prompts, columns);
      }
      HostTensor t = HostTensor.of(DType.I32, prompts);
      for (int s = 0; s < prompts; s++) {
        long own = visible.integerAt(s * window) - 1 - first;
        t.setInteger(s, Math.max(0, Math.min(columns, own)));
      }
      return t;
    }

    private void spoil(CaseRow c) {
      CacheShape shape = cache.shape;
      double[] values = {Double.NaN, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY};
      int which = c.choice("cache_special", "k_nan", "k_pinf", "k_ninf", "k_ninf_half");
      int element = (int) remainder(word(c.seed(), 6, 0), shape.dim());
      int middle = shape.slots() / 2;
      for (int slot = which == 3 ? 0 : middle; slot <= middle; slot++) {
        cache.k.set(0, shape.at(0, slot, shape.heads() - 1) + element, values[Math.min(which, 2)]);
      }
    }

    int group() {
      return queryHeads / cache.shape.heads();
    }

    /** Rows of scores for each prompt. */
    int scoreHeads() {
      switch (heads) {
        case EACH:
          return queryHeads;
        case GROUP_SUM:
          return cache.shape.heads();
        default:
          return 1;
      }
    }

    int sequence(int prompt) {
      return sequence == null ? prompt : (int) sequence.integerAt(prompt);
    }

    /** How many leading columns of a prompt are scored. */
    int scored(int prompt) {
      long most = 0;
      for (int i = 0; i < window; i++) {
        most = Math.max(most, visible.integerAt(prompt * window + i) - first);
      }
      most = limit == null ? most : Math.min(most, limit.integerAt(prompt));
      return (int) Math.min(columns, most);
    }
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void matchesOracle(CaseRow c) {
    Inputs in = new Inputs(c);
    int rows = in.prompts * in.scoreHeads();
    boolean handedOut = c.flag("scores");
    SelectionCase selection = c.given("capacity") ? new SelectionCase(c, rows, in.columns) : null;
    if (selection == null) {
      SelectionCase.none(c);
    }
    Placed scores = new Placed(scope, in.before);
    CacheMemory cache = in.cache;
    AttentionScores op =
        AttentionScores.builder()
            .query(input(in.query))
            .keys(
                PlacedCache.described(
                    cache.shape.layout(), input(cache.k), null, input(cache.blockTable)))
            .sequence(input(in.sequence))
            .visible(input(in.visible))
            .limit(input(in.limit))
            .scores(handedOut ? scores.tensor() : null)
            .select(selection == null ? null : selection.place(scope, this::input))
            .columns(in.columns)
            .first(in.first)
            .window(in.window)
            .scale(in.scale)
            .kind(in.kind)
            .heads(in.heads)
            .pool(in.pool, in.poolWidth)
            .accumulate(in.accumulate)
            .build(scope);
    if (in.accumulate) {
      runOnce(op);
    } else {
      Placed[] chosen = selection == null ? new Placed[0] : selection.outputs();
      run(op, Stream.concat(Stream.of(scores), Arrays.stream(chosen)).toArray(Placed[]::new));
    }
    check(in, selection, handedOut ? scores.read() : null);
  }

  private static void check(Inputs in, SelectionCase selection, HostTensor got) {
    int heads = in.scoreHeads();
    int rows = in.prompts * heads;
    Expected[][] expected = new Expected[rows][];
    int[] limits = new int[rows];
    Choice[] choices = new Choice[rows];
    for (int s = 0; s < in.prompts; s++) {
      Prompt prompt = new Prompt(in, s);
      for (int b = 0; b < heads; b++) {
        int r = s * heads + b;
        limits[r] = prompt.scored;
        expected[r] = prompt.scores(b);
        if (got != null) {
          double[] handed = row(got, r, in.columns);
          checkRow(r, expected[r], handed);
          choices[r] = selection == null ? null : selection.choose(handed, limits[r], r);
        }
      }
    }
    if (selection == null) {
      return;
    }
    if (got != null) {
      selection.check(choices);
    } else {
      selection.checkWithin(expected, limits);
    }
  }

  private static double[] row(HostTensor t, int row, int columns) {
    return IntStream.range(row * columns, (row + 1) * columns).mapToDouble(t::at).toArray();
  }

  private static void checkRow(int row, Expected[] expected, double[] got) {
    for (int j = 0; j < got.length; j++) {
      if (!expected[j].agrees(got[j])) {
        expected[j].check("scores [" + row + "," + j + "]", got[j]);
      }
    }
  }

  /** Sums in double, how far f32 may be from them, and the magnitudes that rounding goes by. */
  private static final class Sums {
    final double[] value;
    final double[] error;
    final double[] magnitude;

    Sums(int size) {
      value = new double[size];
      error = new double[size];
      magnitude = new double[size];
    }
  }

  /** One prompt's queries over the slots they see. */
  private static final class Prompt {
    private final Inputs in;
    private final int prompt;
    private final int group;
    private final int headsPerRow;
    private final Sums[] sums;
    final int scored;

    Prompt(Inputs in, int prompt) {
      this.in = in;
      this.prompt = prompt;
      group = in.group();
      headsPerRow = in.queryHeads / in.scoreHeads();
      scored = Math.max(0, in.scored(prompt));
      sums = new Sums[in.scoreHeads()];
      Arrays.setAll(sums, b -> new Sums(scored));
      for (int h = 0; h < in.cache.shape.heads(); h++) {
        addHead(h);
      }
      for (Sums row : sums) {
        meet(row);
      }
    }

    private void addHead(int kvHead) {
      CacheShape shape = in.cache.shape;
      int most = 0;
      for (int i = 0; i < in.window; i++) {
        most = Math.max(most, (int) in.visible.integerAt(prompt * in.window + i));
      }
      double[][] keys = new double[most][shape.dim()];
      for (int t = 0; t < most; t++) {
        int at = shape.at(in.sequence(prompt), t, kvHead);
        for (int i = 0; i < shape.dim(); i++) {
          keys[t][i] = in.cache.k.at(at + i);
        }
      }
      for (int h = kvHead * group; h < (kvHead + 1) * group; h++) {
        for (int i = 0; i < in.window; i++) {
          add(payments(prompt * in.window + i, h, keys), sums[h / headsPerRow]);
        }
      }
    }

    private void add(Sums row, Sums to) {
      int seen = Math.min(scored, row.value.length - in.first);
      for (int j = 0; j < seen; j++) {
        to.value[j] += row.value[in.first + j];
        to.error[j] += row.error[in.first + j];
        to.magnitude[j] += row.magnitude[in.first + j];
      }
    }

    /** What one query pays to every slot it sees. */
    private Sums payments(int row, int head, double[][] keys) {
      int dim = in.cache.shape.dim();
      Sums z = new Sums((int) in.visible.integerAt(row));
      double[] query = new double[dim];
      Arrays.setAll(query, i -> in.query.at(row, head * dim + i));
      for (int t = 0; t < z.value.length; t++) {
        double sum = 0;
        double terms = 0;
        for (int i = 0; i < dim; i++) {
          double term = query[i] * keys[t][i];
          sum += term;
          terms += Math.abs(term);
        }
        z.value[t] = sum * in.scale;
        z.magnitude[t] = Math.abs(z.value[t]);
        if (Double.isFinite(terms)) {
          z.error[t] = F32 * sumError(dim) * terms * in.scale + Expected.smallest(DType.F32);
        }
      }
      return in.kind == Kind.RAW ? z : softmax(z);
    }

    /**
     * An error e of a score multiplies its weight by exp(e), and the sum of all weights by the mean
     * of such factors; the exponential's own rounding grows with its argument.
     */
    private static Sums softmax(Sums z) {
      int n = z.value.length;
      double top = Arrays.stream(z.value).max().orElse(Double.NEGATIVE_INFINITY);
      Sums a = new Sums(n);
      double total = 0;
      for (int t = 0; t < n; t++) {
        a.value[t] = Math.exp(z.value[t] - top);
        total += a.value[t];
      }
      double[] exponent = new double[n];
      double mean = 0;
      for (int t = 0; t < n; t++) {
        a.value[t] /= total;
        a.magnitude[t] = a.value[t];
        boolean weighs = a.value[t] != 0;
        exponent[t] = weighs ? z.error[t] + F32 * (8 + 3 * Math.abs(z.value[t] - top)) : 0;
        mean += a.value[t] * exponent[t];
      }
      for (int t = 0; t < n; t++) {
        double relative = Math.expm1(exponent[t] + mean) + F32 * sumError(n);
        a.error[t] = Math.min(1, a.value[t] * relative + Expected.smallest(DType.F32));
      }
      return a;
    }

    /** Rounds the sums over rows and heads; a mean divides them. */
    private void meet(Sums row) {
      int terms = headsPerRow * in.window;
      double divisor = in.heads == Heads.MEAN ? in.queryHeads : 1;
      double roundings = (terms == 1 ? 1 : sumError(terms)) + 1;
      for (int j = 0; j < scored; j++) {
        row.value[j] /= divisor;
        row.error[j] = (row.error[j] + F32 * roundings * row.magnitude[j]) / divisor;
        row.magnitude[j] /= divisor;
      }
    }

    /** A row of scores as it is handed out. */
    Expected[] scores(int head) {
      Expected[] row = new Expected[in.columns];
      for (int j = 0; j < in.columns; j++) {
        double before = in.before.at((prompt * sums.length + head) * in.columns + j);
        if (j >= scored) {
          row[j] = new Expected(in.accumulate ? before : Double.NEGATIVE_INFINITY, 0);
          continue;
        }
        Expected pooled = pooled(sums[head], j);
        double value = pooled.value() + (in.accumulate ? before : 0);
        double error = pooled.bound() + 2 * F32 * Math.abs(value) + Expected.smallest(DType.F32);
        row[j] = new Expected(value, in.exact || !Double.isFinite(value) ? 0 : error);
      }
      return row;
    }

    private Expected pooled(Sums row, int column) {
      if (in.pool == Pool.NONE) {
        return new Expected(row.value[column], row.error[column]);
      }
      int from = Math.max(0, column - in.poolWidth / 2);
      int to = Math.min(scored, column + in.poolWidth / 2 + 1);
      double[] around = Arrays.copyOfRange(row.value, from, to);
      if (in.pool == Pool.MAX) {
        double largest = Arrays.stream(around).max().orElseThrow(); // NaN if there is one
        return new Expected(largest, Arrays.stream(row.error, from, to).max().orElseThrow());
      }
      double error = Arrays.stream(row.error, from, to).sum();
      double magnitude = Arrays.stream(row.magnitude, from, to).sum();
      return new Expected(
          Arrays.stream(around).sum() / in.poolWidth,
          (error + F32 * sumError(to - from) * magnitude) / in.poolWidth);
    }
  }
}
