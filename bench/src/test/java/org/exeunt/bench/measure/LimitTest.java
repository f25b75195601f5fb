// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.measure;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.Map;
import java.util.stream.Collectors;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.contenders.Problem;
import org.junit.jupiter.api.Test;

/** The limit passes through as much memory as the op, as fast as it can, in turns with it. */
class LimitTest {
  private static final long CACHE = 1 << 20;

  private static long distinct(Tensor[] parts) {
    return Arrays.stream(parts).mapToLong(Tensor::address).distinct().count();
  }

  @Test
  void readsFromMemoryTakeTheNextPartOfMoreThanThreeTimesTheCache() {
    try (Scope scope = Scope.open()) {
      Passes passes = new Passes(scope, 4096, 300_000, 0, CACHE, false);
      int count = passes.far.parts.length;
      assertTrue(passes.far.bytes() > 3 * CACHE);
      assertEquals(count, distinct(passes.far.parts));
      assertEquals(passes.round(), count * 300_000L + 4096);
      Tensor[] turns = new Tensor[2 * count];
      for (int i = 0; i < turns.length; i++) {
        turns[i] = passes.far.next();
      }
      assertEquals(count, distinct(Arrays.copyOf(turns, count)));
      assertEquals(turns[0], turns[count]);
      assertEquals(1, passes.near.parts.length);
      passes.choose().next();
    }
  }

  @Test
  void readsInCacheStayWhereTheyAre() {
    try (Scope scope = Scope.open()) {
      Passes passes = new Passes(scope, 300_000, 0, 0, CACHE, false);
      assertEquals(1, passes.near.parts.length);
      assertEquals(passes.near.next(), passes.near.next());
      assertEquals(300_000, passes.round());
      passes.choose().next();
    }
  }

  @Test
  void oneCopyIsEnoughOfWhatIsThreeTimesTheCache() {
    try (Scope scope = Scope.open()) {
      assertEquals(1, new Passes(scope, 0, 3 * CACHE, 0, CACHE, false).far.parts.length);
    }
  }

  @Test
  void moves() {
    try (Scope scope = Scope.open()) {
      int moved = 200_000;
      for (boolean destinations : new boolean[] {true, false}) {
        Passes passes = new Passes(scope, 40, 0, moved, CACHE, destinations);
        assertEquals(40, passes.near.parts[0].byteSize());
        assertEquals(0, passes.far.parts.length);
        assertTrue(distinct(passes.from.parts) * moved > 3 * CACHE);
        assertEquals(destinations ? passes.from.parts.length : 1, distinct(passes.to.parts));
        byte[] expected = new byte[moved];
        passes.from.parts[0].byteBuffer().get(expected);
        assertNotEquals(0, expected[1]);
        for (Tensor to : passes.to.parts) {
          to.byteBuffer().put(new byte[moved]);
        }
        passes.choose();
        for (int i = 0; i < passes.from.parts.length; i++) {
          passes.next();
        }
        for (Tensor to : passes.to.parts) {
          byte[] bytes = new byte[moved];
          to.byteBuffer().get(bytes);
          assertArrayEquals(expected, bytes);
        }
      }
    }
  }

  private static void take(long millis) {
    try {
      Thread.sleep(millis);
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    }
  }

  /** What goes before it is timed finds in the cache what another way has left there. */
  @Test
  void theFastestWayIsTaken() {
    int[] calls = new int[3];
    assertEquals(1, Passes.fastest(3, 4, way -> {
      boolean timed = calls[way]++ % 7 >= 4;
      take(way == 1 == timed ? 1 : 10);
    }));
    assertTrue(calls[0] >= 14 && calls[0] == calls[1] && calls[1] == calls[2]);
  }

  /** Runs of an op that takes its time. */
  private static final class Slow implements Contender {
    private final long millis;
    private int runs;

    Slow(long millis) {
      this.millis = millis;
    }

    @Override
    public Object run() {
      runs++;
      if (millis > 0) {
        take(millis);
      }
      return this;
    }
  }

  private static int runs(Turns turns, Slow op, int calls) {
    turns.begin();
    op.runs = 0;
    for (int i = 0; i < calls; i++) {
      turns.before();
      op.run();
      turns.after();
    }
    return op.runs - calls;
  }

  @Test
  void opAndLimitTakeTurns() {
    try (Problem problem = new Problem(Problem.find("linear", "model_576x1536_r1"))) {
      Slow slow = new Slow(2);
      try (Turns turns = new Turns(slow, problem, false, false)) {
        // In the cache the op goes untimed for 5 ms before each turn of as long.
        int more = runs(turns, slow, 20);
        assertTrue(more >= 3 && more <= 60, more + " runs");
        Map<String, Double> results = turns.results().stream().collect(
            Collectors.toMap(r -> r.getLabel(), r -> r.getScore()));
        assertEquals(problem.opened().bytes(), results.get(Limit.BYTES));
        assertEquals(576 * 1536, results.get(Limit.MULTIPLY_ADDS));
        assertTrue(results.get(Limit.FASTEST) > 0);
        assertTrue(results.get(Limit.MEDIAN) >= results.get(Limit.FASTEST));
        assertTrue(results.get(Limit.ARITHMETIC) > 0);
      }
      Slow quick = new Slow(0);
      try (Turns turns = new Turns(quick, problem, false, false)) {
        int before = runs(turns, quick, 1000);
        assertTrue(before >= 1 && before < 500, () -> before + " turns");
      }
      try (Turns turns = new Turns(slow, problem, true, false)) {
        int once = runs(turns, slow, 6);
        assertTrue(once >= 1 && once <= 6, once + " runs");
      }
    }
  }

  /** What an op writes, and what is small beside its weights, does not come from memory. */
  @Test
  void onlyWhatTheOpReadsFromMemoryDoes() {
    try (Problem problem = new Problem(Problem.find("stablemax", "bench_1x49152_softmax"));
        Turns turns = new Turns(new Slow(0), problem, true, false)) {
      assertEquals(4 * 49152, turns.passes.far.parts[0].byteSize());
      assertEquals(4 * 49152, turns.passes.near.bytes());
      assertTrue(turns.passes.far.bytes() > 3 * LastLevelCache.bytes());
    }
  }
}
