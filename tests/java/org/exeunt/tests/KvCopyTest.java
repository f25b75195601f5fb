// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Words.remainder;
import static org.exeunt.tests.Words.word;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import java.util.stream.Stream;
import org.exeunt.DType;
import org.exeunt.KvCache;
import org.exeunt.KvCopy;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class KvCopyTest extends OpTest {
  KvCopyTest() {
    super("kv_copy");
  }

  static Stream<CaseRow> cases() {
    return CaseRow.of("kv_copy");
  }

  /** From where to where; a slot of -1 switches an entry off. */
  private record Entry(int fromSequence, int fromSlot, int toSequence, int toSlot) {
    static Entry of(CaseRow c, int i, CacheShape source, CacheShape destination, int[] order) {
      int from = i % source.sequences();
      int to = (i + 1) % destination.sequences();
      int any = (int) remainder(word(c.seed(), 4, i), source.slots());
      switch (c.choice("entries", "same", "compact", "fork", "chain", "random", "off")) {
        case 0:
          return new Entry(from, i, to, i);
        case 1:
          return new Entry(from, 2 * i + (int) remainder(word(c.seed(), 4, i), 2), from, i);
        case 2:
          return new Entry(0, i, destination.sequences() - 1, i);
        case 3:
          return new Entry(0, i, 0, i + 1);
        case 4:
          return new Entry(from, any, to, order[i]);
        default:
          boolean fromOff = remainder(word(c.seed(), 5, i), 4) == 0;
          boolean toOff = remainder(word(c.seed(), 6, i), 4) == 0;
          return new Entry(from, fromOff ? -1 : any, to, toOff ? -1 : order[i]);
      }
    }
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void matchesOracle(CaseRow c) {
    DType dtype = c.dtype("dtype");
    boolean inPlace = c.flag("in_place");
    CacheMemory source =
        new CacheMemory(CacheShape.of(c, "", c.seed()), dtype, c.int32("offset"))
            .fillSlots(c.seed(), 0);
    CacheMemory destination =
        inPlace
            ? source
            : new CacheMemory(CacheShape.of(c, "to_", c.seed() + 1), dtype, c.int32("to_offset"))
                .fillSlots(c.seed() + 1, 2);
    int sides = c.choice("sequence", "-", "from", "to", "both");
    boolean from = sides % 2 == 1;
    boolean to = sides >= 2;
    int count = c.int32("count");
    HostTensor fromSequence = HostTensor.of(DType.I32, count);
    HostTensor fromSlot = HostTensor.of(DType.I32, count);
    HostTensor toSequence = HostTensor.of(DType.I32, count);
    HostTensor toSlot = HostTensor.of(DType.I32, count);
    int[] order = Words.shuffled(destination.shape.slots(), c.seed(), 8);
    CacheMemory expected = destination.copy();
    for (int i = 0; i < count; i++) {
      Entry e = Entry.of(c, i, source.shape, destination.shape, order);
      fromSequence.setInteger(i, e.fromSequence);
      fromSlot.setInteger(i, e.fromSlot);
      toSequence.setInteger(i, e.toSequence);
      toSlot.setInteger(i, e.toSlot);
      if (e.fromSlot >= 0 && e.toSlot >= 0) {
        Entry known =
            new Entry(from ? e.fromSequence : 0, e.fromSlot, to ? e.toSequence : 0, e.toSlot);
        copy(inPlace ? expected : source, expected, known);
      }
    }
    PlacedCache placed = PlacedCache.of(scope, destination);
    KvCache read =
        inPlace
            ? placed.described()
            : PlacedCache.described(
                source.shape.layout(), input(source.k), input(source.v), input(source.blockTable));
    KvCopy op =
        read.copyTo(placed.described())
            .from(input(fromSlot), from ? input(fromSequence) : null)
            .to(input(toSlot), to ? input(toSequence) : null)
            .build(scope);
    if (inPlace) {
      runOnce(op);
    } else {
      run(op, PlacedCache.sides(List.of(placed)));
    }
    assertEquals(expected.k.bytes, placed.k().read().bytes, "k");
    assertEquals(expected.v.bytes, placed.v().read().bytes, "v");
  }

  private static void copy(CacheMemory source, CacheMemory destination, Entry e) {
    int dim = source.shape.dim();
    for (int h = 0; h < source.shape.heads(); h++) {
      int a = source.shape.at(e.fromSequence, e.fromSlot, h);
      int b = destination.shape.at(e.toSequence, e.toSlot, h);
      destination.k.copyFrom(source.k, 0, a, 0, b, dim);
      destination.v.copyFrom(source.v, 0, a, 0, b, dim);
    }
  }
}
