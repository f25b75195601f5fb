// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Words.remainder;
import static org.exeunt.tests.Words.word;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.Comparator;
import java.util.Set;
import java.util.function.Function;
import java.util.function.IntPredicate;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.Scope;
import org.exeunt.Selection;
import org.exeunt.Tensor;

/** The selection of a case over R rows of N columns, and what it should choose. */
final class SelectionCase {
  /** What a row keeps, ascending. */
  record Choice(boolean valid, int[] kept) {}

  private final int rows;
  private final int columns;
  private final int capacity;
  private final long k;
  private final int[] segments;
  private final Set<String> outputs;
  private final HostTensor budgetTensor;
  private final HostTensor segmentTensor;
  private final HostTensor keepTensor;
  private final HostTensor dropTensor;
  private Placed indices;
  private Placed count;
  private Placed valid;

  SelectionCase(CaseRow c, int rows, int columns) {
    this.rows = rows;
    this.columns = columns;
    capacity = c.int32("capacity");
    k = c.integer("k");
    outputs = c.given("outputs") ? c.subset("outputs", "count", "valid") : Set.of();
    segments = c.given("segments") ? numbers(c.text("segments"), ",") : new int[] {0, columns};
    segmentTensor = c.given("segments") ? ints(segments, segments.length) : null;
    budgetTensor = budgets(c);
    keepTensor = ranges(c.text("keep"), c.seed(), 11);
    dropTensor = ranges(c.text("drop"), c.seed(), 13);
  }

  /** The columns of a selection that is not made are looked at all the same. */
  static void none(CaseRow c) {
    for (String column : new String[] {"k", "outputs", "segments", "budget", "keep", "drop"}) {
      c.text(column);
    }
  }

  /** A limit for each of R rows, or null for none. */
  static HostTensor limits(CaseRow c, int rows, int columns) {
    if (!c.given("limit")) {
      return null;
    }
    HostTensor t = HostTensor.of(DType.I32, rows);
    for (int r = 0; r < rows; r++) {
      long random = remainder(word(c.seed(), 9, r), columns + 1);
      switch (c.text("limit")) {
        case "random":
          t.setInteger(r, random);
          break;
        case "mixed":
          t.setInteger(r, new long[] {0, columns, random}[r % 3]);
          break;
        default:
          t.setInteger(r, c.integer("limit"));
      }
    }
    return t;
  }

  private HostTensor budgets(CaseRow c) {
    if (!c.given("budget")) {
      return null;
    }
    int parts = segments.length - 1;
    int[] values = new int[rows * parts];
    for (int i = 0; i < values.length; i++) {
      int random = (int) remainder(word(c.seed(), 10, i), columns + 2);
      switch (c.text("budget")) {
        case "random":
          values[i] = random;
          break;
        case "mixed":
          values[i] = new int[] {random, 0, 1, columns}[i % 4];
          break;
        default:
          values[i] = c.int32("budget");
      }
    }
    return segmentTensor == null ? ints(values, rows) : ints(values, rows, parts);
  }

  private HostTensor ranges(String text, long seed, long stream) {
    if (text.equals("-")) {
      return null;
    }
    if (!text.startsWith("each:")) {
      int[] ends = numbers(text, "[:,]");
      return ints(ends, ends.length / 2, 2);
    }
    int each = Integer.parseInt(text.substring(5));
    int[] ends = new int[2 * rows * each];
    for (int i = 0; i < rows * each; i++) {
      int begin = (int) remainder(word(seed, stream, i), columns + 1);
      int most = Math.min(columns - begin, 16);
      ends[2 * i] = begin;
      ends[2 * i + 1] = begin + (int) remainder(word(seed, stream + 1, i), most + 1);
    }
    return ints(ends, rows, each, 2);
  }

  private static int[] numbers(String text, String separator) {
    return Arrays.stream(text.split(separator)).mapToInt(Integer::parseInt).toArray();
  }

  private static HostTensor ints(int[] values, long... shape) {
    HostTensor t = HostTensor.of(DType.I32, shape);
    for (int i = 0; i < values.length; i++) {
      t.setInteger(i, values[i]);
    }
    return t;
  }

  /** The selection with its tensors placed: {@code input} places what no run may change. */
  Selection place(Scope scope, Function<HostTensor, Tensor> input) {
    indices = new Placed(scope, HostTensor.of(DType.I32, rows, capacity));
    count = new Placed(scope, HostTensor.of(DType.I32, rows));
    valid = new Placed(scope, HostTensor.of(DType.U8, rows));
    return Selection.top(k, indices.tensor())
        .withCount(outputs.contains("count") ? count.tensor() : null)
        .withValid(outputs.contains("valid") ? valid.tensor() : null)
        .withBudget(input.apply(budgetTensor))
        .withSegments(input.apply(segmentTensor))
        .withKeep(input.apply(keepTensor))
        .withDrop(input.apply(dropTensor));
  }

  Placed[] outputs() {
    return new Placed[] {indices, count, valid};
  }

  // ---- what should come out ---------------------------------------------------------------------

  private boolean within(HostTensor ranges, int row, int column) {
    if (ranges == null) {
      return false;
    }
    int each = (int) ranges.shape[ranges.shape.length - 2];
    int first = ranges.shape.length == 3 ? row * each : 0;
    return IntStream.range(first, first + each)
        .anyMatch(
            i -> ranges.integerAt(2 * i) <= column && column < ranges.integerAt(2 * i + 1));
  }

  boolean kept(int row, int column) {
    return within(keepTensor, row, column);
  }

  private int[] candidates(int row, int limit, int segment) {
    return IntStream.range(segments[segment], Math.min(segments[segment + 1], limit))
        .filter(j -> !kept(row, j) && !within(dropTensor, row, j))
        .toArray();
  }

  private long most(int row, int segment) {
    return budgetTensor == null
        ? k
        : budgetTensor.integerAt(row * (segments.length - 1) + segment);
  }

  Choice choose(double[] scores, int limit, int row) {
    boolean[] chosen = new boolean[columns];
    for (int g = 0; g + 1 < segments.length; g++) {
      int[] candidates = candidates(row, limit, g);
      if (Arrays.stream(candidates).anyMatch(j -> Double.isNaN(scores[j]))) {
        return new Choice(false, columns(j -> j < limit || kept(row, j)));
      }
      // The sort is stable: equal scores stay in the order of their columns.
      Arrays.stream(candidates)
          .boxed()
          .sorted(Comparator.comparingDouble(j -> 0.0 - scores[j]))
          .limit(most(row, g))
          .forEach(j -> chosen[j] = true);
    }
    return new Choice(true, columns(j -> chosen[j] || kept(row, j)));
  }

  private int[] columns(IntPredicate wanted) {
    return IntStream.range(0, columns).filter(wanted).toArray();
  }

  /** What was written must be these rows. */
  void check(Choice[] expected) {
    HostTensor lists = indices.read();
    HostTensor counts = count.read();
    HostTensor flags = valid.read();
    for (int r = 0; r < rows; r++) {
      int[] kept = expected[r].kept;
      int[] listed = new int[capacity];
      Arrays.setAll(listed, i -> i < kept.length ? kept[i] : -1);
      int[] got = list(lists, r);
      if (!Arrays.equals(listed, got)) {
        assertEquals(Arrays.toString(listed), Arrays.toString(got), "indices of row " + r);
      }
      checkFlags(counts, flags, r, expected[r]);
    }
  }

  private void checkFlags(HostTensor counts, HostTensor flags, int row, Choice expected) {
    if (outputs.contains("count")) {
      assertEquals(expected.kept.length, counts.integerAt(row), "count of row " + row);
    }
    if (outputs.contains("valid")) {
      assertEquals(expected.valid ? 1 : 0, flags.integerAt(row), "valid of row " + row);
    }
  }

  private int[] list(HostTensor lists, int row) {
    return IntStream.range(row * capacity, (row + 1) * capacity)
        .map(i -> (int) lists.integerAt(i))
        .toArray();
  }

  /**
   * The same where scores are known within bounds only: a column whose score lies within its bound
   * of the cut may go either way. Needs room for all that is kept.
   */
  void checkWithin(Expected[][] scores, int[] limits) {
    HostTensor lists = indices.read();
    HostTensor counts = count.read();
    HostTensor flags = valid.read();
    for (int r = 0; r < rows; r++) {
      Expected[] row = scores[r];
      double[] values = Arrays.stream(row).mapToDouble(Expected::value).toArray();
      Choice exact = choose(values, limits[r], r);
      checkFlags(counts, flags, r, exact);
      int[] got = Arrays.stream(list(lists, r)).filter(j -> j >= 0).toArray();
      assertEquals(Math.min(capacity, exact.kept.length), got.length, "entries of row " + r);
      if (Arrays.equals(got, Arrays.copyOf(exact.kept, got.length))) {
        continue;
      }
      assertTrue(exact.valid && got.length == exact.kept.length, "indices of row " + r);
      checkCut(row, limits[r], r, got);
    }
  }

  private void checkCut(Expected[] scores, int limit, int row, int[] got) {
    boolean[] has = new boolean[columns];
    Arrays.stream(got).forEach(j -> has[j] = true);
    int seen = columns(j -> kept(row, j)).length;
    for (int j = 0; j < columns; j++) {
      assertTrue(has[j] || !kept(row, j), "column " + j + " of row " + row + " is to be kept");
    }
    for (int g = 0; g + 1 < segments.length; g++) {
      double lowest = Double.POSITIVE_INFINITY;
      double highest = Double.NEGATIVE_INFINITY;
      int taken = 0;
      int[] candidates = candidates(row, limit, g);
      for (int j : candidates) {
        if (has[j]) {
          taken++;
          lowest = Math.min(lowest, scores[j].value() + scores[j].bound());
        } else {
          highest = Math.max(highest, scores[j].value() - scores[j].bound());
        }
      }
      assertEquals(Math.min(candidates.length, most(row, g)), taken, "kept in segment " + g);
      assertTrue(lowest >= highest, "row " + row + " keeps " + lowest + ", but not " + highest);
      seen += taken;
    }
    assertEquals(seen, got.length, "row " + row + " keeps columns that are no candidates");
  }
}
