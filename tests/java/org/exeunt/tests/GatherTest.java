// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Refusals.invalid;
import static org.exeunt.tests.Words.remainder;
import static org.exeunt.tests.Words.word;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.exeunt.DType;
import org.exeunt.Gather;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class GatherTest extends OpTest {
  GatherTest() {
    super("gather");
  }

  static Stream<CaseRow> cases() {
    return CaseRow.of("gather");
  }

  /** A tensor of a case: its shape has -1 where the entries lie. */
  private record Spec(DType dtype, long[] shape, int axis, int outer, int inner) {
    static Spec of(String text) {
      String[] parts = text.split(":");
      List<String> extents = Arrays.asList(parts[1].split("x"));
      long[] shape =
          extents.stream().mapToLong(x -> x.equals("N") ? -1 : Long.parseLong(x)).toArray();
      int axis = extents.indexOf("N");
      return new Spec(
          DType.valueOf(parts[0].toUpperCase()),
          shape,
          axis,
          product(shape, 0, axis),
          product(shape, axis + 1, shape.length));
    }

    private static int product(long[] shape, int from, int to) {
      return (int) Arrays.stream(shape, from, to).reduce(1, (a, b) -> a * b);
    }

    private boolean padded() {
      return axis == 0 && shape.length > 1;
    }

    HostTensor of(int entries, int pad, int offset) {
      long[] extents = shape.clone();
      extents[axis] = entries;
      return padded()
          ? HostTensor.ofRows(dtype, extents, pad, offset)
          : new HostTensor(dtype, extents, 0, offset);
    }

    /** The element at which an entry begins. */
    int at(HostTensor t, int outer, int entry) {
      return padded()
          ? entry * t.stride
          : (int) (outer * t.shape[axis] + entry) * inner;
    }
  }

  /** One tensor on its way. */
  private record Move(Spec spec, HostTensor input, HostTensor expected, Placed out) {
    void entry(int from, int to) {
      for (int o = 0; o < spec.outer; o++) {
        expected.copyFrom(
            input, 0, spec.at(input, o, from), 0, spec.at(expected, o, to), spec.inner);
      }
    }
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void matchesOracle(CaseRow c) {
    int rows = c.int32("rows");
    int listed = c.int32("listed");
    int room = listed + c.int32("spare");
    int place = c.choice("in_place", "0", "1", "first");
    int[] list = list(c, rows, listed);
    HostTensor count = c.given("count") ? ints(c.int32("count")) : null;
    Gather.Builder builder =
        Gather.builder().list(input(ints(list))).count(input(count)).rows(rows);
    List<Move> moves = new ArrayList<>();
    boolean inPlace = false;
    for (String text : c.given("tensors") ? c.text("tensors").split(",") : new String[0]) {
      boolean here = place == 1 || place == 2 && moves.isEmpty();
      inPlace |= here;
      moves.add(move(c, Spec.of(text), rows, room, moves.size(), here, builder));
    }
    Positions positions = new Positions(c, rows, room, place == 1, builder);
    inPlace |= positions.inPlace;
    Placed moved = new Placed(scope, ints(77));
    boolean asked = c.flag("moved");
    Gather op = builder.moved(asked ? moved.tensor() : null).build(scope);

    int used = count == null ? listed : (int) count.integerAt(0);
    boolean refused = refused(list, used, rows, inPlace);
    if (refused && !Setup.cuda()) {
      invalid(() -> op.run(), "gather");
    } else if (inPlace || refused) {
      runOnce(op);
    } else {
      List<Placed> outputs = new ArrayList<>(List.of(moved, positions.out));
      moves.forEach(move -> outputs.add(move.out));
      run(op, outputs.toArray(Placed[]::new));
    }
    int entries = 0;
    for (int i = 0; i < used && !refused; i++) {
      if (list[i] >= 0) {
        for (Move move : moves) {
          move.entry(list[i], i);
        }
        positions.entry(list[i], i);
        entries++;
      }
    }
    for (int t = 0; t < moves.size(); t++) {
      Move move = moves.get(t);
      assertEquals(move.expected.bytes, move.out.read().bytes, "tensor " + t);
    }
    assertEquals(positions.expected.bytes, positions.out.read().bytes, "positions");
    long told = !asked || refused && !Setup.cuda() ? 77 : refused ? -1 : entries;
    assertEquals(told, moved.read().integerAt(0), "moved");
  }

  private Move move(
      CaseRow c, Spec spec, int rows, int room, int number, boolean here, Gather.Builder builder) {
    HostTensor in = spec.of(rows, c.int32("pad"), c.int32("offset"));
    long seed = c.seed();
    for (int o = 0; o < spec.outer; o++) {
      for (int e = 0; e < rows; e++) {
        int at = spec.at(in, o, e);
        long element = ((long) o * rows + e) * spec.inner;
        for (int i = 0; i < spec.inner; i++) {
          in.setBits(0, at + i, word(seed, 16 + number, element + i));
        }
      }
    }
    HostTensor out = here ? in.copy() : spec.of(room, c.int32("out_pad"), c.int32("out_offset"));
    Placed placed = new Placed(scope, out);
    builder.tensor(here ? placed.tensor() : input(in), placed.tensor(), spec.axis);
    return new Move(spec, in, out.copy(), placed);
  }

  /** Positions on their way. */
  private final class Positions {
    final HostTensor before;
    final HostTensor expected;
    final Placed out;
    final boolean inPlace;
    private final int kind;
    private final int first;

    Positions(CaseRow c, int rows, int room, boolean everywhere, Gather.Builder builder) {
      kind = c.choice("positions", "-", "index", "keep", "renumber");
      first = c.int32("first_position");
      before = HostTensor.of(DType.I32, rows);
      for (int i = 0; i < rows; i++) {
        before.setInteger(i, remainder(word(c.seed(), 5, i), 100000));
      }
      inPlace = everywhere && kind == 2;
      expected = inPlace ? before.copy() : HostTensor.of(DType.I32, room);
      out = new Placed(scope, expected);
      if (kind == 1) {
        builder.positions(null, out.tensor());
      } else if (kind == 2) {
        builder.positions(inPlace ? out.tensor() : input(before), out.tensor());
      } else if (kind == 3) {
        builder.renumber(first, out.tensor());
      }
    }

    void entry(int from, int to) {
      if (kind != 0) {
        long[] known = {0, from, kind == 2 ? before.integerAt(from) : 0, first + to};
        expected.setInteger(to, known[kind]);
      }
    }
  }

  private static boolean refused(int[] list, int used, int rows, boolean inPlace) {
    if (used < 0 || used > list.length) {
      return true;
    }
    int[] entries = Arrays.copyOf(list, used);
    if (Arrays.stream(entries).anyMatch(x -> x >= rows)) {
      return true;
    }
    // Seen as unsigned, what is negative is above all others.
    return inPlace
        && IntStream.range(1, used)
            .anyMatch(
                i -> entries[i] >= 0 && Integer.compareUnsigned(entries[i], entries[i - 1]) <= 0);
  }

  private static HostTensor ints(int... values) {
    HostTensor t = HostTensor.of(DType.I32, values.length);
    for (int i = 0; i < values.length; i++) {
      t.setInteger(i, values[i]);
    }
    return t;
  }

  private static int[] list(CaseRow c, int rows, int listed) {
    int[] order = Words.shuffled(rows, c.seed(), 1);
    int[] list = new int[listed];
    switch (c.text("list")) {
      case "identity":
        Arrays.setAll(list, i -> i);
        return list;
      case "every":
        Arrays.setAll(list, i -> i * rows / listed);
        return list;
      case "tail":
        Arrays.setAll(list, i -> rows - listed + i);
        return list;
      case "shuffled":
        Arrays.setAll(list, i -> order[i]);
        return list;
      case "random":
        Arrays.setAll(list, i -> (int) remainder(word(c.seed(), 2, i), rows));
        return list;
      case "none":
        Arrays.fill(list, -1);
        return list;
      case "holes":
        Arrays.setAll(
            list,
            i ->
                remainder(word(c.seed(), 3, i), 3) == 0
                    ? -1 - (int) remainder(word(c.seed(), 4, i), 100)
                    : order[i]);
        return list;
      default:
        return ascending(c.text("list"), order, listed);
    }
  }

  private static int[] ascending(String kind, int[] order, int listed) {
    int kept = kind.equals("padded") ? listed - listed / 4 : listed;
    int[] list = Arrays.copyOf(order, listed);
    Arrays.fill(list, kept, listed, -1);
    Arrays.sort(list, 0, kept);
    int middle = listed / 2;
    switch (kind) {
      case "sorted":
      case "padded":
        break;
      case "over":
        list[middle] = order.length;
        break;
      case "swapped":
        int moved = list[middle];
        list[middle] = list[middle - 1];
        list[middle - 1] = moved;
        break;
      case "twice":
        list[middle] = list[middle - 1];
        break;
      case "gap":
        list[middle] = -1;
        break;
      default:
        throw new IllegalStateException("unknown list '" + kind + "'");
    }
    return list;
  }
}
