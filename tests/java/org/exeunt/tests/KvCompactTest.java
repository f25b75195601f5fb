// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Refusals.invalid;
import static org.exeunt.tests.Words.remainder;
import static org.exeunt.tests.Words.word;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.exeunt.DType;
import org.exeunt.KvCache;
import org.exeunt.KvCompact;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class KvCompactTest extends OpTest {
  /** What an output holds before. */
  private static final int BEFORE = 77;

  KvCompactTest() {
    super("kv_compact");
  }

  static Stream<CaseRow> cases() {
    return CaseRow.of("kv_compact");
  }

  /** The tensors of a case. */
  private static final class Inputs {
    final CaseRow c;
    final boolean inPlace;
    final boolean perHead;
    final CacheMemory source;
    final CacheMemory destination;
    final int[] sequence;
    final int[] length;
    final int[][] kept;
    int[] list;
    int[] offsets;
    int[] count;
    int width;

    Inputs(CaseRow c) {
      this.c = c;
      inPlace = c.flag("in_place");
      perHead = c.flag("per_head");
      DType dtype = c.dtype("dtype");
      source =
          new CacheMemory(CacheShape.of(c, "", c.seed()), dtype, c.int32("offset"))
              .fillBits(c.seed(), 0);
      CacheMemory other =
          inPlace
              ? source
              : new CacheMemory(
                      CacheShape.compacted(c, c.seed() + 1), dtype, c.int32("to_offset"))
                  .fillBits(c.seed() + 1, 2);
      destination = other;
      sequence = sequences();
      length = lengths();
      kept = new int[sequence.length * heads()][];
      Arrays.setAll(kept, this::kept);
      layOut();
      spoilPages();
    }

    int slots() {
      return source.shape.slots();
    }

    /** Lists of a sequence. */
    int heads() {
      return perHead ? destination.shape.heads() : 1;
    }

    private int[] sequences() {
      int all = source.shape.sequences();
      int kind = c.choice("sequence", "-", "reversed", "some", "twice", "over");
      int[] list = new int[kind == 2 ? (all + 1) / 2 : all];
      Arrays.setAll(list, b -> new int[] {b, all - 1 - b, 2 * b, b / 2, b + 1}[kind]);
      return list;
    }

    private int[] lengths() {
      int[] lengths = new int[sequence.length];
      for (int b = 0; b < lengths.length; b++) {
        switch (c.text("length")) {
          case "-":
          case "full":
            lengths[b] = slots();
            break;
          case "random":
            lengths[b] = (int) remainder(word(c.seed(), 4, b), slots() + 1);
            break;
          case "over":
            lengths[b] = slots() + 1;
            break;
          default:
            lengths[b] = c.int32("length");
        }
      }
      return lengths;
    }

    private int[] kept(int g) {
      int used = Math.min(length[g / heads()], slots());
      int n = count(g, used);
      int[] order = Words.shuffled(used, c.seed(), 64 + g);
      int[] entries = Arrays.copyOf(order, n);
      int kind =
          c.choice(
              "list",
              "shuffled",
              "identity",
              "tail",
              "random",
              "sorted",
              "over",
              "negative",
              "swapped",
              "twice");
      if (kind == 1) {
        Arrays.setAll(entries, i -> i);
      } else if (kind == 2) {
        Arrays.setAll(entries, i -> used - n + i);
      } else if (kind == 3) {
        Arrays.setAll(entries, i -> (int) remainder(word(c.seed(), 64 + g, i), used));
      } else if (kind >= 4) {
        Arrays.sort(entries);
        spoil(kind, entries, used);
      }
      return entries;
    }

    private int count(int g, int used) {
      switch (c.text("kept")) {
        case "all":
          return used;
        case "half":
          return used / 2;
        case "random":
          return (int) remainder(word(c.seed(), 5, g), used + 1);
        default:
          return Math.min(c.int32("kept"), used);
      }
    }

    private static void spoil(int kind, int[] entries, int used) {
      if (kind == 5 && entries.length > 0) {
        entries[entries.length - 1] = used;
      } else if (kind == 6 && entries.length > 0) {
        entries[0] = -1;
      } else if (kind == 7 && entries.length > 1) {
        int first = entries[0];
        entries[0] = entries[1];
        entries[1] = first;
      } else if (kind == 8 && entries.length > 1) {
        entries[1] = entries[0];
      }
    }

    private void layOut() {
      String form = c.text("form");
      if (Set.of("padded", "count_over", "count_negative").contains(form)) {
        pad(form);
        return;
      }
      IntStream.Builder all = IntStream.builder();
      int at = form.equals("gaps") ? 3 : 0;
      IntStream.range(0, at).forEach(i -> all.add(-7));
      offsets = new int[kept.length + 1];
      offsets[0] = at;
      for (int g = 0; g < kept.length; g++) {
        Arrays.stream(kept[g]).forEach(all::add);
        offsets[g + 1] = offsets[g] + kept[g].length;
      }
      IntStream.range(0, form.equals("gaps") ? 2 : 0).forEach(i -> all.add(-7));
      list = all.build().toArray();
      switch (form) {
        case "packed":
        case "gaps":
          break;
        case "falling":
          offsets[1] = offsets[2] + 1;
          break;
        case "beyond":
          offsets[kept.length]++;
          break;
        case "before":
          offsets[0] = -1;
          break;
        default:
          throw new IllegalStateException("unknown form '" + form + "'");
      }
    }

    private void pad(String form) {
      width = Arrays.stream(kept).mapToInt(x -> x.length).max().orElse(0) + 2;
      list = new int[kept.length * width];
      count = new int[kept.length];
      for (int g = 0; g < kept.length; g++) {
        Arrays.fill(list, g * width, (g + 1) * width, -1);
        System.arraycopy(kept[g], 0, list, g * width, kept[g].length);
        count[g] = kept[g].length;
      }
      if (!form.equals("padded")) {
        count[0] = form.equals("count_over") ? width + 1 : -1;
      }
    }

    private void spoilPages() {
      int kind =
          c.choice("pages", "-", "unused", "from_over", "from_minus", "from_shared", "to_over",
              "to_minus", "to_shared");
      if (kind == 0) {
        return;
      }
      if (kind == 1) {
        forgetPages();
        return;
      }
      CacheMemory cache = kind < 5 ? source : destination;
      CacheShape shape = cache.shape;
      int first = sequence[0] * shape.blocks();
      switch ((kind - 2) % 3) {
        case 0 -> cache.setPage(first, shape.pages());
        case 1 -> cache.setPage(first, -1);
        default -> cache.setPage(first + 1, shape.pageOf()[first]);
      }
    }

    private void forgetPages() {
      int[] used = new int[source.shape.sequences()];
      int[] longest = new int[used.length];
      for (int g = 0; g < kept.length; g++) {
        int s = sequence[g / heads()];
        used[s] = length[g / heads()];
        longest[s] = Math.max(longest[s], kept[g].length);
      }
      forget(source, used);
      if (!inPlace) {
        forget(destination, longest);
      }
    }

    private static void forget(CacheMemory cache, int[] used) {
      CacheShape shape = cache.shape;
      for (int s = 0; cache.blockTable != null && s < used.length; s++) {
        for (int b = blocks(used[s], shape.page()); b < shape.blocks(); b++) {
          cache.setPage(s * shape.blocks() + b, -1);
        }
      }
    }
  }

  private static int blocks(int slots, int page) {
    return (slots + page - 1) / page;
  }

  // ---- what should come of it -------------------------------------------------------------------

  /** The lists as the tensors say them, or a refusal. */
  private static final class Plan {
    final Inputs in;
    final List<int[]> lists = new ArrayList<>();
    final boolean refused;

    Plan(Inputs in) {
      this.in = in;
      refused = !sequencesFit() || !listsFit() || !pagesFit();
    }

    private boolean sequencesFit() {
      int all = in.source.shape.sequences();
      return Arrays.stream(in.sequence).allMatch(s -> s >= 0 && s < all)
          && Arrays.stream(in.sequence).distinct().count() == in.sequence.length
          && Arrays.stream(in.length).allMatch(n -> n >= 0 && n <= in.slots());
    }

    private boolean listsFit() {
      int room = in.destination.shape.slots();
      for (int g = 0; g < in.kept.length; g++) {
        int begin = in.offsets != null ? in.offsets[g] : g * in.width;
        int end = in.offsets != null ? in.offsets[g + 1] : begin + in.count[g];
        int last = in.offsets != null ? in.list.length : begin + in.width;
        if (begin < 0 || end < begin || end > last || end - begin > room) {
          return false;
        }
        int[] entries = Arrays.copyOfRange(in.list, begin, end);
        int used = in.length[g / in.heads()];
        if (Arrays.stream(entries).anyMatch(slot -> slot < 0 || slot >= used)) {
          return false;
        }
        IntStream behind = IntStream.range(1, entries.length);
        if (in.inPlace && behind.anyMatch(i -> entries[i] <= entries[i - 1])) {
          return false;
        }
        lists.add(entries);
      }
      return true;
    }

    int longest(int b) {
      return lists.subList(b * in.heads(), (b + 1) * in.heads()).stream()
          .mapToInt(x -> x.length)
          .max()
          .orElse(0);
    }

    private Set<Integer> blocksRead(int b) {
      Set<Integer> read = new TreeSet<>();
      for (int[] list : lists.subList(b * in.heads(), (b + 1) * in.heads())) {
        Arrays.stream(list).forEach(slot -> read.add(slot / in.source.shape.page()));
      }
      return read;
    }

    private boolean pagesFit() {
      Set<Integer> written = new HashSet<>();
      for (int b = 0; b < in.sequence.length; b++) {
        CacheShape to = in.destination.shape;
        Set<Integer> once = new TreeSet<>();
        if (in.source.blockTable != null) {
          Set<Integer> read = blocksRead(b);
          for (int block : read) {
            if (!exists(in.source, page(in.source, b, block))) {
              return false;
            }
          }
          if (in.inPlace) {
            once.addAll(read);
          }
        }
        if (in.destination.blockTable == null) {
          continue;
        }
        boolean whole = in.inPlace && in.c.given("length");
        int slots = whole ? in.length[b] : longest(b);
        IntStream.range(0, blocks(slots, to.page())).forEach(once::add);
        for (int block : once) {
          int page = page(in.destination, b, block);
          if (!exists(in.destination, page) || !written.add(page)) {
            return false;
          }
        }
      }
      return true;
    }

    private int page(CacheMemory cache, int b, int block) {
      return (int) cache.blockTable.integerAt(in.sequence[b] * cache.shape.blocks() + block);
    }

    private static boolean exists(CacheMemory cache, int page) {
      return page >= 0 && page < cache.shape.pages();
    }

    void move(CacheMemory to) {
      CacheMemory from = in.source;
      int group = to.shape.heads() / from.shape.heads();
      int dim = to.shape.dim();
      for (int b = 0; b < in.sequence.length; b++) {
        for (int h = 0; h < to.shape.heads(); h++) {
          int[] list = lists.get(b * in.heads() + (in.perHead ? h : 0));
          for (int i = 0; i < list.length; i++) {
            int a = from.shape.at(in.sequence[b], list[i], h / group);
            int z = to.shape.at(in.sequence[b], i, h);
            to.k.copyFrom(from.k, 0, a, 0, z, dim);
            to.v.copyFrom(from.v, 0, a, 0, z, dim);
          }
        }
      }
    }

    int[] freed() {
      int page = in.source.shape.page();
      return IntStream.range(0, in.sequence.length)
          .flatMap(
              b ->
                  IntStream.range(blocks(longest(b), page), blocks(in.length[b], page))
                      .map(block -> page(in.source, b, block)))
          .toArray();
    }
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void matchesOracle(CaseRow c) {
    Inputs in = new Inputs(c);
    CacheMemory expected = in.destination.copy();
    PlacedCache placed = PlacedCache.of(scope, in.destination);
    KvCache source =
        in.inPlace
            ? placed.described()
            : PlacedCache.described(
                in.source.shape.layout(),
                input(in.source.k),
                input(in.source.v),
                input(in.source.blockTable));
    boolean frees = c.given("freed");
    int room = !frees ? 0 : c.text("freed").equals("all") ? all(in) : c.int32("freed");
    Placed newLength = new Placed(scope, before(in.kept.length));
    Placed freed = new Placed(scope, before(room));
    Placed freedCount = new Placed(scope, before(1));
    boolean told = c.flag("new_length");
    KvCompact.Builder builder =
        source
            .compactTo(placed.described())
            .perHead(in.perHead)
            .sequence(c.given("sequence") ? input(ints(in.sequence, in.sequence.length)) : null)
            .length(c.given("length") ? input(ints(in.length, in.length.length)) : null)
            .newLength(told ? newLength.tensor() : null);
    if (in.offsets != null) {
      builder.packed(
          input(ints(in.list, in.list.length)), input(ints(in.offsets, in.offsets.length)));
    } else {
      builder.padded(
          input(ints(in.list, in.kept.length, in.width)), input(ints(in.count, in.count.length)));
    }
    if (frees) {
      builder.freed(freed.tensor(), freedCount.tensor());
    }
    KvCompact op = builder.build(scope);

    Plan plan = new Plan(in);
    boolean untouched = plan.refused && !Setup.cuda();
    if (untouched) {
      invalid(() -> op.run(), "kv_compact");
    } else if (in.inPlace || plan.refused) {
      runOnce(op);
    } else {
      run(op, placed.k(), placed.v(), newLength);
    }
    if (!plan.refused) {
      plan.move(expected);
    }
    assertEquals(expected.k.bytes, placed.k().read().bytes, "k");
    assertEquals(expected.v.bytes, placed.v().read().bytes, "v");
    HostTensor lengths = newLength.read();
    for (int g = 0; g < in.kept.length; g++) {
      long length = !told || untouched ? BEFORE : plan.refused ? -1 : plan.lists.get(g).length;
      assertEquals(length, lengths.integerAt(g), "new_length of list " + g);
    }
    int[] pages = !frees || plan.refused ? new int[0] : plan.freed();
    HostTensor returned = freed.read();
    for (int i = 0; i < room; i++) {
      long page = untouched ? BEFORE : i < pages.length ? pages[i] : -1;
      assertEquals(page, returned.integerAt(i), "freed " + i);
    }
    long count = !frees || untouched ? BEFORE : pages.length;
    assertEquals(count, freedCount.read().integerAt(0), "freed_count");
  }

  private static int all(Inputs in) {
    return in.sequence.length * in.source.shape.blocks();
  }

  private static HostTensor before(int size) {
    int[] values = new int[size];
    Arrays.fill(values, BEFORE);
    return ints(values, size);
  }

  private static HostTensor ints(int[] values, long... shape) {
    HostTensor t = HostTensor.of(DType.I32, shape);
    for (int i = 0; i < values.length; i++) {
      t.setInteger(i, values[i]);
    }
    return t;
  }
}
