// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.demo.exit;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class ExitPointsTest {
  @Test
  void theLastLayerIsAlwaysOne() {
    ExitPoints points = new ExitPoints(3, 4, 10);
    assertArrayEquals(
        new int[] {3, 7, 10}, IntStream.rangeClosed(0, 10).filter(points::contains).toArray());
    assertEquals(0, points.upTo(2));
    assertEquals(2, points.upTo(9));
    assertEquals(3, points.upTo(10));
  }
}
