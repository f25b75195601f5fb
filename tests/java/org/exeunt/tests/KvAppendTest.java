// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Words.remainder;
import static org.exeunt.tests.Words.word;

import java.util.List;
import java.util.stream.Stream;
import org.exeunt.DType;
import org.exeunt.KvAppend;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class KvAppendTest extends OpTest {
  KvAppendTest() {
    super("kv_append");
  }

  static Stream<CaseRow> cases() {
    return CaseRow.of("kv_append");
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void matchesOracle(CaseRow c) {
    CacheShape shape = CacheShape.of(c, "", c.seed());
    CacheMemory cache =
        new CacheMemory(shape, c.dtype("cache"), c.int32("cache_offset")).fillSlots(c.seed(), 2);
    int rows = c.int32("rows");
    HostTensor k = rows(c, shape, 0);
    HostTensor v = rows(c, shape, 1);
    HostTensor sequence = sequences(c, rows, shape.sequences());
    HostTensor slot = slots(c, rows, shape);
    CacheMemory.Contents expected = cache.contents();
    for (int r = 0; r < rows; r++) {
      if (slot.integerAt(r) >= 0) {
        expected.put(
            sequence == null ? 0 : (int) sequence.integerAt(r),
            (int) slot.integerAt(r),
            converted(k, r, cache.dtype),
            converted(v, r, cache.dtype));
      }
    }
    PlacedCache placed = PlacedCache.of(scope, cache);
    KvAppend op =
        placed
            .described()
            .append()
            .k(input(k))
            .v(input(v))
            .sequence(input(sequence))
            .slot(input(slot))
            .build(scope);
    run(op, PlacedCache.sides(List.of(placed)));
    expected.check("cache", placed);
  }

  private static HostTensor rows(CaseRow c, CacheShape shape, long stream) {
    int pad = c.int32("pad");
    return HostTensor.heads(
            c.dtype("dtype"), c.int32("rows"), shape.heads(), shape.dim(), pad, c.int32("offset"))
        .fill(c.seed(), stream, c.text("fill"), c.number("scale"), c.text("special"));
  }

  /** The sequence of each row, or null for none. */
  static HostTensor sequences(CaseRow c, int rows, int count) {
    int kind = c.choice("sequence", "-", "mod", "random");
    if (kind == 0) {
      return null;
    }
    HostTensor t = HostTensor.of(DType.I32, rows);
    for (int r = 0; r < rows; r++) {
      t.setInteger(r, kind == 1 ? r % count : remainder(word(c.seed(), 4, r), count));
    }
    return t;
  }

  private static HostTensor slots(CaseRow c, int rows, CacheShape shape) {
    int[] order = Words.shuffled(shape.slots(), c.seed(), 5);
    HostTensor t = HostTensor.of(DType.I32, rows);
    for (int r = 0; r < rows; r++) {
      switch (c.choice("slot", "first", "last", "each", "shuffled", "some", "off")) {
        case 0:
          t.setInteger(r, r);
          break;
        case 1:
          t.setInteger(r, shape.slots() - 1 - r);
          break;
        case 2:
          t.setInteger(r, r / shape.sequences());
          break;
        case 3:
          t.setInteger(r, order[r]);
          break;
        case 4:
          t.setInteger(r, remainder(word(c.seed(), 6, r), 3) == 0 ? -1 : order[r]);
          break;
        default:
          t.setInteger(r, -1);
      }
    }
    return t;
  }

  /** The nearest value; what is subnormal in the cache's dtype may be flushed. */
  private static Expected[] converted(HostTensor t, int row, DType dtype) {
    Expected[] values = new Expected[t.cols];
    for (int i = 0; i < t.cols; i++) {
      double nearest = HostTensor.rounded(dtype, t.at(row, i));
      double least = Expected.smallest(dtype);
      boolean flushed = t.dtype != dtype && Math.abs(nearest) <= least;
      values[i] = new Expected(nearest, flushed ? least : 0);
    }
    return values;
  }
}
