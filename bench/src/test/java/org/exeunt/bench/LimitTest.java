// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.junit.jupiter.api.Test;

/** The limit passes through as much memory as the op, and does what it is said to do. */
class LimitTest {
  private static final long CACHE = 1 << 20;

  private static long distinct(Tensor[] parts) {
    return Arrays.stream(parts).mapToLong(Tensor::address).distinct().count();
  }

  @Test
  void readsFromMemoryTakeTheNextPartOfMoreThanThreeTimesTheCache() {
    try (Scope scope = Scope.open()) {
      Limit.Passes passes = new Limit.Passes(scope, 300_000, 0, CACHE, false);
      assertTrue(passes.round() > 3 * CACHE);
      assertEquals(passes.read.length, distinct(passes.read));
      assertEquals(passes.round(), passes.read.length * 300_000L);
      assertNotEquals(passes.read[0].address(), passes.read[1].address());
      assertNull(passes.from);
      for (int i = 0; i < 2 * passes.read.length; i++) {
        passes.next(false);
      }
    }
  }

  @Test
  void readsInCacheStayWhereTheyAre() {
    try (Scope scope = Scope.open()) {
      Limit.Passes passes = new Limit.Passes(scope, 300_000, 0, 0, false);
      assertEquals(1, passes.read.length);
      assertEquals(300_000, passes.round());
    }
  }

  @Test
  void oneCopyIsEnoughOfWhatIsThreeTimesTheCache() {
    try (Scope scope = Scope.open()) {
      assertEquals(1, new Limit.Passes(scope, 3 * CACHE, 0, CACHE, false).read.length);
    }
  }

  @Test
  void moves() {
    try (Scope scope = Scope.open()) {
      long moved = 200_000;
      for (boolean destinations : new boolean[] {true, false}) {
        Limit.Passes passes = new Limit.Passes(scope, 2 * moved + 40, moved, CACHE, destinations);
        assertEquals(1, passes.read.length);
        assertEquals(40, passes.read[0].byteSize());
        assertTrue(distinct(passes.from) * moved > 3 * CACHE);
        assertEquals(destinations ? passes.from.length : 1, distinct(passes.to));
        for (int i = 0; i < passes.from.length; i++) {
          byte[] bytes = new byte[(int) moved];
          Tensor to = passes.to[i % passes.to.length];
          to.byteBuffer().put(bytes);
          passes.next(i % 2 == 1);
          to.byteBuffer().get(bytes);
          byte[] expected = new byte[(int) moved];
          passes.from[i].byteBuffer().get(expected);
          assertArrayEquals(expected, bytes);
          assertNotEquals(0, expected[1]);
        }
      }
      assertNull(new Limit.Passes(scope, 2 * moved, moved, 0, false).read);
    }
  }
}
