// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import org.exeunt.BlockFormat;
import org.exeunt.jni.global.exeunt;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** A format has as many bytes as the library says, and refuses what that refuses. */
class BlockFormatTest {
  @ParameterizedTest
  @EnumSource(BlockFormat.class)
  void rowsHaveTheBytesOfTheLibrary(BlockFormat format) {
    for (long columns :
        new long[] {0, 32, 256, 4096, 1L << 52, -256, 1, 255, Long.MAX_VALUE - 255}) {
      long[] bytes = new long[1];
      if (exeunt.exn_blocks_row_bytes(format.tag(), columns, bytes) == exeunt.EXN_OK) {
        assertEquals(bytes[0], format.rowBytes(columns));
      } else {
        assertThrows(IllegalArgumentException.class, () -> format.rowBytes(columns));
      }
    }
  }
}
